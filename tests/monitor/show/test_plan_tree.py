"""A plan as its user sees it: a row among the runs, and a tree of its stages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.read.facts import Facts
from sedd.monitor.show.live_table import render
from sedd.monitor.show.plan_tree import left_s, plan_row, plan_tree
from sedd.monitor.show.screen import Screen, shown_runs
from sedd.rundir.plan_record import PlanRecord, StageRecord, read_plan, write_plan
from tests.monitor.conftest import FakeRun, Farm

Look = Callable[..., Snapshot]
Plan = tuple[PlanRecord, list[FakeRun]]


def stage(name: str, *runs: FakeRun, by_point: tuple[str, ...] = (), **waits: str) -> StageRecord:
    return StageRecord(
        name=name, task="train", runs=tuple(r.folder for r in runs), waits=waits, by_point=by_point
    )


def run(farm: Farm, name: str, number: int = 0) -> FakeRun:
    return farm.run(name, f"20261122-08000{number}-aaaa111{number}").submitted(
        ago_s=7200, job_id=str(number + 1)
    )


@pytest.fixture
def plan(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The data is built, one of two trainings is done, the other half way; one evaluation runs; the rest waits.

    It lies in the folder of runs.
    """
    monkeypatch.setenv("SEDD_RUNS", str(farm.root))
    data = run(farm, "p-data").started(ago_s=7000).event("completed", ago_s=6900)
    done = run(farm, "p-train", 1).started(ago_s=6800).resumed(0, ago_s=6790)
    done.beat(100_000, ago_s=1000, phase="done", validation_bound=2.6).event("completed", ago_s=1000)
    half = run(farm, "p-train", 2).started(ago_s=6800, job_id="3").resumed(0, ago_s=6790)
    half.beat(50_000, eta_s=3600.0, validation_bound=2.7)
    first = (
        run(farm, "p-evaluate", 3).started(ago_s=900, job_id="4").beat(10, phase="evaluating", eta_s=300.0)
    )
    second, sample, rescue = (
        run(farm, f"p-{name}", n) for name, n in (("evaluate", 4), ("sample", 5), ("rescue", 6))
    )
    runs = [data, done, half, first, second, sample, rescue]
    record = PlanRecord(
        name="paper",
        folder=farm.root / "paper" / "plan-20261122-080000-aaaa1111",
        stages=(
            stage("data", data),
            stage("train", done, half, data="afterok"),
            stage("evaluate", first, second, by_point=("train",), train="afterok"),
            stage("sample", sample, train="afterok"),
            stage("rescue", rescue, sample="afterany", train="on_failure"),
        ),
    )
    return record, runs


def queue(line: Callable[..., str], running: str = "34", waiting: str = "567") -> str:
    waits = "".join(line(number, "PENDING", reason="Dependency", nodes="") for number in waiting)
    return "".join(line(number) for number in running) + waits


def test_the_tree_fits_eighty_columns_and_says_what_is_left(
    plan: Plan, snapshot_of: Look, squeue_line: Callable[..., str]
) -> None:
    record, runs = plan
    lines = [
        line.plain for line in plan_tree(record, snapshot_of(*runs, squeue=queue(squeue_line)), width=80)
    ]
    assert lines == [
        "paper  1 of 5 stages done, at least 1h 4m left  plan-20261122-080000-aaaa1111",
        "data  completed",
        "└─ train  1 running, 1 completed  best 2.600  59m 58s left",
        "   ├─ evaluate  1 running, 1 queued  4m 58s left",
        "   ├─ sample  queued  Dependency",
        "   └─ rescue  queued  Dependency  after sample (any end), train (if it fails)",
    ]
    assert max(map(len, lines)) <= 80


def test_a_plan_is_one_row(plan: Plan, snapshot_of: Look, squeue_line: Callable[..., str]) -> None:
    record, runs = plan
    row = plan_row(record, snapshot_of(*runs, squeue=queue(squeue_line)))
    assert row.plain == "paper  plan of 5 stages: 2 running, 3 queued, 2 completed; sedd status paper"


def lines_of(screen: Screen, snapshot: Snapshot, *plans: PlanRecord, height: int = 24) -> list[str]:
    frame = render(screen, Facts(taken=snapshot.taken, runs=()), snapshot, plans, size=(80, height))
    return [str(line).rstrip() for line in frame.content.renderables]


def test_the_live_table_has_the_line_of_a_plan_in_place_of_its_runs(
    plan: Plan, snapshot_of: Look, squeue_line: Callable[..., str], farm: Farm
) -> None:
    record, runs = plan
    other = run(farm, "other", 9).started(ago_s=900, job_id="10").beat(10, eta_s=300.0)
    snapshot = snapshot_of(*runs, other, squeue=queue(squeue_line) + squeue_line("10"))
    lines = lines_of(Screen(), snapshot, record)
    assert lines[1] == plan_row(record, snapshot).plain[:80]
    assert "".join(lines).count("p-tr") == 0
    assert [view.name for view in shown_runs(Screen(), snapshot, [record])] == ["other"]
    for unfolded in (Screen(shows_all=True), Screen(filter="p-train")):
        assert "".join(lines_of(unfolded, snapshot, record)).count("p-tr") >= 2
        assert "plan of 5 stages" not in "".join(lines_of(unfolded, snapshot, record))
    alone = lines_of(Screen(), snapshot_of(*runs, squeue=queue(squeue_line)), record)
    assert "No run to show" not in "".join(alone)
    many = lines_of(Screen(), snapshot, *[record] * 20, height=12)
    assert (len(many), many[4], "other" in many[6]) == (12, "and 17 plans more: sedd status", True)


def test_what_waits_for_a_failure_to_be_mended_says_so(
    plan: Plan, snapshot_of: Look, squeue_line: Callable[..., str]
) -> None:
    record, runs = plan
    runs[2].event("gave_up", cause="crashed", detail="crashed twice")
    seen = snapshot_of(*runs, squeue=queue(squeue_line, running="4"))
    lines = [line.plain for line in plan_tree(record, seen, width=100)]
    assert "   ├─ sample  queued  waits in vain: sedd requeue paper" in lines
    assert "rescue  queued  Dependency" in lines[-1]


def test_a_stage_that_is_left_out_is_as_good_as_done(
    plan: Plan, snapshot_of: Look, squeue_line: Callable[..., str]
) -> None:
    record, runs = plan
    runs[-1].event("cancelled", by="plan", over=True)
    lines = plan_tree(record, snapshot_of(*runs, squeue=queue(squeue_line, waiting="56")), width=100)
    assert lines[0].plain.startswith("paper  2 of 5 stages done")
    assert "left out: not needed" in lines[-1].plain


def test_the_time_left_is_that_of_the_longest_way(
    plan: Plan, snapshot_of: Look, squeue_line: Callable[..., str]
) -> None:
    record, runs = plan
    views = {view.run: view for view in snapshot_of(*runs, squeue=queue(squeue_line)).runs}
    seconds, is_all = left_s(record, views)
    assert seconds == pytest.approx(3900, rel=0.05)  # the training's hour, and an evaluation behind it
    assert not is_all


def test_a_record_is_read_back_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    record, _ = plan
    write_plan(record, "name: paper\n")
    assert read_plan(record.folder) == record
