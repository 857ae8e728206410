"""What waits for a place is submitted as runs end, by whoever waits for them."""

import datetime as dt
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sedd.cli.submit_rest import LATER_S, SOON_S, Rest
from sedd.cluster.profile import SlurmProfile
from sedd.errors import ClusterError
from sedd.launch.make_runs import Order
from sedd.launch.submit import submit
from sedd.monitor.decide.state import State
from tests.launch import fake_slurm
from tests.launch.conftest import order_for, small_experiment

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = fake_slurm.install(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (folder / "limit").write_text("3")
    return folder


@pytest.fixture
def order(slurm: Path, tmp_path: Path) -> Order:
    profile = SlurmProfile(executor="slurm", partition="gpu")
    made = order_for(*[small_experiment(seed=n) for n in range(5)], runs=tmp_path / "runs", profile=profile)
    submit(made, now=NOW)
    return made


class Waiting:
    """Somebody who waits, with a clock that stands still unless it is moved."""

    def __init__(self, order: Order) -> None:
        self.now_s, self.heard = 0.0, list[str]()
        self.rest = Rest([order], notify=self.heard.append, clock=lambda: self.now_s)

    def look(self, *states: State) -> None:
        snapshot: Any = SimpleNamespace(runs=[SimpleNamespace(state=state) for state in states])
        self.rest(snapshot)


THREE = (State.RUNNING,) * 3
TWO_LEFT = (State.UNSUBMITTED,) * 2


def test_the_rest_follows_when_a_run_has_ended_and_not_sooner(slurm: Path, order: Order) -> None:
    waiting = Waiting(order)
    (slurm / "queue").write_text("7_1|\n7_2|\n")
    waiting.now_s = SOON_S + 1
    waiting.look(*THREE, *TWO_LEFT)
    assert fake_slurm.arrays(slurm) == [3]
    waiting.look(State.COMPLETED, State.RUNNING, State.RUNNING, *TWO_LEFT)
    assert fake_slurm.arrays(slurm) == [3, 1]
    assert waiting.heard == [
        "small: 4 of 5 submitted, 1 waits: the site takes no more now (AssocMaxSubmitJobLimit)"
    ]


def test_places_that_others_leave_are_found_after_a_while(slurm: Path, order: Order) -> None:
    waiting = Waiting(order)
    (slurm / "limit").unlink()
    waiting.now_s = LATER_S + 1
    waiting.look(*THREE, *TWO_LEFT)
    assert waiting.heard == ["small: 5 of 5 submitted"]


def test_a_slurm_that_is_silent_is_told_of_once_and_asked_again(slurm: Path, order: Order) -> None:
    waiting = Waiting(order)
    silent = (slurm / "scontrol").rename(slurm / "away")
    (slurm / "scontrol").write_text(
        "#!/bin/bash\necho 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1\n"
    )
    (slurm / "scontrol").chmod(0o755)
    for n in (1, 2):
        waiting.now_s = n * (LATER_S + 1)
        waiting.look(*THREE, *TWO_LEFT)
    assert len(waiting.heard) == 1
    silent.rename(slurm / "scontrol")
    (slurm / "limit").unlink()
    waiting.now_s = 3 * (LATER_S + 1)
    waiting.look(*THREE, *TWO_LEFT)
    assert waiting.heard[1:] == ["small: 5 of 5 submitted"]


def test_another_refusal_ends_the_waiting_with_its_reason(slurm: Path, order: Order) -> None:
    waiting = Waiting(order)
    (slurm / "refuse").write_text("Invalid qos specification")
    waiting.now_s = LATER_S + 1
    with pytest.raises(ClusterError, match="Invalid qos"):
        waiting.look(*THREE, *TWO_LEFT)
