"""What a rank reports while it waits, so that its job entry tells waiting from hanging."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from sedd.rundir.rank_progress import ProgressWriter
from sedd.training.distributed import Ranks
from sedd.training.loop import _is_asked_to_stop, _save_last
from sedd.training.stop import StopFlag


def session(
    rank: int, seen: list[str], save_now: Callable[..., None] = lambda *_, **__: None
) -> SimpleNamespace:
    """As much of one as waiting takes; `seen` gets the phase in which this rank meets the others."""
    progress = ProgressWriter(None)

    def meet(flag: bool = False) -> bool:
        seen.append(progress.last.phase)
        return flag

    return SimpleNamespace(
        group=SimpleNamespace(ranks=Ranks(rank=rank, size=2), any=meet, barrier=meet),
        progress=progress,
        reporter=SimpleNamespace(phase=lambda name, *, why=None: progress.phase(name)),
        saves=rank == 0,
        saver=SimpleNamespace(save_now=save_now),
        description={},
        state=SimpleNamespace(step=7, state_dict=dict),
    )


@pytest.mark.parametrize(("rank", "phase"), [(0, "training"), (1, "meeting")])
def test_ranks_but_the_first_say_that_they_wait_for_the_others_before_a_step(rank: int, phase: str) -> None:
    """Rank 0 may still be saving then, for minutes; rank 0 itself is to be judged while it waits for them."""
    seen: list[str] = []
    s = session(rank, seen)
    s.progress.step(7)
    assert not _is_asked_to_stop(s, StopFlag())
    assert (seen, s.progress.last.phase) == ([phase], "training")


def test_rank_0_waits_for_a_disk_only_between_two_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its other phases, and so a save or a rank that hangs, are judged again."""
    seen: list[str] = []
    monkeypatch.setattr("time.sleep", lambda seconds: seen.append(s.progress.last.phase))

    def save_now(*_: object, pause: Callable[[float, str], None], **__: object) -> None:
        pause(1.0, "No space left on device")
        seen.append(s.progress.last.phase)

    s = session(0, seen, save_now)
    _save_last(s, StopFlag(), reason="last")
    assert seen == ["waiting", "checkpointing", "meeting"]
