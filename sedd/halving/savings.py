"""What halving sweeps have not trained: steps, and GPU-hours at each stopped point's own pace."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sedd.rundir.attempts import events_by_attempt, is_stopped
from sedd.rundir.events import Event, read_events
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.read_usage import read_usage
from sedd.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """Sums over the points of halving sweeps.

    Attributes:
        trained: steps that are saved so far, of the `full` that all points would have trained.
        stopped: points that the rule has stopped; `saved`: the steps that they were spared.
        saved_s: seconds of GPUs for these, of running for runs without GPUs.
    """

    points: int = 0
    stopped: int = 0
    trained: int = 0
    full: int = 0
    saved: int = 0
    saved_s: float = 0.0
    has_gpus: bool = False

    def __str__(self) -> str:
        """`halving: 24 of 27 points stopped, 15% of 48,600 steps trained; 12.3 GPU-hours saved`."""
        share = self.trained / self.full if self.full else 0.0
        return (
            f"halving: {self.stopped} of {self.points} points stopped, {share:.0%} of {self.full:,} steps trained"
            f"{self._spared()}"
        )

    def _spared(self) -> str:
        hours, unit = self.saved_s / 3600, "GPU-hours" if self.has_gpus else "hours"
        if hours < 0.1:
            return f"; {format_duration(self.saved_s)} saved" if self.saved_s >= 1 else ""
        return f"; {hours:.1f} {unit} saved"

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "points": self.points,
            "stopped": self.stopped,
            "steps_trained": self.trained,
            "steps_full": self.full,
            "steps_saved": self.saved,
            "gpu_hours_saved" if self.has_gpus else "hours_saved": self.saved_s / 3600,
        }

    def __add__(self, other: "Savings") -> "Savings":
        names = ("points", "stopped", "trained", "full", "saved", "saved_s")
        return Savings(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            has_gpus=self.has_gpus or other.has_gpus,
        )


def read_savings(runs: Iterable[RunDir]) -> Savings | None:
    """Of those of the runs that are points of halving sweeps; None where none is. Raises: RunError."""
    total = Savings()
    for run in runs:
        manifest = read_manifest(run)
        if manifest.get("halving"):
            total += _of_point(run, steps=int(manifest.get("steps") or 0))
    return total if total.points else None


def _of_point(run: RunDir, *, steps: int) -> Savings:
    events = read_events(run.events)
    trained = max((int(e.get("step", 0)) for e in events if e.event == "checkpoint"), default=0)
    is_over = is_stopped(events)
    saved = steps - trained if is_over else 0
    attempts = read_usage(run).attempts
    gpus = max((attempt.gpus for attempt in attempts), default=0)
    return Savings(
        points=1,
        stopped=int(is_over),
        trained=trained,
        full=steps,
        saved=saved,
        saved_s=saved * _step_s(run, events) * max(gpus, 1) if saved else 0.0,
        has_gpus=gpus > 0,
    )


def _step_s(run: RunDir, events: Sequence[Event]) -> float:
    """Seconds a step without an attempt's start: between its saved steps, else as the heartbeat has it; 0: unknown."""
    taken, seconds = 0, 0.0
    for group in events_by_attempt(events):
        at = [(e.t, int(e.get("step", 0))) for e in group if e.event in ("resumed", "checkpoint")]
        if len(at) > 1:
            taken += at[-1][1] - at[0][1]
            seconds += (at[-1][0] - at[0][0]).total_seconds()
    if taken > 0:
        return seconds / taken
    beat = read_heartbeat(run.heartbeat)
    ahead = beat.steps - beat.step if beat else 0
    return beat.eta_s / ahead if beat and beat.eta_s and ahead > 0 else 0.0
