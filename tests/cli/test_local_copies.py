"""A rank that is killed costs seconds of steps, though the next checkpoint is minutes away: a real local run."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from sedd.launch.local_processes import find_members, wait_until
from sedd.rundir.events import read_events
from sedd.rundir.heartbeat import read_heartbeat
from tests.cli.test_submit import Desk, desk, only_run
from tests.tiny import cuts_networks

__all__ = ["desk"]

INTERVAL_S = 1


SPREAD = ("resources.processes_per_node=2", "training.shard=full")


@pytest.mark.parametrize(
    "how", [pytest.param((), id="whole"), pytest.param(SPREAD, id="spread", marks=cuts_networks)]
)
def test_a_killed_rank_costs_seconds_of_steps_and_leaves_nothing_on_the_node(
    how: tuple[str, ...], desk: Desk
) -> None:
    (node := desk.folder / "node").mkdir()
    profile = desk.folder / "here.yaml"
    profile.write_text(f"executor: local\nlocal_checkpoints: '{node}'\n")
    settings = (f"training.checkpoint.local_every={INTERVAL_S}s", *how)
    options = [option for setting in settings for option in ("--set", setting)]
    done = desk.sedd("submit", desk.endless, "--no-preflight", "--cluster", profile, *options)
    assert done.returncode == 0, done.stderr
    run = only_run(desk)

    def copied_step() -> int:
        """Of which all ranks have a copy."""
        seals = Counter(path.name for path in node.rglob("step-*.json"))
        steps = [
            int(Path(name).stem.removeprefix("step-")) for name in seals if seals[name] == (2 if how else 1)
        ]
        return max(steps, default=0)

    assert wait_until(lambda: copied_step() > 100, timeout_s=180), [p.read_text() for p in run.logs.iterdir()]
    (folder,) = node.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    beat, least = read_heartbeat(run.heartbeat), copied_step()
    assert beat is not None
    os.kill(beat.pid, signal.SIGKILL)
    assert wait_until(lambda: any(e.event == "resumed" for e in read_events(run.events)), timeout_s=180)
    again = next(e for e in read_events(run.events) if e.event == "resumed")
    assert again.get("tier") == "node"
    assert again.get("step") >= least
    assert not [e for e in read_events(run.events) if e.event == "checkpoint"], "no checkpoint was near"
    rows = Path(run.metrics).read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(2, 2 * len(rows) + 1, 2))
    assert desk.sedd("cancel", run.id).returncode == 0
    assert wait_until(lambda: not find_members(run), timeout_s=120)
    assert list(node.iterdir()) == []
