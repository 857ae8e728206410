"""Measure what one rank's GPU takes, and write it down for `read_usage`. pynvml is imported where it is asked."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sedd.cuda_order import cuda_order, query_cards
from sedd.rundir.atomic import replace_text
from sedd.rundir.usage import Energy

SAMPLE_S = 5.0
"""Between samples of the power."""
WRITE_EVERY = 6
"""Samples: a kill loses half a minute of the account."""
LAST_S = 5.0
"""For a sample that is being taken, at the end; a driver that answers no more must not keep the process."""


class Meter(Protocol):
    """What a GPU took since the meter was made."""

    @property
    def source(self) -> str: ...

    def joules(self) -> float:
        """Until now. Call it every few seconds."""


class CounterMeter:
    """By the driver's total energy, which Volta and later cards count."""

    source = "counter"

    def __init__(self, millijoules: Callable[[], float]) -> None:
        self._millijoules, self._first = millijoules, millijoules()

    def joules(self) -> float:
        return (self._millijoules() - self._first) / 1000


class PowerMeter:
    """By samples of the power, joined by straight lines."""

    source = "power"

    def __init__(self, milliwatts: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._milliwatts, self._clock = milliwatts, clock
        self._last, self._sum = (clock(), milliwatts()), 0.0

    def joules(self) -> float:
        (before, first), (now, last) = self._last, (self._clock(), self._milliwatts())
        self._last = now, last
        self._sum += (now - before) * (first + last) / 2 / 1000
        return self._sum


def open_meter(environment: Mapping[str, str], *, gpus: int = 1) -> Meter | None:
    """A meter of this rank's card; None on a CPU, and where the driver tells neither energy nor power.

    `gpus`: how many the job has on this node.
    """
    if environment.get("CUDA_VISIBLE_DEVICES") == "":
        return None  # the driver, which may hang, is not asked for work on the CPU
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = _handle_of_rank(pynvml, environment, gpus=gpus)
    except Exception:  # no driver, no such card, an old library: a run must not end for want of a number
        return None
    return None if handle is None else meter_of(pynvml, handle)


def _handle_of_rank(nvml: Any, environment: Mapping[str, str], *, gpus: int) -> Any:
    """The driver's handle of this rank's card; None where it has none. Raises: what NVML raises."""
    card = card_of_rank(environment, gpus=gpus, present=nvml.nvmlDeviceGetCount())
    if card is None:
        return None
    if not card.isdecimal():
        return nvml.nvmlDeviceGetHandleByUUID(card)
    return nvml.nvmlDeviceGetHandleByIndex(cuda_order(query_cards(nvml), environment)[int(card)])


def meter_of(nvml: Any, handle: Any) -> Meter | None:
    """The counter where the card has one, else its power, else nothing."""
    kinds: Sequence[tuple[Callable[[Callable[[], float]], Meter], str]] = (
        (CounterMeter, "nvmlDeviceGetTotalEnergyConsumption"),
        (PowerMeter, "nvmlDeviceGetPowerUsage"),
    )
    for kind, name in kinds:
        with contextlib.suppress(Exception):  # NVMLError, or a library that lacks the question
            return kind(partial(getattr(nvml, name), handle))
    return None


def card_of_rank(environment: Mapping[str, str], *, gpus: int, present: int) -> str | None:
    """CUDA's number or the UUID of the card that it gives this local rank; None where it has none, or a part of one.

    Of `present` cards, and of the job's `gpus` on this node: where a rank of several cards sees a single one, SLURM has
    bound one to each task. Ranks that share a card have it measured by the first of them.
    """
    rank, asked = int(environment.get("LOCAL_RANK", 0)), environment.get("CUDA_VISIBLE_DEVICES")
    names = [*map(str, range(present))] if asked is None else _names(asked)
    if len(names) == 1 < gpus:
        rank = 0  # as `Ranks.device` has it
    if rank >= len(names) or names[rank].startswith("MIG-"):
        return None  # NVML counts whole cards only
    return names[rank]


def _names(visible: str) -> list[str]:
    return [word.strip() for word in visible.split(",") if word.strip()]


@contextlib.contextmanager
def energy_written(
    folder: Path, *, rank: int, attempt: int, meter: Meter | None, sample_s: float = SAMPLE_S
) -> Iterator[None]:
    """While the block runs, keep what this rank's GPU took in `folder`, with the attempts before."""
    if meter is None:
        yield
        return
    record = _Record(folder / f"rank-{rank}.json", attempt, meter)
    done = threading.Event()

    def watch() -> None:
        for number in range(1, 1 << 62):
            if done.wait(sample_s):
                return
            record.sample(writes=number % WRITE_EVERY == 0)

    thread = threading.Thread(target=watch, name="energy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LAST_S)
        if not thread.is_alive():
            record.sample(writes=True)


class _Record:
    """One rank's file: the energy of each attempt."""

    def __init__(self, path: Path, attempt: int, meter: Meter) -> None:
        self._path, self._attempt, self._meter = path, attempt, meter
        self._began = time.monotonic()
        self._before = read_rank(path)

    def sample(self, *, writes: bool) -> None:
        """Ask the meter; a driver or a disk that fails costs a sample."""
        with contextlib.suppress(Exception):
            energy = Energy(
                joules=self._meter.joules(), gpu_s=time.monotonic() - self._began, source=self._meter.source
            )
            if writes:
                self._path.parent.mkdir(exist_ok=True)
                write_rank(self._path, self._before | {self._attempt: energy})


def write_rank(path: Path, energies: Mapping[int, Energy]) -> None:
    """Replace one rank's file. Raises: OSError."""
    records = {
        str(attempt): {"joules": round(e.joules, 1), "seconds": round(e.gpu_s, 1), "source": e.source}
        for attempt, e in energies.items()
    }
    replace_text(path, json.dumps(records) + "\n")


def read_rank(path: Path) -> dict[int, Energy]:
    """The energy of each attempt of one rank; nothing where the file cannot be read."""
    try:
        return {
            int(attempt): Energy(
                joules=float(r["joules"]), gpu_s=float(r["seconds"]), source=str(r["source"])
            )
            for attempt, r in json.loads(path.read_bytes()).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
