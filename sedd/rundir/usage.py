"""What a run has used: hours of running, of GPUs and of waiting, energy, and what interruptions cost."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALWAYS, NEVER = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
"""Before and after all times of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What the GPUs of one attempt took, as far as it was measured.

    Attributes:
        joules: over all GPUs that were measured.
        gpu_s: seconds of GPUs for which it was.
        source: `counter` (NVML's total energy) or `power` (NVML's power, sampled, times time).
    """

    joules: float
    gpu_s: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptUse:
    """One attempt on its nodes.

    Attributes:
        start: when its job started, where SLURM says; else when the attempt did.
        trains_from: when it had resumed; its end where it never came to that.
        kept_until: until when what it trained was kept by the attempts after it.
        end: its last word; of one that has none its last sign of life.
        cause: what ended it; "" while that is not known.
    """

    number: int
    gpus: int
    start: dt.datetime
    trains_from: dt.datetime
    kept_until: dt.datetime
    end: dt.datetime
    cause: str
    energy: Energy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A sum over attempts.

    Attributes:
        run_s: seconds in which a job had nodes; gpu_s: the same times its GPUs.
        queued_s: waiting before attempts that have started.
        restart_s: from the start of an attempt to where training went on, after an interruption.
        repeat_s: training that was not kept, and taken again or still to be taken.
        lost_gpu_s: GPU-seconds of both; `lost_to`: by what had ended the attempt before.
        joules: as far as it was measured, for `measured_gpu_s` of the GPU-seconds; `sources`: how.
        co2_g: of those joules, at the profiles' grams per kWh; `priced_joules`: those whose profile has that.
    """

    run_s: float = 0.0
    gpu_s: float = 0.0
    queued_s: float = 0.0
    restart_s: float = 0.0
    repeat_s: float = 0.0
    lost_gpu_s: float = 0.0
    lost_to: Mapping[str, float] = field(default_factory=dict)
    joules: float = 0.0
    measured_gpu_s: float = 0.0
    sources: frozenset[str] = frozenset()
    co2_g: float = 0.0
    priced_joules: float = 0.0

    @property
    def gpu_hours(self) -> float:
        return self.gpu_s / 3600

    @property
    def kwh(self) -> float | None:
        """None where nothing was measured."""
        return self.joules / 3.6e6 if self.sources else None

    @property
    def co2_kg(self) -> float | None:
        """None where no profile says how much a kWh makes."""
        return self.co2_g / 1000 if self.priced_joules else None

    def __add__(self, other: "Usage") -> "Usage":
        names = (
            *("run_s", "gpu_s", "queued_s", "restart_s", "repeat_s", "lost_gpu_s"),
            *("joules", "measured_gpu_s", "co2_g", "priced_joules"),
        )
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            lost_to=dict(Counter(self.lost_to) + Counter(other.lost_to)),
            sources=self.sources | other.sources,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUse:
    """All attempts of a run, and its waits between them.

    Attributes:
        grams_per_kwh: CO₂, of the profile; None where it does not say.
    """

    attempts: tuple[AttemptUse, ...]
    waits: tuple[tuple[dt.datetime, dt.datetime], ...]
    grams_per_kwh: float | None = None

    def within(self, since: dt.datetime = ALWAYS, until: dt.datetime = NEVER) -> Usage:
        """What was used in a period; energy and losses as they are spread over it."""

        def inside(start: dt.datetime, end: dt.datetime) -> float:
            return max(0.0, (min(end, until) - max(start, since)).total_seconds())

        total = Usage(queued_s=sum(inside(*wait) for wait in self.waits))
        for before, attempt in zip((None, *self.attempts), self.attempts, strict=False):
            total += self._of(before, attempt, inside(attempt.start, attempt.end), inside)
        return total

    def _of(self, before: AttemptUse | None, attempt: AttemptUse, run_s: float, inside: Any) -> Usage:
        # What follows `completed` are more steps that a user asked for: nothing was interrupted.
        is_restart = before is not None and before.cause != "completed"
        restart_s = inside(attempt.start, attempt.trains_from) if is_restart else 0.0
        repeat_s = inside(max(attempt.kept_until, attempt.trains_from), attempt.end)
        lost_to = Counter({before.cause: restart_s * attempt.gpus} if before and restart_s else {})
        lost_to[attempt.cause] += repeat_s * attempt.gpus
        whole_s = (attempt.end - attempt.start).total_seconds()
        energy, share = attempt.energy, run_s / whole_s if whole_s else 0.0
        joules = energy.joules * share if energy else 0.0
        return Usage(
            run_s=run_s,
            gpu_s=run_s * attempt.gpus,
            restart_s=restart_s,
            repeat_s=repeat_s,
            lost_gpu_s=(restart_s + repeat_s) * attempt.gpus,
            lost_to={cause: s for cause, s in lost_to.items() if s},
            joules=joules,
            measured_gpu_s=energy.gpu_s * share if energy else 0.0,
            sources=frozenset({energy.source}) if energy and share else frozenset(),
            co2_g=joules / 3.6e6 * (self.grams_per_kwh or 0.0),
            priced_joules=joules if self.grams_per_kwh is not None else 0.0,
        )


def source_words(usage: Usage) -> str:
    """How the energy was measured, and of how much of the GPU-hours."""
    how = {"counter": "by the GPUs' own counters", "power": "as power times time"}
    named = " and ".join(how.get(source, source) for source in sorted(usage.sources))
    share = measured_share(usage)
    return f"{named}, measured for {share:.0%} of the GPU-hours" if share < 0.995 else named


def usage_words(usage: Usage) -> str:
    """`12.30 GPU-hours, 3.10 kWh (counter), 1.20 kg CO₂; 2.00 hours queued; 0.40 GPU-hours lost to …`."""
    queued, lost = queued_words(usage), restart_words(usage)
    parts = (
        spent_words(usage),
        f"{queued} queued" if queued else "",
        f"{lost[0]} lost to {lost[1]}" if lost else "",
    )
    return "; ".join(filter(None, parts))


def spent_words(usage: Usage) -> str:
    """`12.30 GPU-hours, 3.10 kWh (counter), 1.20 kg CO₂`, with the measured share of the energy, where not all is."""
    words = _hours(usage.gpu_s, "GPU-hours") if usage.gpu_s else _hours(usage.run_s, "hours")
    if usage.kwh is not None:
        share = measured_share(usage)
        part = "" if share >= 0.995 else f", of {share:.0%}"
        words += f", {usage.kwh:.2f} kWh ({' and '.join(sorted(usage.sources))}{part})"
    return words if usage.co2_kg is None else f"{words}, {usage.co2_kg:.2f} kg CO₂"


def queued_words(usage: Usage) -> str:
    """`2.00 hours`, which started attempts had waited; nothing below half a minute."""
    return _hours(usage.queued_s, "hours") if usage.queued_s >= 36 else ""


def restart_words(usage: Usage) -> tuple[str, str] | None:
    """`0.40 GPU-hours` and what they went to; None below half a minute."""
    in_gpus, in_hours = usage.lost_gpu_s, usage.restart_s + usage.repeat_s
    lost_s, unit = (in_gpus, "GPU-hours") if usage.gpu_s else (in_hours, "hours")
    return (_hours(lost_s, unit), "restarts and repeats") if lost_s >= 36 else None


def _hours(seconds: float, unit: str) -> str:
    """`0.40 GPU-hours`, or `less than 0.01 hours`."""
    return f"{seconds / 3600:.2f} {unit}" if not seconds or seconds >= 36 else f"less than 0.01 {unit}"


def measured_share(usage: Usage) -> float:
    """The share of the GPU-hours whose energy was measured; 1 of runs without GPUs."""
    return usage.measured_gpu_s / usage.gpu_s if usage.gpu_s else 1.0
