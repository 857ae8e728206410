"""`sedd requeue PLAN`: what ended goes on in the order of its stages, what runs or is done is left alone."""

import datetime as dt
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.experiments import requeue_plan as room
from sedd.experiments.requeue_plan import requeue_plan
from sedd.launch.requeue import Requeued
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord
from tests.experiments.tiny_plan import submitted, write_plan_file

NOW = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunDir]:
    """The runs that a plan hands to `requeue`, in order; nothing starts."""
    runs: list[RunDir] = []

    def requeue(some: list[RunDir], *, now: dt.datetime, check: object = None) -> list[Requeued]:
        runs.extend(some)
        return [Requeued(run=run, changed=True, detail="submitted") for run in some]

    monkeypatch.setattr(room, "requeue", requeue)
    return runs


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanRecord:
    """A plan whose data and first training are done; the second has given up, its evaluation was cancelled."""
    monkeypatch.setattr(
        "sedd.experiments.submit_plan.submit_unsubmitted", lambda runs: dict.fromkeys(runs, "nobody")
    )
    made = submitted(write_plan_file(tmp_path)).record
    data, first, second, *_ = made.runs
    for run in (data, first):
        tell(run, "completed")
    tell(second, "gave_up", cause="crashed")
    return made


def tell(run: RunDir, event: str, **fields: object) -> None:
    append_event(
        run.events, "submitted", attempt=0, now=NOW, executor="local", job_id="here:1:1", host="here"
    )
    append_event(run.events, event, attempt=0, now=NOW, **fields)


def stage(record: PlanRecord, name: str) -> tuple[RunDir, ...]:
    return next(stage.runs for stage in record.stages if stage.name == name)


def test_what_ended_goes_on_before_what_waits_for_it_and_the_rest_stays(
    record: PlanRecord, asked: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    first, second = stage(record, "train")
    outcomes = requeue_plan(record, now=NOW)
    others = [run for name in ("evaluate", "sample", "rescue") for run in stage(record, name)]
    assert asked[0] == second
    assert set(asked[1:]) == set(others)
    assert first not in outcomes


def test_what_is_left_out_stays_so_when_all_that_it_needs_has_completed(
    record: PlanRecord, asked: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    (rescue,) = stage(record, "rescue")
    tell(rescue, "cancelled", by="plan", over=True)
    requeue_plan(record, now=NOW)
    assert rescue in asked  # its training gave up, and may fail again
    asked.clear()
    for run in stage(record, "train"):
        tell(run, "completed")
    requeue_plan(record, now=NOW)
    assert rescue not in asked


def test_what_needs_a_refused_run_is_left_alone_and_one_error_is_told(
    record: PlanRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")

    def refuse(runs: list[RunDir], *, now: dt.datetime, check: object = None) -> list[Requeued]:
        raise RunError(f"run {runs[0].id} is cancelled and still ending", hint="repeat this in a minute")

    monkeypatch.setattr(room, "requeue", refuse)
    outcomes = requeue_plan(record, now=NOW)
    assert isinstance(outcomes[stage(record, "train")[1]], RunError)
    for run in stage(record, "sample"):
        assert outcomes[run].detail == "left alone: a run that it needs does not go on yet"
