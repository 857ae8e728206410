"""Copy the training state to CPU memory that is kept from save to save; later steps do not change the copy.

New memory for each copy is what would cost: on an H100's host 1.4 GiB took 1.0 s that way, and 0.03 s this way. The
copy is queued behind the step: the GPU makes it before the next one, and the loop does not wait for it. A stream of
its own would spare the GPU those 0.03 s, and make the optimiser wait for it instead.
"""

import mmap
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy that may still be on its way from the GPU."""

    _contents: dict[str, Any]
    _span: tuple[torch.cuda.Event, torch.cuda.Event] | None
    """Before and after the GPU's copying."""

    def contents(self) -> dict[str, Any]:
        """The copied state, on the CPU; waits until it is there. It holds until the next one is taken."""
        if self._span is not None:
            self._span[1].synchronize()
        return self._contents

    def device_s(self) -> float | None:
        """How long the GPU copied, once `contents` has returned; None for a state that was on the CPU."""
        return None if self._span is None else self._span[0].elapsed_time(self._span[1]) / 1000


class SnapshotMemory:
    """Room for one copy; page-locked where a GPU is to copy into it."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._unlock: Callable[[], object] = _do_nothing

    def reserve(self, state: Mapping[str, Any]) -> None:
        """Make room for states like this one. No thread that launches kernels calls it: locking may fail.

        A lock that is refused is done without; CUDA then still reports it to the next launch of the same thread.

        Raises:
            OSError: there is no memory for it.
        """
        tensors = _tensors(state)
        size = sum(_room(tensor) for tensor in tensors)
        if size <= self._memory.numel():
            return
        self.release()
        self._memory = _own_pages(size)
        device = next((tensor.device for tensor in tensors if tensor.is_cuda), None)
        if device is not None and _lock(self._memory, device):
            self._unlock = weakref.finalize(self, _unlock, self._memory.data_ptr(), device)

    def take(self, state: Mapping[str, Any]) -> Snapshot:
        """Copy a state for which room is reserved, and return before the GPU has done so."""
        bytes_, used = self._memory.numpy(), 0

        def copied(tensor: Tensor) -> Tensor:
            nonlocal used
            begin, used = used, used + _room(tensor)
            # A tensor of its own: views of the whole memory would be saved, and loaded, as one.
            room = torch.from_numpy(bytes_[begin : begin + tensor.nbytes])
            return room.view(tensor.dtype).view(tensor.shape).copy_(tensor.detach(), non_blocking=True)

        span = None
        if any(tensor.is_cuda for tensor in _tensors(state)):
            span = _event(), _event()
            span[0].record()
        contents = _map_tensors(copied, dict(state))
        if span is not None:
            span[1].record()
        return Snapshot(contents, span)

    def release(self) -> None:
        """Give the memory back; nobody may still read a snapshot."""
        self._unlock()
        self._memory, self._unlock = torch.empty(0, dtype=torch.uint8), _do_nothing


def _own_pages(size: int) -> Tensor:
    """Memory that a forked child has no part in: copy-on-write would part what the GPU writes from what we read."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_DONTFORK"):  # on Linux
        pages.madvise(mmap.MADV_DONTFORK)
    return torch.frombuffer(pages, dtype=torch.uint8).zero_()  # touched: pages that exist are locked sooner


def _lock(memory: Tensor, device: torch.device) -> bool:
    """The device is the one that will copy: a new thread's is the first of the node, and would give memory for it."""
    try:
        with torch.cuda.device(device):
            torch.cuda.check_error(_cuda().cudaHostRegister(memory.data_ptr(), memory.numel(), 0))
    except RuntimeError:
        return False
    return True


def _unlock(address: int, device: torch.device) -> None:
    with torch.cuda.device(device):
        _cuda().cudaHostUnregister(address)


def _cuda() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(blocking=True, enable_timing=True)  # type: ignore[no-untyped-call]


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map_tensors(found.append, value)
    return found


def _map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same containers, with the function's results in place of tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(function, item) for item in value)
    return value


def _do_nothing() -> None:
    pass
