"""A plan on this machine, from the file to the last stage; and asked for again."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sedd.errors import SpecError
from sedd.experiments import inputs as inputs_module
from sedd.experiments.requeue_plan import requeue_plan
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import end_all, find_members
from sedd.rundir.attempts import is_completed, is_left_out
from sedd.rundir.best import last_bound
from sedd.rundir.events import append_event, read_events
from sedd.rundir.find import find_runs
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.plan_record import PlanRecord, find_plan, list_plans
from sedd.spec.load import load_resolved
from tests.command_line import by_permission
from tests.experiments.tiny_plan import PLAN, submitted, to_be_made, write_plan_file
from tests.test_architecture import BASE, DOORS

NOW = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
NOBODY = "sedd.experiments.submit_plan.submit_unsubmitted"
"""Replaced, run folders are made and nothing is started."""


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Path]:
    yield write_plan_file(tmp_path)
    for run in map(RunDir, sorted(tmp_path.glob("runs/*/*"))):
        if run.manifest.exists() and find_members(run):
            append_event(run.events, "cancelled", attempt=0, now=NOW, by="test")
            end_all(run, grace_s=5.0)


def await_end(record: PlanRecord, timeout_s: float = 240.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        all_events = [read_events(run.events) for run in record.runs]
        if all(is_completed(e) or is_left_out(e) or e[-1].event == "gave_up" for e in all_events if e):
            return
        time.sleep(0.5)
    raise AssertionError("the plan does not come to its end")


def stage(record: PlanRecord, name: str) -> tuple[RunDir, ...]:
    return next(stage.runs for stage in record.stages if stage.name == name)


def moment(run: RunDir, event: str) -> dt.datetime:
    return next(e.t for e in read_events(run.events) if e.event == event)


def test_a_plan_runs_in_order_by_points_and_to_the_best_and_nothing_runs_twice(plan: Path) -> None:
    record = submitted(plan).record
    await_end(record)
    train, evaluate, (sample,), (rescue,) = (
        stage(record, n) for n in ("train", "evaluate", "sample", "rescue")
    )
    (data,) = stage(record, "data")
    assert all(moment(run, "attempt_started") >= moment(data, "completed") for run in train)
    for fed, feeding in zip(evaluate, train, strict=True):
        assert load_resolved(fed.spec).evaluate.network == feeding.path  # type: ignore[attr-defined]
        assert moment(fed, "attempt_started") >= moment(feeding, "completed")
        assert read_manifest(fed)["point"] == read_manifest(feeding)["point"]
    assert all(moment(sample, "attempt_started") >= moment(run, "completed") for run in train)
    best = load_resolved(sample.spec).sample.network  # type: ignore[attr-defined]
    bounds = {run.path: last_bound(run) for run in train}
    assert best.resolve() == min(bounds, key=lambda path: bounds[path] or 0)
    assert "attempt_started" not in [e.event for e in read_events(rescue.events)]
    assert [len([e for e in read_events(r.events) if e.event == "submitted"]) for r in record.runs] == [1] * 7
    again = submitted(plan)
    assert (again.record, again.submitted, again.stuck) == (record, {}, [])
    assert to_be_made(plan) == {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A plan whose run folders are all made, and of which nothing has started; the tests write its file anew."""
    plan = write_plan_file(tmp_path_factory.mktemp("made"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NOBODY, lambda runs: dict.fromkeys(runs, "nobody starts it"))
        submitted(plan)
        yield plan


@pytest.mark.parametrize(
    ("old", "new", "anew"),
    [
        ("length: 20", "length: 21", {"sample": 1}),
        ("{train.run}\", fasta: [p.fasta], draws: 2", "{train.run}\", fasta: [p.fasta], draws: 3", {"evaluate": 2}),
        ("steps: 4\n", "steps: 5\n", {"train": 2, "evaluate": 2, "sample": 1, "rescue": 1}),
        ("seed: [0, 1]", "seed: [0, 1, 2]", {"train": 1, "evaluate": 1, "sample": 1, "rescue": 1}),
        ("validation_fraction: 0.2", "validation_fraction: 0.3",
         {"data": 1, "train": 2, "evaluate": 2, "sample": 1, "rescue": 1}),
    ],
)  # fmt: skip
def test_a_changed_field_runs_anew_what_lies_downstream(
    made: Path, old: str, new: str, anew: dict[str, int]
) -> None:
    made.write_text(PLAN)
    assert to_be_made(made) == {}
    assert PLAN.count(old) == 1
    made.write_text(PLAN.replace(old, new))
    assert to_be_made(made) == anew


@pytest.mark.parametrize("field", ["data.max_length: [48, 64]", "training.validation.residues: [256, 512]"])
def test_the_best_of_runs_that_are_validated_on_different_proteins_is_refused(made: Path, field: str) -> None:
    made.write_text(PLAN.replace("seed: [0, 1]", field))
    with pytest.raises(
        SpecError, match=r"\$\{train.best\}: the runs of 'train' differ in " + field.partition(":")[0]
    ):
        to_be_made(made)
    made.write_text(PLAN)


def test_changed_data_runs_anew_what_reads_it(made: Path) -> None:
    write_plan_file(made.parent)
    with (made.parent / "p.fasta").open("a") as proteins:
        proteins.write(">new\nMKTAYIAKQR\n")
    inputs_module.content_of.cache_clear()
    assert to_be_made(made) == {"data": 1, "train": 2, "evaluate": 2, "sample": 1, "rescue": 1}
    write_plan_file(made.parent)
    inputs_module.content_of.cache_clear()


def test_changed_code_runs_anew_what_it_matters_to(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = inputs_module.code_that_matters
    monkeypatch.setattr(
        inputs_module,
        "code_that_matters",
        lambda task, package: "changed" if task == "sample" else before(task, package),
    )
    made.write_text(PLAN)
    assert to_be_made(made) == {"sample": 1}
    assert to_be_made(made, any_code=True) == {}


def test_every_task_has_its_rooms() -> None:
    from sedd.launch.freeze import imported_package
    from sedd.spec.tasks import TASKS

    assert inputs_module.ROOMS.keys() == TASKS.keys()
    rooms = {room for rooms in inputs_module.ROOMS.values() for room in rooms}
    assert all((imported_package() / room).is_dir() for room in rooms)


@pytest.mark.parametrize(
    ("task", "room"), [("data", "data"), ("train", "training"), ("evaluate", "inference")]
)
def test_the_rooms_of_a_task_are_all_that_it_computes_with(task: str, room: str) -> None:
    """A room behind a door that is missing here would change results and run nothing anew."""
    idle = {"spec", "rundir", "config", "charts", "page", "quality", *BASE}
    behind, new = set[str](), {room}
    while new:
        behind |= new
        new = {door for one in new for door in DOORS[one]} - behind - idle
    assert behind == set(inputs_module.ROOMS[task])


KILLED = """
import os, signal, sys
from pathlib import Path
from sedd.experiments import submit_plan
from sedd.launch import make_runs
from tests.command_line import by_permission
from tests.experiments.tiny_plan import submitted
count, limit = 0, int(sys.argv[2])
real = make_runs.write_manifest
def write(*arguments):
    global count
    count += 1
    if count > limit:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments)
make_runs.write_manifest = write
submit_plan.submit_unsubmitted = lambda runs: {run: "nobody" for run in runs}
submitted(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("after", [0, 2, 4, 6])
def test_a_submission_killed_half_way_and_asked_for_again_makes_each_run_once(
    plan: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is a folder with a manifest; the kill comes before the next one is written."""
    command = [sys.executable, "-c", KILLED, str(plan), str(after)]
    done = subprocess.run(command, env=os.environ, check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL
    monkeypatch.setattr(NOBODY, lambda runs: dict.fromkeys(runs, "nobody starts it"))
    record = submitted(plan).record
    made = {run for run in map(RunDir, plan.parent.glob("runs/*/*")) if run.manifest.exists()}
    assert made == set(record.runs)
    assert len(record.runs) == 7


def test_a_plan_is_found_by_name_id_and_folder_and_is_cancelled_as_a_whole(made: Path) -> None:
    made.write_text(PLAN)
    runs = made.parent / "runs"
    (record,) = list_plans(runs)
    assert [find_plan(t, runs) for t in ("tiny-plan", record.id, str(record.folder))] == [record] * 3
    assert find_plan("tiny-plan-train", runs) is None
    assert find_runs("tiny-plan", runs) == list(record.runs)
    assert all(each.changed for each in cancel(list(record.runs), now=NOW))
    assert [run.id for run in submitted(made).stuck] == [run.id for run in record.runs]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_the_same_plan_of_another_user_gives_what_it_has_completed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder of runs that several share."""
    monkeypatch.setattr(NOBODY, lambda runs: dict.fromkeys(runs, "nobody starts it"))
    asked: list[RunDir] = []
    monkeypatch.setattr(f"{requeue_plan.__module__}.requeue", lambda runs, **_: asked.extend(runs) or runs)
    plan, runs = write_plan_file(tmp_path), tmp_path / "runs"
    theirs = submitted(plan).record
    append_event(stage(theirs, "data")[0].events, "completed", attempt=1, now=NOW)
    append_event(stage(theirs, "train")[0].events, "submitted", attempt=0, now=NOW, job_id="7")
    (tmp_path / "p.store").mkdir()
    for path in (runs, *runs.rglob("*")):
        os.chown(path, 4711, 4711)
        if path in (runs, *runs.glob("*"), *runs.glob("*/.*")):  # what all of them write
            path.chmod(0o777)
    with by_permission():
        assert to_be_made(plan) == {"train": 2, "evaluate": 2, "sample": 1, "rescue": 1}
        done = submitted(plan)
        mine = done.record
        assert set(theirs.runs) & set(mine.runs) == set(stage(theirs, "data"))
        assert done.replaced == done.stuck == [], "the runs of another user are none of this plan's"
        assert find_plan(theirs.name, runs) == mine
        assert find_plan(theirs.id, runs) == theirs
        assert list_plans(runs) == [theirs, mine]
        requeue_plan(theirs, now=NOW)
        assert asked == []
        requeue_plan(mine, now=NOW)
        assert set(asked) == set(mine.runs) - set(theirs.runs)
