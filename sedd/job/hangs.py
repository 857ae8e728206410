"""Is a training that reports no progress hung? Limits by phase, and a clock that stops when the job does. Pure.

Rank 0's progress alone is judged: every step ends with an agreement of all ranks, so rank 0 stands still when any rank
does, while another rank that waits for rank 0 (to save, to validate) cannot know that rank 0 is at work.
"""

from dataclasses import dataclass

from sedd.rundir.rank_progress import RankProgress

SLOWER = 10.0
"""A step may take so many times as long as the slowest one of its attempt."""
_SAVE_S = 900.0
"""For a checkpoint; ten times the slowest one, where that is more."""
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
}
"""How long a phase may take without a report, whatever `hang_after_s` says; None: as long as it likes."""


def limit_s(progress: RankProgress, *, hang_after_s: float, slowest_save_s: float) -> float | None:
    """How long nothing may be reported after this; None: for ever."""
    of_phase = _PHASE_S[progress.phase]
    if of_phase is None:
        return None
    usual_s = SLOWER * (slowest_save_s if progress.phase == "checkpointing" else progress.slowest_s)
    return max(hang_after_s, of_phase, usual_s)


def save_limit_s(*, hang_after_s: float, slowest_save_s: float) -> float:
    """How long a checkpoint may be written in the background."""
    return max(hang_after_s, _SAVE_S, SLOWER * slowest_save_s)


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

    def begin_again(self) -> None:
        """What was counted does not count."""
        self.still_s = self.saving_s = 0.0


def why_hung(stillness: Stillness, *, hang_after_s: float, slowest_save_s: float) -> str | None:
    """What is known of a hang, in words; None while it is none."""
    progress = stillness.seen
    if progress is None:
        return None
    limit = limit_s(progress, hang_after_s=hang_after_s, slowest_save_s=slowest_save_s)
    where = f"at step {progress.step}, {progress.phase}"
    if limit is not None and stillness.still_s > limit:
        return f"no progress for {stillness.still_s:.0f} s {where} (limit {limit:.0f} s)"
    limit = save_limit_s(hang_after_s=hang_after_s, slowest_save_s=slowest_save_s)
    if stillness.saving_s > limit:
        return f"a checkpoint is being written for {stillness.saving_s:.0f} s {where} (limit {limit:.0f} s)"
    return None
