"""Compile our own kernels for the card at hand and launch them: the sources beside this file, by `SOURCES`."""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from sedd.model.nvrtc import KernelError, Module, compile_cubin, compile_ptx
from sedd.spec.model import neighbour_columns

ROWS = 16
"""Tokens of a tile, where no sum goes through many."""
_THREADS_AT_ONCE = 1152
"""Of a multiprocessor, where the norm's gradients take 56 registers a thread."""
FORMATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_WIDEST = 4096  # four columns a thread, and no more threads in a block

_TILES = ("formats.cu", "matrix_units.cu", "tiles.cu", "tiled_softmax.cu", "tiled_gradients.cu")
SOURCES = {
    "block": ("formats.cu", "norm.cu", "rotate.cu", "mlp.cu", "modulation.cu"),
    "attention": (*_TILES, "tiled_forward.cu", "tiled_backward.cu", "tiled_backward_keys.cu"),
    "wide attention": (
        *_TILES,
        *("tiled_wide.cu", "tiled_forward_wide.cu", "tiled_backward_wide.cu", "tiled_backward_scores.cu"),
    ),
    "optimizer": ("formats.cu", "adamw.cu"),
}
"""What is compiled together."""
Definitions = tuple[tuple[str, int], ...]


def why_not(device: torch.device, dtype: torch.dtype, hidden: int) -> str | None:
    """Why the kernels cannot be used for activations of a dtype and rows of a width; None if they can."""
    if device.type != "cuda":
        return f"they are for GPUs, not for {device.type}"
    if dtype not in FORMATS:
        return f"they do not compute in {dtype}"
    if hidden % 8 or hidden > _WIDEST:
        return f"hidden {hidden} is not a multiple of 8 up to {_WIDEST}"
    try:
        block_module(device, hidden, dtype, dtype)
    except KernelError as e:
        return str(e)
    return None


def block_module(device: torch.device, hidden: int, enters: torch.dtype, leaves: torch.dtype) -> Module:
    """The kernels of a block for rows of a width; number formats of what comes from a branch and of what leaves."""
    return module(device, "block", block_definitions(hidden, enters, leaves))


@functools.cache
def block_definitions(hidden: int, enters: torch.dtype, leaves: torch.dtype) -> Definitions:
    """What the sources of a block are told."""
    threads = norm_threads(hidden)
    return (
        ("HIDDEN", hidden),
        ("THREADS", threads),
        ("ROWS", ROWS),
        ("BLOCKS", norm_blocks(threads)),
        ("SHIFTED", neighbour_columns(hidden)),
        ("IN", FORMATS[enters]),
        ("OUT", FORMATS[leaves]),
    )


OPTIMIZER: Definitions = (("IN", 0), ("OUT", 0))
"""What the sources of the optimiser are told."""


def optimizer_module(device: torch.device) -> Module:
    """The kernels of the optimiser's step, which are the same for all networks."""
    return module(device, "optimizer", OPTIMIZER)


_portable: tuple[int, int] | None = None


def use_instructions_of(capability: tuple[int, int] | None) -> None:
    """From now on run the kernels in an older card's instructions, as PTX; None: in those of the card at hand.

    What runs so uses nothing that the older card lacks.
    """
    global _portable
    _portable = capability
    module.cache_clear()


@functools.cache
def module(device: torch.device, which: str, definitions: Definitions) -> Module:
    """Sources, compiled for a device and loaded there. Raises: KernelError."""
    if _portable is not None:
        return Module(compiled_ptx(_portable, which, definitions), device)
    return Module(compiled(torch.cuda.get_device_capability(device), which, definitions), device)


@functools.cache
def compiled(capability: tuple[int, int], which: str, definitions: Definitions) -> bytes:
    """Machine code of sources for a compute capability. Raises: KernelError."""
    return compile_cubin(source(which), capability, dict(definitions))


@functools.cache
def compiled_ptx(capability: tuple[int, int], which: str, definitions: Definitions) -> bytes:
    """PTX of sources in the instructions of a compute capability. Raises: KernelError."""
    return compile_ptx(source(which), capability, dict(definitions))


def source(which: str) -> str:
    """The text that is compiled."""
    texts = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in SOURCES[which])
    return "\n".join(texts)


def at(tensor: Tensor | None) -> ctypes.c_void_p:
    """A tensor as a kernel's argument; None: null."""
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)


def norm_threads(hidden: int) -> int:
    """Threads of a block that goes through rows, four columns each."""
    return -(-hidden // 128) * 32


def norm_blocks(threads: int) -> int:
    """Such blocks that a multiprocessor holds at once."""
    return max(1, _THREADS_AT_ONCE // threads)


def tile_rows(x: Tensor, blocks: int, columns: int = 1) -> int:
    """Rows of a tile where each multiprocessor holds this many blocks, `columns` a tile: all work at once."""
    tiles = max(1, blocks * _multiprocessors(x.device) // columns)
    return max(1, -(-x.shape[0] // tiles))


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
