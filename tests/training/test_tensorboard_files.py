"""TensorBoard files: every row once, whatever the number of attempts; training never fails because of them."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.spec.tracking import TrackingSpec
from sedd.training.metrics import read_metrics
from sedd.training.tensorboard_files import start_tensorboard
from sedd.training.tracking import FILE_TRACKERS, Several, Silent, start_tracker
from tests.tiny import tiny_spec, train_process

MakeRun = Callable[[Experiment], RunDir]


def with_files(experiment: Experiment) -> Experiment:
    tracking = experiment.tracking.model_copy(update={"files": ("tensorboard",)})
    return experiment.model_copy(update={"tracking": tracking})


def points(run: RunDir, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_run_that_was_killed_has_every_row_once(store: Path, make_run: MakeRun) -> None:
    pytest.importorskip("tensorboard")
    run = make_run(with_files(tiny_spec(store)))
    train_process(run, end="kill:17")
    assert train_process(run, attempt=2) == 0
    rows = read_metrics(run.metrics)
    for name in ("loss", "validation_bound"):
        expected = [(int(row["step"]), row[name]) for row in rows if name in row]
        found = points(run, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert len(list(run.tensorboard.iterdir())) == 1


def test_without_the_package_training_continues(
    make_run: MakeRun, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    said: list[str] = []
    run = make_run(with_files(tiny_spec(store)))
    assert start_tensorboard(run, said.append) is None
    assert "continuing without it" in said[0]
    tracker = start_tracker(run, with_files(tiny_spec(store)), is_first=True, notify=said.append)
    assert isinstance(tracker, Silent)


def test_all_trackers_hear_of_a_row() -> None:
    heard: list[str] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        def log(self, row: object) -> None:
            heard.append(f"{self.name} log")

        def finish(self) -> None:
            heard.append(f"{self.name} finish")

    several = Several((Ear("a"), Ear("b")))
    several.log({"step": 1})
    several.finish()
    assert heard == ["a log", "b log", "a finish", "b finish"]


def test_other_ranks_write_none(make_run: MakeRun, store: Path) -> None:
    run = make_run(with_files(tiny_spec(store)))
    assert isinstance(start_tracker(run, with_files(tiny_spec(store)), is_first=False, notify=print), Silent)
    assert not run.tensorboard.exists()


def test_a_spec_offers_the_trackers_that_there_are() -> None:
    (names, *_) = get_args(TrackingSpec.model_fields["files"].annotation)
    assert set(get_args(names)) == set(FILE_TRACKERS)
