"""CUDA graphs: what a function launches, recorded once and replayed as one launch, with the same bits.

A host takes 30 to 50 microseconds to launch a kernel through Python: for a network's thousand longer than a fast card
needs to compute them.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_FROM = (8, 0)


@runtime_checkable
class Recording(Protocol):
    """Work on the device that can be done again, on what lies in the same places then."""

    def replay(self) -> None: ...


Record = Callable[[Callable[[], None]], Recording]
"""Records what a function launches, without doing it."""


def is_worth_recording(device: torch.device) -> bool:
    """Where cards wait for their host. On a V100 the host waits for the card, and a graph would only take memory."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FROM


class CudaRecorder:
    """Records CUDA graphs, all in the same memory: they are replayed one after the other."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Recording:
        rehearse(work)
        graph = torch.cuda.CUDAGraph()
        # A stream of the current device, as torch's own would stay on the first that recorded. thread_local: the thread
        # that loads batches may pin memory meanwhile.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch
        recording = torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local")
        with _garbage_kept(), recording:
            work()
        return graph


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """No garbage collection meanwhile: to free an earlier graph makes what is being recorded invalid."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def rehearse(work: Callable[[], None]) -> None:
    """Work by single launches: libraries make their choices and workspaces, which a recording cannot."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a graph has memory of its own


class Replayed:
    """A function of tensors on one device, recorded at its first call; the shapes must stay those of that call.

    It must be a function of its arguments' values alone, and wait for nothing. What it returns lies where the next call
    writes.
    """

    def __init__(self, function: Callable[..., Tensor], record: Record | None = None) -> None:
        self._function = function
        self._record = record
        self._recording: Recording | None = None
        self._places: tuple[Tensor, ...] = ()
        self._result: Tensor | None = None

    def __call__(self, *values: Tensor) -> Tensor:
        if self._recording is None:
            self._places = tuple(value.clone() for value in values)
            record = self._record if self._record is not None else CudaRecorder()
            self._recording = record(self._work)
        for place, value in zip(self._places, values, strict=True):
            place.copy_(value)
        self._recording.replay()
        assert self._result is not None
        return self._result

    def _work(self) -> None:
        result = self._function(*self._places)
        if self._result is None:
            self._result = torch.empty_like(result)
        self._result.copy_(result)
