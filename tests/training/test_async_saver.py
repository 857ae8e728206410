"""The last save of an attempt waits for a disk that cannot be written, and ends when it is asked to."""

import errno
from pathlib import Path
from typing import Any

import pytest

from sedd.errors import CheckpointError, RunError
from sedd.rundir.layout import RunDir, create_run
from sedd.spec.training import CheckpointSpec
from sedd.training import async_saver as module
from sedd.training.async_saver import Saver
from sedd.training.checkpoint_file import Seal


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return create_run(tmp_path, "small", "20261122-080000-aaaaaaaa", "name: small\n")


class Disk:
    """Refuses this many writes, each with the next of the errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def write(self, folder: Path, step: int, state: dict[str, Any], **_: object) -> Seal:
        if self.errors:
            raise self.errors.pop(0)
        return Seal(step=step, bytes=0, sha256="")


FULL = CheckpointError("cannot write step-00000007.pt: No space left on device")


class Clock:
    """Seconds, of which each pause takes its own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float, why: str) -> None:
        self.now += seconds


def told_while_full(run: RunDir, patch: pytest.MonkeyPatch, *errors: Exception, step: int = 7) -> list[str]:
    """What a user reads of a last save that fails once a second with these errors, for five minutes at most."""
    clock, told = Clock(), []
    patch.setattr(module, "write_checkpoint", Disk(*errors).write)
    patch.setattr(module, "time", clock)
    saver = Saver(run, CheckpointSpec(), attempt=1, make_rows_durable=lambda: None, notify=told.append)
    try:
        saver.save_now(step, {}, reason="last", patience_s=300, pause=clock.pause)
    finally:
        saver.close()
    return told


def test_a_full_disk_is_told_once_and_then_once_a_minute(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    assert told_while_full(run, monkeypatch, *[FULL] * 150) == [
        f"checkpoint failed, trying again for {left}: {FULL.message}; a stop (Ctrl-C) ends the waiting 5s later, "
        "and then all steps are lost"
        for left in ("5m", "4m", "3m")
    ]


def test_what_the_system_alone_says_is_told_in_its_words(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    (text,) = told_while_full(run, monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    assert text.startswith("checkpoint failed, trying again for 5m: no space left on device; a stop ")


def test_another_reason_is_told_at_once(run: RunDir, monkeypatch: pytest.MonkeyPatch):
    refused = RunError("cannot write step-00000007.pt: permission denied")
    told = told_while_full(run, monkeypatch, FULL, FULL, refused, refused)
    assert ["permission" in text for text in told] == [False, True]


@pytest.mark.parametrize(
    ("sealed", "step", "told"),
    [
        ((5,), 7, "and then the steps after 5 are lost"),
        ((2, 5), 5, "later: nothing is lost"),
        ((), 0, "later: nothing is lost"),
    ],
)
def test_what_a_stop_would_lose_is_told(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, sealed: tuple[int, ...], step: int, told: str
):
    monkeypatch.setattr(module, "sealed_steps", lambda _: sorted(sealed, reverse=True))
    (text,) = told_while_full(run, monkeypatch, FULL, step=step)
    assert text.endswith(told)


def save(
    run: RunDir,
    disk: Disk,
    patch: pytest.MonkeyPatch,
    *,
    asked: bool = False,
    patience_s: float = 300,
    reason: str = "last",
) -> list[str]:
    """Save with this disk; why it was waited each time."""
    patch.setattr(module, "write_checkpoint", disk.write)
    patch.setattr(module, "STOP_PATIENCE_S", -1.0)
    saver = Saver(run, CheckpointSpec(), attempt=1, make_rows_durable=lambda: None, notify=lambda _: None)
    waits: list[str] = []
    try:
        saver.save_now(
            7,
            {},
            reason=reason,
            patience_s=patience_s,
            is_asked_to_stop=lambda: asked and len(waits) >= 2,
            pause=lambda seconds, why: waits.append(why),
        )
    finally:
        saver.close()
    return waits


def test_it_waits_for_space_and_for_the_permission_to_write(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = PermissionError(13, "Permission denied", str(run.checkpoints))
    disk = Disk(FULL, refused, RunError("cannot read events.jsonl: Permission denied"))
    unread = "cannot read events.jsonl: Permission denied"
    assert save(run, disk, monkeypatch) == [FULL.message, "permission denied", unread]


def unwritten(code: int) -> CheckpointError:
    error = CheckpointError("cannot write step-00000000.pt")
    error.__cause__ = OSError(code, "as the system words it")
    return error


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_before_the_first_step_it_waits_for_nothing_that_no_waiting_mends(
    code: int, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(*[unwritten(code)] * 3)
    with pytest.raises(CheckpointError, match="cannot write"):
        save(run, disk, monkeypatch, reason="first")
    assert len(disk.errors) == 2


@pytest.mark.parametrize(
    ("code", "why"),
    [(errno.ENOSPC, "no space left on device"), (errno.EDQUOT, "disk quota exceeded")],
)
def test_before_the_first_step_it_waits_for_space_and_says_so(
    code: int, why: str, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert save(run, Disk(unwritten(code)), monkeypatch, reason="first") == [why]


def test_a_signal_during_the_wait_ends_it(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(*[FULL] * 100)
    with pytest.raises(CheckpointError, match="No space left"):
        save(run, disk, monkeypatch, asked=True, patience_s=300)
    assert len(disk.errors) == 97, "it was asked at the third failure"


def test_without_a_signal_it_ends_when_its_patience_does(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="No space left"):
        save(run, Disk(*[FULL] * 100), monkeypatch, asked=False, patience_s=-1)
