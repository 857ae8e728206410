"""The MLP, with GELU's gradient and that of the bias before it in one pass over memory: mlp.cu."""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sedd.model.fused.launch import at, block_module, tile_rows
from sedd.model.nvrtc import Module

_THREADS_AT_ONCE = 1024
"""Of a multiprocessor, where these kernels take 64 registers a thread."""


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
        module = block_module(x.device, x.shape[1], x.dtype, x.dtype)
        module.launch(
            "gelu_forward", (-(-inner.numel() // 2048), 1), 256,
            at(inner), ctypes.c_uint64(inner.numel()), at(y),
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
        module = block_module(x.device, x.shape[1], x.dtype, x.dtype)
        module.launch(
            "gelu_backward", (tiles, columns), threads,
            at(d_y), at(inner), ctypes.c_int(length), ctypes.c_int(width), ctypes.c_int(rows),
            at(d_inner), at(parts),
        )  # fmt: skip
        return d_inner @ up, d_inner.t() @ x, _summed(parts, module), d_down, d_down_bias


def _column_sums(x: Tensor) -> Tensor:
    """The sum over rows, float32: in a third of the time that torch's takes for many rows of a half-precision type."""
    grid, threads, rows = _column_blocks(x)
    parts = x.new_empty(grid[0], x.shape[1], dtype=torch.float32)
    module = block_module(x.device, x.shape[1], x.dtype, x.dtype)
    module.launch(
        "column_sums", grid, threads,
        at(x), ctypes.c_int(x.shape[0]), ctypes.c_int(x.shape[1]), ctypes.c_int(rows), at(parts),
    )  # fmt: skip
    return _summed(parts, module)


def _summed(parts: Tensor, module: Module) -> Tensor:
    """The sum over tiles."""
    tiles, width = parts.shape
    sums = parts.new_empty(width)
    module.launch(
        "sum_tiles", (-(-width // 32), 1), 256, at(parts), ctypes.c_int(tiles), ctypes.c_int(width), at(sums)
    )
    return sums


def _column_blocks(x: Tensor) -> tuple[tuple[int, int], int, int]:
    """Grid, threads and rows of a tile, where a thread goes down eight columns."""
    rows, width = x.shape
    threads = min(128, -(-width // 8))
    columns = -(-width // (8 * threads))
    tile = tile_rows(x, _THREADS_AT_ONCE // threads, columns)
    return (-(-rows // tile), columns), threads, tile
