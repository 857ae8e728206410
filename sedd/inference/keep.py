"""The parts of a task's work: each computed by one of the job's ranks, kept in the run's folder, and read by all.

What a part holds depends neither on the number of ranks nor on the attempt, so neither do the results. Ranks meet in
the folder alone; a part that is there is not computed again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.rundir.atomic import atomic_file
from sedd.rundir.layout import RunDir

Arrays = Mapping[str, NDArray[Any]]
Keep = Callable[[str, int, Callable[[int], Arrays]], Iterable[Arrays]]
"""(name, how many parts, what computes one by its number) → all parts, in order."""
POLL_S = 0.2
"""Between two looks for another rank's part."""


def at_once(name: str, count: int, compute: Callable[[int], Arrays]) -> Iterable[Arrays]:
    """Compute the parts where they are asked for, by one process alone, and keep nothing."""
    return map(compute, range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptParts:
    """A `Keep` for one of the ranks of a job."""

    run: RunDir
    prefix: str
    """Of the names of parts: what is done with another network has another."""
    rank: int
    size: int
    ask: Callable[[], None]
    """Raises where the attempt has to stop: asked while another rank is waited for."""
    begin: Callable[[], None] = lambda: None
    """Told before a part is computed: the progress that is told next is what all parts before it came to."""

    def __call__(self, name: str, count: int, compute: Callable[[int], Arrays]) -> Iterator[Arrays]:
        """Compute this rank's share now; parts are read, and those of others awaited, as the result is gone through."""
        for number in range(self.rank, count, self.size):
            if not self._path(name, number).exists():
                self.begin()
                self._write(name, number, compute(number))
        return (self._read(name, number) for number in range(count))

    def _path(self, name: str, number: int) -> Path:
        return self.run.parts / f"part-{self.prefix}-{name}-{number:06d}.npz"

    def _write(self, name: str, number: int, arrays: Arrays) -> None:
        self.run.parts.mkdir(exist_ok=True)
        with atomic_file(self._path(name, number)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type] # numpy's stub knows no mapping

    def _read(self, name: str, number: int) -> Arrays:
        path = self._path(name, number)
        while not path.exists():
            self.ask()
            time.sleep(POLL_S)
        with np.load(path, allow_pickle=False) as kept:
            return {key: kept[key] for key in kept.files}
