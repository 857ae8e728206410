"""Runs made before the move into two rooms: the code of today revives, moves, cancels, evaluates and samples them."""

import datetime as dt
import os
import signal
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import Role, end_all, find_members, wait_until
from sedd.launch.requeue import requeue
from sedd.rundir.layout import RunDir, read_manifest
from tests.cli.test_load_network import sedd
from tests.format_1 import OldSedd
from tests.launch.conftest import story, wait_for_event
from tests.training.test_resume import assert_same_end

NOW = dt.datetime.now(dt.UTC)
STEPS = 600
LOCAL = {"executor": "local", "wandb": "disabled"}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def old(tmp_path: Path) -> OldSedd:
    return OldSedd(tmp_path)


def kill_training(run: RunDir) -> bool:
    """Kill it before it has saved anything; whether it was there."""
    pids = [m.process.pid for m in find_members(run) if m.role is Role.TRAINING]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return bool(pids)


def test_runs_of_format_1_are_todays_to_move_cancel_revive_and_use(old: OldSedd, tmp_path: Path) -> None:
    policy = {"without_progress": 1}
    (undisturbed,), (moved,), (revived,) = (old.submit(LOCAL, steps=STEPS, retry=policy) for _ in range(3))
    try:
        assert read_manifest(moved).get("format") == 1
        for attempt in (1, 2):
            wait_for_event(revived, "attempt_started", count=attempt, timeout_s=180)
            assert wait_until(lambda: kill_training(revived), timeout_s=60)
        wait_for_event(revived, "gave_up", timeout_s=180)
        wait_for_event(moved, "checkpoint", timeout_s=120)
        assert requeue([moved], now=NOW)[0].changed
        assert requeue([revived], now=NOW)[0].changed
        wait_for_event(revived, "checkpoint", timeout_s=120)
        assert cancel([revived], now=NOW)[0].changed
        assert not find_members(revived)
        assert requeue([revived], now=NOW)[0].changed
        for run in (undisturbed, moved, revived):
            wait_for_event(run, "completed", timeout_s=200)
    finally:
        for run in (undisturbed, moved, revived):
            end_all(run, grace_s=0)
    assert story(undisturbed) == ["submitted", "attempt_started", "completed"]
    assert {"requeued:moved", "resumed"} <= set(story(moved))
    assert {"gave_up:killed", "cancelled", "resumed"} <= set(story(revived))
    assert_same_end(undisturbed, moved)
    assert_same_end(undisturbed, revived)
    with pytest.raises(RunError, match="is completed"):
        requeue([moved], now=NOW)
    use(moved, tmp_path)


def use(run: RunDir, folder: Path) -> None:
    """Evaluate and sample it, as its user does."""
    fasta = folder / "some.fasta"
    fasta.write_text(">a\nMKTAYIAKQR\n>b\nMSDNE\n")
    evaluated = sedd("evaluate", run.path, "--fasta", fasta, "--json", runs=folder / "runs")
    assert evaluated.returncode == 0, evaluated.stderr
    sampled = sedd("sample", run.path, "-n", 2, "--length", 20, "--steps", 4, runs=folder / "runs")
    assert sampled.returncode == 0, sampled.stderr
    assert sampled.stdout.count(">") == 2
