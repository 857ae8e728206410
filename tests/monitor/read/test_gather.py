"""Reading run folders: little, whole, and with whatever rights there are."""

import datetime as dt
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sedd.monitor.decide.snapshot import RunView, Views, take_snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read import folder as module
from sedd.monitor.read.folder import parse_last_row
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.rundir.events import append_event
from tests.disk import fill, fill_with_files, small_disk
from tests.monitor.conftest import Farm


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were opened for reading, in order."""
    names: list[str] = []
    real = module._read

    def read(path: str, *, last: int | None = None) -> bytes:
        names.append(Path(path).name)
        return real(path, last=last)

    monkeypatch.setattr(module, "_read", read)
    return names


def test_only_what_changed_is_read_again(farm: Any, now: dt.datetime, opened: list[str]) -> None:
    a = farm.run("a", executor="local").submitted(ago_s=60).started(ago_s=50).beat(1)
    b = farm.run("b", executor="local").submitted(ago_s=60).started(ago_s=50).beat(1)
    gatherer = Gatherer(alive=lambda history: True)
    runs = [a.folder, b.folder]
    gatherer.gather(runs, now=now)
    assert sorted(opened) == ["events.jsonl"] * 2 + ["heartbeat.json"] * 2 + ["manifest.json"] * 2
    opened.clear()
    gatherer.gather(runs, now=now)
    assert opened == []
    b.beat(2)
    facts = gatherer.gather(runs, now=now)
    assert opened == ["heartbeat.json"]
    assert [f.beat.step for f in facts.runs if f.beat] == [1, 2]


def test_a_final_run_that_did_not_change_keeps_its_view(farm: Any, now: dt.datetime) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).event("cancelled", by="ada")
    gatherer, views = Gatherer(), Views()
    first = views.snapshot(gatherer.gather([run.folder], now=now)).runs[0]
    assert views.snapshot(gatherer.gather([run.folder], now=now)).runs[0] is first


def test_a_last_word_between_reading_and_the_end_of_the_process_counts(farm: Any, now: dt.datetime) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).started(ago_s=50).beat(99)

    def ends(history: object) -> bool:
        append_event(run.folder.events, "completed", attempt=1, now=now, step=100)
        return False

    view = take_snapshot(Gatherer(alive=ends).gather([run.folder], now=now)).runs[0]
    assert view.state is State.COMPLETED


def test_a_vanished_folder_is_left_out(farm: Any, now: dt.datetime) -> None:
    run, other = farm.run("a"), farm.run("b", executor="local").submitted(ago_s=5)
    gatherer = Gatherer(queue=Queue(squeue=lambda users: ""))
    assert len(gatherer.gather([run.folder, other.folder], now=now).runs) == 2
    shutil.rmtree(run.folder.path)
    assert [f.run for f in gatherer.gather([run.folder, other.folder], now=now).runs] == [other.folder]


def test_a_damaged_manifest_does_not_hide_the_run(farm: Any, now: dt.datetime) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).event("completed", step=1)
    run.folder.manifest.write_text('{"steps": 10')
    facts = Gatherer().gather([run.folder], now=now).runs[0]
    assert take_snapshot(Gatherer().gather([run.folder], now=now)).runs[0].state is State.COMPLETED
    assert facts.plan.made == dt.datetime(2026, 11, 22, 8, tzinfo=dt.UTC)


def test_half_written_files_are_no_error(farm: Any, now: dt.datetime) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).started(ago_s=50)
    run.folder.heartbeat.write_text('{"t": "2026-')
    with open(run.folder.events, "ab") as file:
        file.write(b'{"t": "2026-11-22T12:00:00+00:00", "event": "comp')
    view = take_snapshot(Gatherer(alive=lambda h: True).gather([run.folder], now=now)).runs[0]
    assert view.state is State.PREFLIGHT


def test_files_that_may_not_be_read_are_named_and_read_when_they_may(
    farm: Any, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).started(ago_s=50).beat(7)
    real = os.open
    refused = True

    def may_not(path: Any, *rest: Any) -> int:
        if refused and str(path).endswith("heartbeat.json"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", may_not)  # chmod does not stop root, who runs CI
    gatherer = Gatherer(alive=lambda h: True)
    view = take_snapshot(gatherer.gather([run.folder], now=now)).runs[0]
    assert view.unreadable == ("heartbeat.json: Permission denied",)
    assert view.attempts == 1
    refused = False
    view = take_snapshot(gatherer.gather([run.folder], now=now)).runs[0]
    assert (view.unreadable, view.step) == ((), 7)


def test_reading_writes_nothing(farm: Any, now: dt.datetime) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).started(ago_s=50).beat(7)
    before = {p: p.stat() for p in farm.root.rglob("*")}
    Gatherer(alive=lambda h: True).gather([run.folder], now=now)
    assert {p: p.stat().st_mtime_ns for p in farm.root.rglob("*")} == {
        p: s.st_mtime_ns for p, s in before.items()
    }


def test_slurm_is_asked_only_for_open_slurm_runs(farm: Any, now: dt.datetime) -> None:
    asked: list[list[str]] = []

    def squeue(users: Any) -> str:
        asked.append(list(users))
        return ""

    local = farm.run("l", executor="local").submitted(ago_s=5)
    ended = farm.run("e").submitted(ago_s=5).event("cancelled", by="ada")
    gatherer = Gatherer(queue=Queue(squeue=squeue), alive=lambda h: True)
    gatherer.gather([local.folder, ended.folder], now=now)
    assert asked == []
    gatherer.gather([local.folder, farm.run("s").submitted(ago_s=5).folder], now=now)
    assert len(asked) == 1
    assert len(asked[0]) == 1


def test_slurmdbd_is_asked_only_about_runs_that_seem_lost(farm: Any, now: dt.datetime) -> None:
    asked: list[list[str]] = []

    def sacct(ids: Any) -> str:
        asked.append(list(ids))
        return "5|5|OUT_OF_MEMORY|0:125|1795339800|Unknown|Unknown|1-00:00:00|v100-1|gpu|ada|x\n"

    lost = (
        farm.run("lost").submitted(ago_s=9000, job_id="5").started(ago_s=8000, job_id="5").beat(1, ago_s=4000)
    )
    fine = farm.run("fine").submitted(ago_s=9, job_id="6")
    gatherer = Gatherer(queue=Queue(squeue=lambda users: "", sacct=sacct))
    runs = [lost.folder, fine.folder]
    view = take_snapshot(gatherer.gather(runs, now=now)).runs[0]
    assert view.state is State.LOST
    assert "out of memory" in view.why
    gatherer.gather(runs, now=now + dt.timedelta(seconds=5))
    assert asked == [["5"]]


@pytest.mark.parametrize("runs_out_of", ["bytes", "files"])
def test_a_silent_run_on_a_full_disk_is_stalled_by_it_and_goes_on_when_there_is_space(
    tmp_path: Path, now: dt.datetime, squeue_line: Callable[..., str], runs_out_of: str
) -> None:
    options = "8m" if runs_out_of == "bytes" else "8m,nr_inodes=40"
    with small_disk(tmp_path / "a disk", size=options) as disk:
        run = Farm(disk / "runs").run().submitted(ago_s=900).started(ago_s=800).beat(7, ago_s=100)
        fresh = Farm(disk / "runs").run(identity="20261122-080000-22222222").submitted(ago_s=900)
        fresh.started(ago_s=800).beat(7, ago_s=2)
        gatherer = Gatherer(queue=Queue(squeue=lambda users: squeue_line()))
        runs = [run.folder, fresh.folder]

        def look() -> list[RunView]:
            return list(take_snapshot(gatherer.gather(runs, now=now)).runs)

        assert look()[0].why == "no heartbeat for 1m 40s"
        filler = fill(disk) if runs_out_of == "bytes" else fill_with_files(disk)
        silent, beating = look()
        assert silent.state is State.STALLED
        said = "0 B free" if runs_out_of == "bytes" else "no file can be made"
        assert silent.why == f"disk full, waiting: {said} in {disk}, no heartbeat for 1m 40s"
        assert (beating.state, beating.why) == (State.RUNNING, ""), "who writes has space"
        for path in filler:
            path.unlink()
        assert look()[0].why == "no heartbeat for 1m 40s"
        run.beat(8)
        assert (look()[0].state, look()[0].why) == (State.RUNNING, "")


def test_the_last_row_is_the_last_whole_one() -> None:
    assert (
        parse_last_row(b'ss": 9.0}\n{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')[
            "step"
        ]
        == 2
    )
    assert parse_last_row(b"") == {}


def test_a_fresh_attempt_shows_what_the_one_before_had_learnt(farm: Any, now: dt.datetime) -> None:
    run = farm.run(executor="local").submitted(ago_s=90).started(ago_s=80).rows(3.0, 2.5)
    run.event("requeued", ago_s=60, cause="preempted").started(ago_s=50).beat(200)
    view = take_snapshot(Gatherer(alive=lambda h: True).gather([run.folder], now=now)).runs[0]
    assert view.loss == 2.5
    run.beat(200, loss=2.4)
    assert take_snapshot(Gatherer(alive=lambda h: True).gather([run.folder], now=now)).runs[0].loss == 2.4


def test_a_job_that_has_the_id_of_a_runs_job_now_is_never_shown_as_the_runs(
    farm: Farm, squeue_line: Callable[..., str], snapshot_of: Callable[..., Any]
) -> None:
    run = farm.run().submitted(ago_s=3600, job_id="12")
    foreign = squeue_line("12", "RUNNING", comment="sedd token=ffffffffffffffff", nodes="v100-4")
    (view,) = snapshot_of(run, squeue=foreign).runs
    assert (view.state, view.nodes) == (State.LOST, "")
    assert "another job has id 12 now" in view.why
    (view,) = snapshot_of(run, squeue=squeue_line("12", "RUNNING")).runs
    assert view.state is State.PREFLIGHT


def test_a_run_of_another_cluster_is_what_its_folder_says(
    farm: Farm, now: dt.datetime, squeue_line: Callable[..., str]
) -> None:
    here = farm.run("here", "20261122-080000-1a2b3c4d").submitted(ago_s=3600, job_id="12", cluster="one")
    there = farm.run("there", "20261122-080001-1a2b3c4d").submitted(ago_s=3600, job_id="12", cluster="two")
    there.started(ago_s=600, job_id="12").beat(5)
    asked: list[list[str]] = []
    queue = Queue(
        squeue=lambda users: squeue_line("12", "PENDING", reason="Priority"),
        sacct=lambda ids: asked.append(list(ids)) or "",
        cluster=lambda: "one",
    )
    seen = take_snapshot(Gatherer(queue=queue).gather([here.folder, there.folder], now=now)).runs
    assert [(view.state, view.why) for view in seen] == [
        (State.QUEUED, "Priority"),
        (State.RUNNING, "on cluster two"),
    ]
    assert not asked


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["failed", "forgotten"])
def test_of_a_job_that_died_before_our_first_line_its_own_last_line_is_told(
    farm: Farm, squeue_line: Callable[..., str], snapshot_of: Callable[..., Any], is_forgotten: bool
) -> None:
    run = farm.run().submitted(ago_s=3600, job_id="12")
    output = run.folder.submitit / "12_0_log.out"
    output.write_text("No module named 'submitit'\nsrun: error: v100-1: task 0: Exited with exit code 1\n")
    squeue = "" if is_forgotten else squeue_line("12", "FAILED")
    (view,) = snapshot_of(run, squeue=squeue).runs
    assert (view.state, view.why) == (
        State.LOST if is_forgotten else State.FAILED,
        "No module named 'submitit'",
    )
    (view,) = snapshot_of(run, squeue=squeue_line("12", "PENDING", reason="Priority")).runs
    assert view.why == "Priority", "the output of an earlier start is no news of a job that waits"


def test_damaged_files_are_named_with_their_line(farm: Farm, snapshot_of: Callable[..., Any]) -> None:
    run = farm.run(executor="local").submitted(ago_s=60).started(ago_s=50).beat(7)
    (view,) = snapshot_of(run, alive=True).runs
    assert view.damaged == ()
    lines = run.folder.events.read_bytes().splitlines(keepends=True)
    run.folder.events.write_bytes(lines[0] + b"{ torn\n" + lines[1] + b'{"t": "still being wri')
    manifest = run.folder.manifest.read_text().splitlines(keepends=True)
    run.folder.manifest.write_text("".join([*manifest[:2], ' "gpus" 4,\n', *manifest[3:]]))
    (view,) = snapshot_of(run, alive=True).runs
    assert view.state is State.RUNNING
    assert view.damaged == (
        "manifest.json:3: damaged: Expecting ':' delimiter",
        "events.jsonl:2: damaged line, passed over",
    )
