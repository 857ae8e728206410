"""How long this rank itself takes for a step, without waiting for others: it tells a slow rank from waiting ones.

In synchronous training all ranks' steps last equally long, since all wait for the slowest in the exchange of gradients.
So a rank's own time of a step is its wait for data, and what passes from the agreement at the step's beginning until
its last gradient is computed: on a CPU by the host's clock; on a GPU by the GPU's (events before the step's first
kernel and behind its last gradient), hence with the pauses in which its host is late with the next kernel.
"""

import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")

WINDOW = 25
"""Steps of which a rank tells the others the median, so that a hiccup of one step does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTime:
    """Medians over a window of steps, in seconds."""

    data_s: float
    """The wait for the next batches."""
    host_s: float
    """From the agreement to the last gradient; on a GPU until its kernels are queued."""
    device_s: float | None
    """The same by the GPU's clock; None on a CPU."""

    @property
    def step_s(self) -> float:
        """What this rank takes for a step without waiting for others."""
        return self.data_s + (self.host_s if self.device_s is None else self.device_s)


class StepClock:
    """Times the steps of one rank: `feed` around the batches, then `begin` and `computed` in each step."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._data: list[float] = []
        self._host: list[float] = []
        self._device: list[float] = []
        self._began = self._last = 0.0
        self._started: Any = None
        self._finished: Any = None
        self._running: deque[tuple[Any, Any]] = deque()

    def feed(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; how long each is waited for is noted."""
        iterator = iter(batches)
        while True:
            began = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._data.append(time.perf_counter() - began)
            yield batch

    def begin(self) -> None:
        """All ranks are here: the step begins."""
        self._began = time.perf_counter()
        self._started = self._event()

    def computed(self) -> None:
        """This rank's gradient is computed, and may wait for others'; a later call in the step replaces this."""
        self._last = time.perf_counter() - self._began
        self._finished = self._event()

    def end(self) -> None:
        """The step is over; its time counts."""
        self._host.append(self._last)
        if self._is_cuda:
            self._running.append((self._started, self._finished))

    def is_full(self) -> bool:
        """Whether a window of steps has passed since `take`: on all ranks at the same step."""
        return len(self._host) >= WINDOW

    def take(self) -> OwnTime:
        """The medians of the window; a new one begins. Steps whose end the GPU has not reached count in the next."""
        while self._running and self._running[0][1].query():
            first, last = self._running.popleft()
            self._device.append(first.elapsed_time(last) / 1000)
        own = OwnTime(
            data_s=_median(self._data),
            host_s=_median(self._host),
            device_s=_median(self._device) if self._is_cuda else None,
        )
        self._data, self._host, self._device = [], [], []
        return own

    def _event(self) -> Any:
        if not self._is_cuda:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0
