"""Is a rank that reports no progress hung? Limits by phase, and a clock that stops when the job does. Pure.

Each rank is judged by its own phase: one that hangs while rank 0 waits for a disk is seen, too. A rank that waits for
the others ("meeting") does not hang; rank 0 is judged even so, for all ranks agree before every step, and what holds
one of them up holds up rank 0.
"""

from dataclasses import dataclass

from sedd.rundir.rank_progress import RankProgress

SLOWER = 10.0
"""A step may take this many times as long as the slowest one of its attempt."""
_SAVE_S = 900.0
"""For a checkpoint; ten times the slowest one, where that is more."""
_OTHERS = 1.5
"""Ranks other than 0 have this many times as long: mostly all stand still, and rank 0's entry is to say so, once."""
_LONGEST_TICK_S = 1.0
"""Between two looks; what is more was no time of ours: the job was suspended, or this process got no CPU."""

_PHASE_S: dict[str, float | None] = {
    "starting": 900.0,
    "staging": 2 * 3600.0,
    "warming up": 1800.0,
    "training": 0.0,
    "validating": 600.0,
    "checkpointing": _SAVE_S,
    "waiting": None,
    "stopping": None,
    "done": None,
    "meeting": 0.0,
}
"""How long a phase may take without a report, whatever `hang_after_s` says; None: as long as it likes."""


def limit_s(
    progress: RankProgress, *, hang_after_s: float, slowest_save_s: float, is_first: bool
) -> float | None:
    """How long nothing may be reported after this, by rank 0 or by another; None: for ever."""
    of_phase = _PHASE_S[progress.phase]
    if of_phase is None or (progress.phase == "meeting" and not is_first):
        return None
    usual_s = SLOWER * (slowest_save_s if progress.phase == "checkpointing" else progress.slowest_s)
    return max(hang_after_s, of_phase, usual_s) * (1.0 if is_first else _OTHERS)


def save_limit_s(*, hang_after_s: float, slowest_save_s: float, is_first: bool) -> float:
    """How long a checkpoint may be written in the background."""
    return max(hang_after_s, _SAVE_S, SLOWER * slowest_save_s) * (1.0 if is_first else _OTHERS)


@dataclass(slots=True)
class Stillness:
    """How long a rank has reported nothing new, by a clock that stands still when we do.

    A job that its site suspends (gang scheduling, `scontrol suspend`) is stopped whole, this process with it.
    """

    seen: RankProgress | None = None
    still_s: float = 0.0
    saving_s: float = 0.0
    """Of the checkpoint that is being written in the background."""
    _before: float | None = None

    def see(self, progress: RankProgress | None, now: float) -> None:
        """Look once more at what the rank reported last; `now` is `time.monotonic`."""
        tick_s = 0.0 if self._before is None else min(max(0.0, now - self._before), _LONGEST_TICK_S)
        self._before = now
        if progress is None:
            return
        is_same_save = self.seen is not None and progress.save_since == self.seen.save_since
        self.saving_s = self.saving_s + tick_s if progress.save_since and is_same_save else 0.0
        self.still_s = self.still_s + tick_s if progress == self.seen else 0.0
        self.seen = progress


def why_hung(
    stillness: Stillness, *, hang_after_s: float, slowest_save_s: float, is_first: bool
) -> str | None:
    """What is known of a hang of rank 0, or of another rank, in words; None while it is none."""
    progress = stillness.seen
    if progress is None:
        return None
    limit = limit_s(progress, hang_after_s=hang_after_s, slowest_save_s=slowest_save_s, is_first=is_first)
    where = f"at step {progress.step}, {progress.phase}"
    if limit is not None and stillness.still_s > limit:
        return f"no progress for {stillness.still_s:.0f} s {where} (limit {limit:.0f} s)"
    limit = save_limit_s(hang_after_s=hang_after_s, slowest_save_s=slowest_save_s, is_first=is_first)
    if stillness.saving_s > limit:
        return f"a checkpoint is being written for {stillness.saving_s:.0f} s {where} (limit {limit:.0f} s)"
    return None
