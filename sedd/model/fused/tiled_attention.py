"""Attention by our own kernels, in the instructions of a V100: tiled_*.cu; those for heads of 128 are apart."""

import ctypes
import functools
import math

import torch
from torch import Tensor

from sedd.model.fused import launch
from sedd.model.fused.launch import at
from sedd.model.nvrtc import KernelError, Module
from sedd.model.tiled_sizes import TILE, WIDEST_OF_FOUR_WARPS, count_tiles, has_kernels, heads_at_once

_THREADS = 128
_WIDE_SHARED = {"FORWARD_SHARED": 88576, "BACKWARD_SHARED": 89088}
"""Bytes of shared memory that these share, forward and backward; a V100 has 98304 for a block."""


def why_not_tiled(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the kernels cannot be used for a dtype on a GPU; None if they can. The first call compiles them."""
    if dtype != torch.float16:
        return f"it does not compute in {dtype}"
    return _why_not(device, torch.cuda.get_device_capability(device))


def is_written_for(head_dim: int, device: torch.device) -> bool:
    """Whether the kernels are for heads of this size, where they can be used at all."""
    return has_kernels(head_dim, torch.cuda.get_device_capability(device) if device.type == "cuda" else None)


@functools.cache
def _why_not(device: torch.device, capability: tuple[int, int]) -> str | None:
    if capability < (7, 0):
        return "it needs matrix units, compute capability 7.0"
    try:
        module = attention_module(device, WIDEST_OF_FOUR_WARPS)
        places = torch.full((32, 8), -1.0, device=device)
        module.launch("layout", (1, 1), 32, at(places))
    except KernelError as e:
        return str(e)
    if not _is_known(places.int().tolist()):
        return "this card holds matrices in another way than the kernels expect"
    return None


def _is_known(places: list[list[int]]) -> bool:
    """Whether entries of 16 x 16 sums lie in the lanes of a warp as matrix_units.cu wants it."""
    rows = [[place // 16 for place in lane] for lane in places]
    columns = [[place % 16 for place in lane] for lane in places]
    entries = range(8)
    are_regular = all(
        row == [row[entry & 2] for entry in entries]
        and column == [column[entry & 4] + (entry & 1) for entry in entries]
        and column[0] % 2 == column[4] % 2 == 0
        for row, column in zip(rows, columns, strict=True)
    )
    bits = [bit for bit in (1, 2, 4, 8, 16) if rows[bit] == rows[0]]
    are_mates = all(rows[lane ^ bit] == rows[lane] for bit in bits for lane in range(32))
    is_whole = sorted(place for lane in places for place in lane) == list(range(256))
    return are_regular and len(bits) == 2 and are_mates and is_whole


def tiled_forward(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int, *, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    """Output [tokens, heads, head_dim] and [the logarithm, to base 2, of each query's sum: [heads, tokens]].

    Raises: TypeError for anything but float16.
    """
    if q.dtype != torch.float16:
        raise TypeError(f"tiled attention computes in float16, not in {q.dtype}")
    (tokens, heads, head_dim), (q, k, v) = q.shape, _alike(q, k, v)
    output = q.new_empty(tokens, heads, head_dim)
    logsumexp = q.new_empty(heads, tokens, dtype=torch.float32)
    is_wide = head_dim > WIDEST_OF_FOUR_WARPS
    tile = 2 * TILE if is_wide else TILE
    sequences, tiles = cu_seqlens.numel() - 1, _up(min(max_length, tokens), tile)
    if tokens:
        attention_module(q.device, head_dim).launch(
            "attend", (heads * tiles * sequences, 1), 2 * _THREADS if is_wide else _THREADS,
            at(q), at(k), at(v), ctypes.c_int(q.stride(0)), at(cu_seqlens), ctypes.c_int(tokens),
            ctypes.c_int(heads), ctypes.c_int(tiles), ctypes.c_float(math.log2(math.e) * head_dim**-0.5),
            at(output), at(logsumexp),
            shared=_WIDE_SHARED["FORWARD_SHARED"] if is_wide else 0,
        )  # fmt: skip
    return output, [logsumexp]


def tiled_backward(
    d_output: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    cu_seqlens: Tensor,
    max_length: int,
    kept: list[Tensor],
    turn: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of q, k and v, side by side for each token; those of q and k turned back by `turn`, if given."""
    (tokens, heads, head_dim), (q, k, v) = q.shape, _alike(q, k, v)
    if tokens and head_dim > WIDEST_OF_FOUR_WARPS:
        d_output = d_output.contiguous()
        return _wide_backward(d_output, q, k, v, output, cu_seqlens, max_length, kept[0], turn)
    gradients = q.new_empty(tokens, 3, heads, head_dim)
    d_q, d_k, d_v = gradients.unbind(1)
    if not tokens:
        return d_q, d_k, d_v
    sequences, tiles = cu_seqlens.numel() - 1, count_tiles(tokens, max_length)
    cosine, sine = turn or (None, None)
    deltas = q.new_empty(heads, tokens, dtype=torch.float32)
    module, number, blocks = (
        attention_module(q.device, head_dim),
        ctypes.c_int,
        (heads * tiles * sequences, 1),
    )
    scales = ctypes.c_float(math.log2(math.e) * head_dim**-0.5), ctypes.c_float(head_dim**-0.5)
    given = at(q), at(k), at(v), number(q.stride(0))
    sizes = at(cu_seqlens), number(tokens), number(heads), number(tiles), *scales, at(cosine), at(sine)
    d_output, d_stride = d_output.contiguous(), number(3 * heads * head_dim)
    module.launch(
        "attend_backward_q", blocks, _THREADS,
        *given, at(output), at(d_output), at(kept[0]), *sizes, at(deltas), at(d_q), d_stride,
    )  # fmt: skip
    module.launch(
        "attend_backward_kv", blocks, _THREADS,
        *given, at(d_output), at(kept[0]), *sizes, at(deltas), at(d_k), at(d_v), d_stride,
    )  # fmt: skip
    return d_q, d_k, d_v


def _wide_backward(
    d_output: Tensor, q: Tensor, k: Tensor, v: Tensor, output: Tensor, cu_seqlens: Tensor, max_length: int,
    logsumexp: Tensor, turn: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """As tiled_backward, some heads at a time: gradients of their scores are kept between two kernels.

    So the queries take one product of matrices instead of three.
    """
    tokens, heads, head_dim = q.shape
    gradients = q.new_empty(tokens, 3, heads, head_dim)
    d_q, d_k, d_v = gradients.unbind(1)
    sequences, tiles = cu_seqlens.numel() - 1, count_tiles(tokens, max_length)
    cosine, sine = turn or (None, None)
    deltas = q.new_empty(heads, tokens, dtype=torch.float32)
    module, number, d_stride = (
        attention_module(q.device, head_dim),
        ctypes.c_int,
        ctypes.c_int(3 * heads * head_dim),
    )
    module.launch(
        "find_all_deltas", (heads * _up(tokens, TILE), 1), _THREADS,
        at(output), at(d_output), number(tokens), number(heads), at(deltas),
    )  # fmt: skip
    at_once = heads_at_once(tokens, max_length, heads)
    d_scores = q.new_empty(at_once, tokens, tiles * TILE)
    scale = ctypes.c_float(head_dim**-0.5)
    for first in range(0, heads, at_once):
        some = min(at_once, heads - first)
        blocks, which = (some * tiles * sequences, 1), (number(first), number(some))
        module.launch(
            "attend_backward_kv", blocks, 2 * _THREADS,
            at(q), at(k), at(v), number(q.stride(0)), at(d_output), at(logsumexp), at(cu_seqlens),
            number(tokens), number(heads), number(tiles), ctypes.c_float(math.log2(math.e) * head_dim**-0.5),
            scale, at(cosine), at(sine), at(deltas), at(d_k), at(d_v), d_stride, *which, at(d_scores),
            shared=_WIDE_SHARED["BACKWARD_SHARED"],
        )  # fmt: skip
        module.launch(
            "attend_backward_scores", blocks, _THREADS,
            at(k), number(k.stride(0)), at(d_scores), at(cu_seqlens), number(tokens), number(tiles), scale,
            at(cosine), at(sine), at(d_q), d_stride, *which,
        )  # fmt: skip
    return d_q, d_k, d_v


def attention_module(device: torch.device, head_dim: int) -> Module:
    """The kernels for heads of a size."""
    return launch.module(device, attention_source(head_dim), attention_definitions(head_dim))


def attention_source(head_dim: int) -> str:
    """Which of launch.SOURCES is for heads of a size."""
    return "attention" if head_dim <= WIDEST_OF_FOUR_WARPS else "wide attention"


@functools.cache
def attention_definitions(head_dim: int) -> launch.Definitions:
    """What the sources are told."""
    usual = ("IN", 1), ("OUT", 1), ("HEAD_DIM", head_dim)
    return usual if head_dim <= WIDEST_OF_FOUR_WARPS else (*usual, *_WIDE_SHARED.items())


def _alike(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors [tokens, heads, head_dim] whose tokens lie equally far apart and whose heads lie side by side."""
    head_dim = tensors[0].shape[-1]
    strides = {tensor.stride() for tensor in tensors}
    is_dense = len(strides) == 1 and next(iter(strides))[1:] == (head_dim, 1)
    if is_dense and tensors[0].stride(0) % 8 == 0 and all(x.data_ptr() % 16 == 0 for x in tensors):
        return tensors
    return tuple(tensor.contiguous() for tensor in tensors)


def _up(number: int, unit: int) -> int:
    return -(-number // unit)
