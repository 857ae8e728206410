"""The fused kernels of kernels.cu as autograd functions: each tensor is read and written once.

Left to single operators of torch, the passes over memory of modulation, norm, gate, dropout and rotation take longer
than the matrix products and attention together. `torch.compile` would join them, where Triton supports the card.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sedd.model.attention import PAIRS
from sedd.model.nvrtc import KernelError, Module, compile_cubin, compile_ptx
from sedd.model.packing import Packing

_EPSILON = 1e-5
_ROWS = 16
_THREADS_AT_ONCE = 1024
"""Of a multiprocessor, where the gradients' kernels take 64 registers a thread."""
_FORMATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_WIDEST = 4096  # four columns a thread, and no more threads in a block


def why_not(device: torch.device, dtype: torch.dtype, hidden: int) -> str | None:
    """Why the kernels cannot be used for activations of a dtype and rows of a width; None if they can."""
    if device.type != "cuda":
        return f"they are for GPUs, not for {device.type}"
    if dtype not in _FORMATS:
        return f"they do not compute in {dtype}"
    if hidden % 8 or hidden > _WIDEST:
        return f"hidden {hidden} is not a multiple of 8 up to {_WIDEST}"
    try:
        _module(device, hidden, dtype, dtype)
    except KernelError as e:
        return str(e)
    return None


def norm_modulate(
    x: Float[Tensor, "tokens hidden"],
    factor: Float[Tensor, "sequences hidden"],
    shift: Float[Tensor, "sequences hidden"],
    packing: Packing,
) -> Float[Tensor, "tokens hidden"]:
    """layer_norm(x) factor + shift with the rows of each token's sequence, in shift's dtype."""
    rows = _rows(factor), _rows(shift)
    y: Tensor = _GatedNorm.apply(x, None, None, *rows, packing, 0, shift.dtype)[1]  # type: ignore[no-untyped-call] # torch
    return y


def gated_norm(
    x: Float[Tensor, "tokens hidden"],
    branch: Float[Tensor, "tokens hidden"],
    gate: Float[Tensor, "sequences hidden"],
    factor: Float[Tensor, "sequences hidden"],
    shift: Float[Tensor, "sequences hidden"],
    packing: Packing,
    place: int,
) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "tokens hidden"]]:
    """x + gate dropout(branch), and `norm_modulate` of it. `place` tells this dropout from the network's others."""
    both: tuple[Tensor, Tensor] = _GatedNorm.apply(  # type: ignore[no-untyped-call] # torch
        x, branch, _rows(gate), _rows(factor), _rows(shift), packing, place, shift.dtype
    )
    return both


def rotate_(
    qkv: Float[Tensor, "tokens three_hidden"], cosine: Tensor, sine: Tensor, heads: int, *, back: bool = False
) -> None:
    """Turn queries and keys of [tokens, 3, heads, head_dim] by each token's angles, in place; `back` undoes it."""
    q, k, _ = qkv.view(qkv.shape[0], 3, -1).unbind(1)
    _rotate(q, k, None, (cosine, sine), heads, -1.0 if back else 1.0, qkv)


def turned_back(
    d_q: Tensor, d_k: Tensor, d_v: Tensor, turn: tuple[Tensor, Tensor]
) -> Float[Tensor, "tokens three_hidden"]:
    """Gradients [tokens, heads, head_dim] of turned queries and keys and of values: of the three side by side.

    In place where they lie side by side already.
    """
    tokens, heads, head_dim = d_q.shape
    width = heads * head_dim
    if d_q.stride(0) == 3 * width:
        joined = d_q.as_strided((tokens, 3 * width), (3 * width, 1))
        rotate_(joined, *turn, heads, back=True)
        return joined
    joined = d_q.new_empty(tokens, 3 * width)
    d_q, d_k, d_v = (each.contiguous() for each in (d_q, d_k, d_v))
    _rotate(d_q, d_k, d_v, turn, heads, -1.0, joined)
    return joined


def _rotate(
    q: Tensor, k: Tensor, v: Tensor | None, turn: tuple[Tensor, Tensor], heads: int, way: float, qkv: Tensor
) -> None:
    (cosine, sine), tokens = turn, qkv.shape[0]
    half = cosine.shape[-1]
    module = _module(qkv.device, qkv.shape[1] // 3, qkv.dtype, qkv.dtype)
    threads = tokens * (2 if v is None else 3) * heads * (half // 4)
    module.launch(
        "rotate", (-(-threads // 256), 1), 256,
        _at(q), _at(k), _at(v), ctypes.c_int(q.stride(0)), _at(cosine), _at(sine),
        ctypes.c_int(tokens), ctypes.c_int(heads), ctypes.c_int(half), ctypes.c_float(way), _at(qkv),
    )  # fmt: skip


def rotated_attention(
    qkv: Float[Tensor, "tokens three_hidden"],
    turn: tuple[Tensor, Tensor],
    heads: int,
    packing: Packing,
    implementation: str,
) -> Float[Tensor, "tokens hidden"]:
    """Attention of [queries, keys, values] side by side, rotated first. `qkv` is consumed: it is rotated in place."""
    mixed: Tensor = _RotatedAttention.apply(qkv, *turn, heads, packing, implementation)  # type: ignore[no-untyped-call] # torch
    return mixed


def gelu_mlp(
    x: Float[Tensor, "tokens hidden"], up: nn.Linear, down: nn.Linear
) -> Float[Tensor, "tokens hidden"]:
    """down(gelu(up(x))) in x's dtype, with GELU's tanh form; weights are cast to it."""
    y: Tensor = _GeluMlp.apply(x, up.weight, up.bias, down.weight, down.bias)  # type: ignore[no-untyped-call] # torch
    return y


class _GeluMlp(torch.autograd.Function):
    """GELU's gradient and its columns' sums, the gradient of the bias before it, are one pass over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
        up, up_bias, down, down_bias = (each.to(x.dtype) for each in (up, up_bias, down, down_bias))
        inner = torch.addmm(up_bias, x, up.t()).contiguous()  # on a CPU it may be laid out by columns
        y = torch.empty_like(inner) if any(ctx.needs_input_grad) else inner
        module = _module(x.device, x.shape[1], x.dtype, x.dtype)
        module.launch(
            "gelu_forward", (-(-inner.numel() // 2048), 1), 256,
            _at(inner), ctypes.c_uint64(inner.numel()), _at(y),
        )  # fmt: skip
        ctx.save_for_backward(x, inner, y, up, down)
        return torch.addmm(down_bias, y, down.t())

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, ...]:
        x, inner, y, up, down = ctx.saved_tensors
        d_output = d_output.contiguous()
        d_down, d_down_bias = d_output.t() @ y, _column_sums(d_output)
        d_y = (d_output @ down).contiguous()
        (length, width), (tiles, columns), threads, rows = inner.shape, *_column_blocks(inner)
        parts = inner.new_empty(tiles, width, dtype=torch.float32)
        d_inner = torch.empty_like(inner)
        module = _module(x.device, x.shape[1], x.dtype, x.dtype)
        module.launch(
            "gelu_backward", (tiles, columns), threads,
            _at(d_y), _at(inner), ctypes.c_int(length), ctypes.c_int(width), ctypes.c_int(rows),
            _at(d_inner), _at(parts),
        )  # fmt: skip
        return d_inner @ up, d_inner.t() @ x, parts.sum(0), d_down, d_down_bias


def _column_sums(x: Tensor) -> Tensor:
    """The sum over rows, float32: in a third of the time that torch's takes for many rows of a half-precision type."""
    grid, threads, rows = _column_blocks(x)
    parts = x.new_empty(grid[0], x.shape[1], dtype=torch.float32)
    module = _module(x.device, x.shape[1], x.dtype, x.dtype)
    module.launch(
        "column_sums", grid, threads,
        _at(x), ctypes.c_int(x.shape[0]), ctypes.c_int(x.shape[1]), ctypes.c_int(rows), _at(parts),
    )  # fmt: skip
    return parts.sum(0)


def _column_blocks(x: Tensor) -> tuple[tuple[int, int], int, int]:
    """Grid, threads and rows of a tile, where a thread goes down eight columns."""
    rows, width = x.shape
    threads = min(128, -(-width // 8))
    columns = -(-width // (8 * threads))
    tile = _tile_rows(x, _blocks(threads), columns)
    return (-(-rows // tile), columns), threads, tile


class _RotatedAttention(torch.autograd.Function):
    """Queries, keys and values are never copied apart, nor are their gradients put together from parts."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int, packing: Packing, implementation: str
    ) -> Tensor:
        rotate_(qkv, cosine, sine, heads)
        q, k, v = qkv.view(qkv.shape[0], 3, heads, -1).unbind(1)
        output, kept = PAIRS[implementation].forward(
            q, k, v, packing.cu_seqlens, packing.max_length, keep=any(ctx.needs_input_grad)
        )
        ctx.save_for_backward(qkv, output, packing.cu_seqlens, cosine, sine, *kept)
        ctx.heads, ctx.max_length, ctx.implementation = heads, packing.max_length, implementation
        return output.flatten(1)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        qkv, output, cu_seqlens, cosine, sine, *kept = ctx.saved_tensors
        q, k, v = qkv.view(qkv.shape[0], 3, ctx.heads, -1).unbind(1)
        d_q, d_k, d_v = PAIRS[ctx.implementation].backward(
            d_output.reshape(output.shape), q, k, v, output, cu_seqlens, ctx.max_length, kept
        )
        d_qkv = turned_back(d_q, d_k, d_v, (cosine, sine))
        return d_qkv, None, None, None, None, None


class _GatedNorm(torch.autograd.Function):
    """Without a branch: the norm alone, and x itself in place of the sum."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor | None,
        gate: Tensor | None,
        factor: Tensor,
        shift: Tensor,
        packing: Packing,
        place: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor | None, Tensor]:
        length, hidden = x.shape
        module = _module(x.device, hidden, branch.dtype if branch is not None else dtype, dtype)
        x_out = torch.empty_like(x) if branch is not None else x
        y = torch.empty_like(x, dtype=dtype)
        mean, rstd = x.new_empty(length), x.new_empty(length)
        module.launch(
            "gated_norm_forward", (-(-length // _ROWS), 1), _threads(hidden),
            _at(x), _at(branch), _at(gate), _at(factor), _at(shift),
            _at(packing.sequence), ctypes.c_int(length), *_dropout(packing, place), ctypes.c_float(_EPSILON),
            _at(x_out), _at(y), _at(mean), _at(rstd),
        )  # fmt: skip
        ctx.save_for_backward(x_out, branch, gate, factor, mean, rstd)
        ctx.packing, ctx.place, ctx.dtype = packing, place, dtype
        ctx.set_materialize_grads(False)
        return (x_out if branch is not None else None), y

    @staticmethod
    def backward(ctx: Any, d_x_out: Tensor | None, d_y: Tensor | None) -> tuple[Tensor | None, ...]:
        x_out, branch, gate, factor, mean, rstd = ctx.saved_tensors
        length, hidden = x_out.shape
        cu_seqlens = ctx.packing.cu_seqlens
        sequences = cu_seqlens.numel() - 1
        module = _module(x_out.device, hidden, branch.dtype if branch is not None else ctx.dtype, ctx.dtype)
        d_x = torch.empty_like(x_out)
        d_branch = torch.empty_like(branch) if branch is not None else None
        threads = _threads(hidden)
        rows = _tile_rows(x_out, _blocks(threads))
        tiles = -(-length // rows)
        parts = x_out.new_empty(tiles + sequences, 3, hidden)
        sums = x_out.new_empty(sequences, 3, hidden)
        d_x_out = d_x_out.contiguous() if d_x_out is not None else None
        d_y = d_y.contiguous() if d_y is not None else None
        module.launch(
            "gated_norm_backward", (tiles, 1), threads,
            _at(d_x_out), _at(d_y), _at(x_out), _at(mean), _at(rstd), _at(factor), _at(branch), _at(gate),
            _at(ctx.packing.sequence), ctypes.c_int(length), ctypes.c_int(rows), *_dropout(ctx.packing, ctx.place),
            _at(d_x), _at(d_branch), _at(parts),
        )  # fmt: skip
        module.launch(
            "sum_slots", (sequences, -(-3 * hidden // 128)), 128,
            _at(parts), _at(cu_seqlens), ctypes.c_int(rows), _at(sums),
        )  # fmt: skip
        d_gate, d_factor, d_shift = sums.unbind(1)
        return d_x, d_branch, d_gate if branch is not None else None, d_factor, d_shift, None, None, None


def _dropout(
    packing: Packing, place: int
) -> tuple[ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_float]:
    threshold = round(packing.dropout * 2**32)
    scale = 1 / (1 - packing.dropout)
    return (
        _at(packing.seed),
        ctypes.c_uint32(place),
        ctypes.c_uint32(threshold),
        ctypes.c_float(scale),
    )


def _rows(x: Tensor) -> Tensor:
    # Often a part of wider rows: the kernels know no strides.
    return x.float().contiguous()


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)


def _threads(hidden: int) -> int:
    return -(-hidden // 128) * 32


def _blocks(threads: int) -> int:
    return max(1, _THREADS_AT_ONCE // threads)


def _tile_rows(x: Tensor, blocks: int, columns: int = 1) -> int:
    """Rows of a tile where each multiprocessor holds so many blocks, `columns` a tile: all work at once."""
    tiles = max(1, blocks * _multiprocessors(x.device) // columns)
    return max(1, -(-x.shape[0] // tiles))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


_portable: tuple[int, int] | None = None


def use_instructions_of(capability: tuple[int, int] | None) -> None:
    """From now on run the kernels in an older card's instructions, as PTX; None: in those of the card at hand.

    What runs so uses nothing that the older card lacks.
    """
    global _portable
    _portable = capability
    _module.cache_clear()


@functools.cache
def _module(device: torch.device, hidden: int, enters: torch.dtype, leaves: torch.dtype) -> Module:
    found = tuple(defines(hidden, enters, leaves).items())
    if _portable is not None:
        return Module(compiled_ptx(_portable, found), device)
    return Module(compiled(torch.cuda.get_device_capability(device), found), device)


def defines(hidden: int, enters: torch.dtype, leaves: torch.dtype) -> dict[str, int]:
    """What kernels.cu is told: the width of a row, number formats of what comes from a branch and of what leaves."""
    formats = {"IN": _FORMATS[enters], "OUT": _FORMATS[leaves]}
    return {
        "HIDDEN": hidden,
        "THREADS": _threads(hidden),
        "ROWS": _ROWS,
        "BLOCKS": _blocks(_threads(hidden)),
    } | formats


@functools.cache
def compiled(capability: tuple[int, int], definitions: tuple[tuple[str, int], ...]) -> bytes:
    """Machine code of kernels.cu for a compute capability. Raises: KernelError."""
    return compile_cubin(_source(), capability, dict(definitions))


@functools.cache
def compiled_ptx(capability: tuple[int, int], definitions: tuple[tuple[str, int], ...]) -> bytes:
    """PTX of kernels.cu in the instructions of a compute capability. Raises: KernelError."""
    return compile_ptx(_source(), capability, dict(definitions))


def _source() -> str:
    return Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")
