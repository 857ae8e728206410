"""Which rank is slower than the others: all tell their own times of a step, and rank 0 compares, window by window."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.rundir.attempts import STRAGGLERS
from sedd.rundir.events import note_event
from sedd.rundir.heartbeat_writer import HeartbeatWriter
from sedd.rundir.layout import RunDir
from sedd.training.distributed import Group
from sedd.training.step_clock import WINDOW, OwnTime, StepClock

SLOWER = 0.15
"""By so much more than the median."""
STEPS = 100
"""For so long without a break."""
_WINDOWS = STEPS // WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowRank:
    """A rank that keeps the others waiting."""

    rank: int
    over: float
    """Its time of a step over the median, less 1: 0.2 is 20 % slower; the smallest of the windows."""


class Stragglers:
    """The last windows of all ranks."""

    def __init__(self) -> None:
        self._over: dict[int, list[float]] = {}

    def add(self, times: Sequence[OwnTime]) -> list[SlowRank]:
        """The ranks that are slow by this window, given in the order of ranks, and the ones before it."""
        typical = statistics.median_low(own.step_s for own in times)  # of two ranks the faster one's
        for rank, own in enumerate(times):
            over = own.step_s / typical - 1 if typical > 0 else 0.0
            self._over[rank] = [*self._over.get(rank, []), over][-_WINDOWS:]
        return [
            SlowRank(rank=rank, over=min(overs))
            for rank, overs in self._over.items()
            if len(overs) == _WINDOWS and min(overs) > SLOWER
        ]


class SpeedReport:
    """Puts the ranks' times into the heartbeat, and a slow one into the events, once an attempt."""

    def __init__(
        self, run: RunDir, clock: StepClock, group: Group, beat: HeartbeatWriter, *, attempt: int, host: str
    ) -> None:
        self._run, self._clock, self._group, self._beat = run, clock, group, beat
        self._attempt = attempt
        self._hosts = group.gather_text(host)
        self._stragglers = Stragglers()
        self._since: dict[int, int] = {}
        self._noted: set[int] = set()

    def step(self, step: int) -> None:
        """A step was taken. Every rank calls it: at the end of a window they exchange a few numbers."""
        self._clock.end()
        if not self._clock.is_full():
            return
        own = self._clock.take()
        told = self._group.gather(
            [own.data_s, own.host_s, math.nan if own.device_s is None else own.device_s]
        )
        if not self._group.ranks.is_first:
            return
        times = [
            OwnTime(data_s=data, host_s=host, device_s=None if math.isnan(device) else device)
            for data, host, device in told
        ]
        slow = self._stragglers.add(times)
        self._since = {each.rank: self._since.get(each.rank, step - STEPS) for each in slow}
        self._note_new(slow)
        self._beat.update(
            ranks=[self._row(rank, each) for rank, each in enumerate(times)],
            slow=[
                {
                    "rank": each.rank,
                    "host": self._hosts[each.rank],
                    "over": round(each.over, 3),
                    "since_step": self._since[each.rank],
                }
                for each in slow
            ],
        )

    def _row(self, rank: int, own: OwnTime) -> dict[str, object]:
        return {
            "rank": rank,
            "host": self._hosts[rank],
            "step_s": round(own.step_s, 6),
            "data_s": round(own.data_s, 6),
            "host_s": round(own.host_s, 6),
            "device_s": None if own.device_s is None else round(own.device_s, 6),
        }

    def _note_new(self, slow: Sequence[SlowRank]) -> None:
        for each in slow:
            if each.rank in self._noted:
                continue
            self._noted.add(each.rank)
            finding = {
                "check": STRAGGLERS,
                "status": "WARN",
                "saw": f"rank {each.rank} on {self._hosts[each.rank]} takes {each.over:.0%} longer "
                f"than the median of the ranks for a step, since step {self._since[each.rank]}",
                "hint": "its card, its CPUs or their other users; retry.exclude_slow: true avoids the node next time",
                "host": self._hosts[each.rank],
            }
            note_event(
                self._run.events,
                "preflight",
                attempt=self._attempt,
                side="training",
                ok=True,
                findings=[finding],
                rank=each.rank,
            )
