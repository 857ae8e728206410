"""Periodic saves: as often as the spec says, or as their measured cost allows; written beside the training."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sedd.rundir.attempts import save_times_s
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, list_checkpoints, step_of
from sedd.spec.experiment import Experiment
from sedd.spec.training import CheckpointSpec
from sedd.training import async_saver as saver
from sedd.training import cadence
from sedd.training.async_saver import Saver
from sedd.training.cadence import MAX_S, MIN_S, Cadence, interval_s
from sedd.training.checkpoint_file import Seal, newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.loop import Outcome, train
from sedd.training.stop import StopFlag
from tests.tiny import tiny_spec, train_process
from tests.training.test_resume import assert_same_bits

MakeRun = Callable[[Experiment], RunDir]


def saves_at(spec: CheckpointSpec, *, steps: int, step_s: float, save_s: float) -> list[int]:
    """The steps after which a run with steps and saves of these lengths saves."""
    now = 0.0
    clock = Cadence(spec, past_s=(), clock=lambda: now)
    saved = []
    for step in range(1, steps + 1):
        now += step_s
        if clock.is_due(step, is_saving=False):
            saved.append(step)
            clock.begun()
            clock.took(save_s)
    return saved


@given(st.floats(0, 1e6), st.floats(0.001, 0.5))
def test_saving_fills_no_more_than_its_share_of_the_time(save_s: float, overhead: float) -> None:
    interval = interval_s(save_s, overhead=overhead)
    assert MIN_S <= interval <= MAX_S
    assert interval == MAX_S or save_s <= interval * overhead * (1 + 1e-9)
    assert interval == MIN_S or save_s >= interval * overhead * (1 - 1e-9), (
        "nor is it more seldom than needed"
    )


def test_one_percent_of_two_second_saves_is_one_in_200_s() -> None:
    """The first save, after the shortest interval, is the measurement; by it the others are spaced."""
    assert CheckpointSpec().overhead == 0.01
    assert saves_at(CheckpointSpec(), steps=700, step_s=1, save_s=2) == [60, 260, 460, 660]


def test_the_steps_of_the_spec_decide_alone_and_milestones_are_always_saved() -> None:
    assert saves_at(CheckpointSpec(every_steps=4), steps=13, step_s=100, save_s=50) == [4, 8, 12]
    kept = CheckpointSpec(every_steps=4, keep_every_steps=6)
    assert saves_at(kept, steps=13, step_s=100, save_s=50) == [4, 6, 8, 12]
    assert saves_at(CheckpointSpec(keep_every_steps=5), steps=13, step_s=0.1, save_s=0.1) == [5, 10]


def test_a_later_attempt_knows_what_saves_cost_before_its_first() -> None:
    now = 0.0
    clock = Cadence(CheckpointSpec(), past_s=[90.0, 1.0, 3.0, 2.0], clock=lambda: now)
    now = 299.0
    assert not clock.is_due(1, is_saving=False)
    now = 300.0
    assert clock.is_due(2, is_saving=False), "the slowest of the last three took 3 s"
    assert not clock.is_due(2, is_saving=True), "never a second one behind a slow one"


def test_training_goes_on_while_a_checkpoint_is_written(
    store: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes for ever holds up the last save, not the periodic one."""
    disk = threading.Event()
    began, written = threading.Event(), list[int]()

    def write_slowly(folder: Path, step: int, state: dict[str, torch.Tensor], **_: object) -> Seal:
        began.set()
        assert disk.wait(60)
        written.append(int(state["step"]))
        return Seal(step=step, bytes=0, sha256="")

    monkeypatch.setattr(saver, "write_checkpoint", write_slowly)
    run = make_run(tiny_spec(store))
    writer = Saver(run, CheckpointSpec(), attempt=1, make_rows_durable=lambda: None, notify=print)
    state = {"step": torch.tensor(1)}
    writer.save_in_background(1, state)
    assert began.wait(60)
    state["step"] += 1  # the next step, while the first is still being written
    assert written == []
    threading.Timer(0.2, disk.set).start()
    writer.save_now(2, state, reason="stop", patience_s=0)
    assert written == [1, 2], "what was copied is step 1's state; the last save returns when it is on disk"
    writer.close()
    assert len(save_times_s(read_events(run.events))) == 2


class StopsAt(StopFlag):
    """Asked once before every step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_however_often_it_saves_a_run_ends_with_the_same_bits_and_rows(
    store: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_steps, by_cost = make_run(tiny_spec(store)), make_run(tiny_spec(store, checkpoint={"keep": 100}))
    assert train_process(by_steps) == 0
    monkeypatch.setattr(cadence, "MIN_S", 0.0)
    monkeypatch.setattr(cadence, "MAX_S", 0.0)
    assert train(by_cost, attempt=1, ranks=Ranks(), stop=StopsAt(7)) is Outcome.STOPPED
    assert step_of(list_checkpoints(by_cost.checkpoints)[0]) == 7
    assert train(by_cost, attempt=2, ranks=Ranks(), stop=StopFlag()) is Outcome.COMPLETED
    assert len(list_checkpoints(by_cost.checkpoints)) > 4, "it did not save by cost at all"
    ends = [read_checkpoint(newest_whole(run.checkpoints)) for run in (by_steps, by_cost)]
    for end in ends:
        del end["run"], end["spec"]  # the specs differ in how often to save
    assert_same_bits(*ends)
    assert by_steps.metrics.read_bytes() == by_cost.metrics.read_bytes()
