"""A sweep larger than what the site takes: submitted in parts, each point once, whatever interrupts it."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.errors import RunError, UsageError
from sedd.launch import feed
from sedd.launch import submit_slurm as submission
from sedd.launch.cancel import cancel
from sedd.launch.feed import largest_taken
from sedd.launch.make_runs import Order
from sedd.launch.requeue import requeue
from sedd.launch.submit import Submission, resume, submit
from sedd.launch.submitted import find_submitted, find_unfinished
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from tests.launch import fake_slurm
from tests.launch.conftest import order_for, small_experiment

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
SLURM = SlurmProfile(executor="slurm", partition="gpu")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = fake_slurm.install(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return order_for(*[small_experiment(seed=n) for n in range(9)], runs=tmp_path / "runs", profile=SLURM)


def again(order: Order) -> Submission:
    """What the same command does later."""
    unfinished = find_unfinished(order.request.experiments, order.runs)
    assert unfinished is not None
    return resume(order, unfinished, now=NOW)


def jobs_of(runs: tuple[RunDir, ...]) -> list[str]:
    """The jobs of runs, each of which was submitted at most once."""
    found = [[e.get("job_id") for e in read_events(run.events) if e.event == "submitted"] for run in runs]
    assert all(len(jobs) <= 1 for jobs in found), found
    return [job for jobs in found for job in jobs]


def leave(slurm: Path, jobs: int) -> None:
    """Let all jobs end but the last few."""
    lines = (slurm / "queue").read_text().splitlines(keepends=True)
    (slurm / "queue").write_text("".join(lines[len(lines) - jobs :]))


@pytest.mark.parametrize(("most", "room"), [(100, 100), (100, 37), (100, 1), (100, 0), (1, 1), (0, 9)])
def test_bisection_finds_what_is_taken_in_few_questions(most: int, room: int) -> None:
    asked = []

    def refusal_of(size: int) -> str | None:
        asked.append(size)
        return None if size <= room else f"{size} is too many"

    size, refusal = largest_taken(most, refusal_of)
    assert size == min(most, room)
    assert (refusal is None) == (room >= most)
    assert len(asked) <= 8


def test_a_limit_that_cannot_be_read_is_found_and_the_rest_is_submitted_by_the_same_order(
    slurm: Path, order: Order
) -> None:
    (slurm / "limit").write_text("5")
    (slurm / "largest").write_text("3")
    first = submit(order, now=NOW)
    assert str(first) == "5 of 9 submitted, 4 wait: the site takes no more now (AssocMaxSubmitJobLimit)"
    assert fake_slurm.arrays(slurm) == [3, 2]
    assert again(order).count == 0
    leave(slurm, 2)
    second = again(order)
    assert (second.count, str(second).split(":")[0]) == (3, "8 of 9 submitted, 1 waits")
    leave(slurm, 0)
    assert str(again(order)) == "9 of 9 submitted"
    assert len(set(jobs_of(first.runs))) == 9
    assert find_unfinished(order.request.experiments, order.runs) is None
    assert len(find_submitted(order.request.experiments, order.runs)) == 9


def test_no_place_at_all_is_a_refusal_unless_somebody_waits_for_one(slurm: Path, order: Order) -> None:
    (slurm / "limit").write_text("0")
    with pytest.raises(RunError, match="nothing was submitted: the site takes no more now") as refusal:
        submit(order, now=NOW)
    assert "--wait" in (refusal.value.hint or "")
    assert not list(order.runs.rglob("manifest.json"))
    waiting = submit(order, now=NOW, may_wait=True)
    assert (waiting.count, len(waiting.waiting)) == (0, 9)
    (slurm / "limit").unlink()
    assert again(order).count == 9


def test_an_array_that_is_refused_for_its_size_is_split(slurm: Path, order: Order) -> None:
    sbatch = (slurm / "sbatch").read_text()
    rule = '[ $tasks -gt 4 ] && refused "Invalid job array specification"\nwaiting='
    (slurm / "sbatch").write_text(sbatch.replace("waiting=", rule, 1))
    assert submit(order, now=NOW).count == 9
    assert fake_slurm.arrays(slurm) == [4, 4, 1]


def test_ctrl_c_between_two_arrays_loses_nothing(
    slurm: Path, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm / "largest").write_text("4")
    real, calls = submission.record_submitted, []

    def interrupted(run: RunDir, job_id: str, **proof: object) -> None:
        calls.append(job_id)
        if len(calls) > 6:
            raise KeyboardInterrupt
        real(run, job_id, **proof)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(submission, "record_submitted", interrupted)
        first = submit(order, now=NOW)
    assert isinstance(first.stopped_by, KeyboardInterrupt)
    assert "wait: interrupted" in str(first)
    second = again(order)
    assert str(second) == "9 of 9 submitted"
    assert len(set(jobs_of(first.runs))) == 9
    assert sum(fake_slurm.arrays(slurm)) == 9, (
        "a task of an array that SLURM had taken is not submitted again"
    )


def test_points_whose_folders_were_not_made_yet_are_made(slurm: Path, order: Order) -> None:
    (slurm / "limit").write_text("3")
    first = submit(order, now=NOW)
    for run in first.waiting[:2]:
        run.manifest.unlink()  # as after kill -9 before it was written
    (slurm / "limit").unlink()
    second = again(order)
    assert str(second) == "9 of 9 submitted"
    assert len({read_manifest(run)["spec_hash"] for run in second.runs}) == 9
    assert len({read_manifest(run)["sweep"] for run in second.runs}) == 1


def test_another_executor_does_not_take_over_the_rest(slurm: Path, order: Order) -> None:
    (slurm / "limit").write_text("3")
    submit(order, now=NOW)
    here = order_for(*order.request.experiments, runs=order.runs)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="wait to be submitted with executor slurm"):
        again(here)


def test_a_cancelled_point_is_submitted_by_nobody_but_requeue(slurm: Path, order: Order) -> None:
    (slurm / "limit").write_text("3")
    first = submit(order, now=NOW)
    point, other = first.waiting[0], first.waiting[1]
    (result,) = cancel([point], now=NOW)
    assert (result.changed, result.detail) == (True, "cancelled; it was not submitted yet")
    assert not cancel([point], now=NOW)[0].changed
    (slurm / "limit").unlink()
    (requeued,) = requeue([other], now=NOW)
    assert (requeued.changed, requeued.detail) == (True, "submitted")
    assert again(order).count == 4
    assert not jobs_of((point,))
    assert requeue([point], now=NOW)[0].changed
    assert len(set(jobs_of(first.runs))) == 9


def test_requeue_submits_what_the_site_takes_as_arrays_and_names_the_rest(slurm: Path, order: Order) -> None:
    (slurm / "limit").write_text("3")
    first = submit(order, now=NOW)
    (slurm / "limit").write_text("7")
    results = requeue(first.waiting, now=NOW)
    assert [result.changed for result in results] == [True] * 4 + [False] * 2
    assert results[-1].detail == "not submitted yet: the site takes no more now (AssocMaxSubmitJobLimit)"
    assert fake_slurm.arrays(slurm) == [3, 4]


def test_a_run_that_is_cancelled_while_others_are_submitted_is_left_out(
    slurm: Path, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slurm / "largest").write_text("4")
    real = submission.submit_array

    def then_cancel(runs: list[RunDir], *arguments: object, **options: object) -> list[str]:
        done = real(runs, *arguments, **options)  # type: ignore[arg-type]
        if len(fake_slurm.arrays(slurm)) == 1:
            last = sorted(order.runs.glob("small/2*"))
            unsubmitted = [RunDir(path) for path in last if not (path / "events.jsonl").exists()]
            cancel(unsubmitted[:1], now=NOW)
        return done

    monkeypatch.setattr(feed, "submit_array", then_cancel)
    assert submit(order, now=NOW).count == 9  # the cancelled one waits no longer
    assert sum(fake_slurm.arrays(slurm)) == 8


def test_arrays_that_are_under_way_have_their_share_of_the_sweeps_limit(slurm: Path, tmp_path: Path) -> None:
    order = order_for(
        *[small_experiment(seed=n) for n in range(9)], runs=tmp_path / "runs", profile=SLURM, parallel=9
    )
    (slurm / "limit").write_text("4")
    first = submit(order, now=NOW)
    (slurm / "limit").unlink()
    again(order)
    scripts = sorted((first.runs[0].path.parent).glob("sweep-*/submitit/*_submission.sh"))
    limits = [line for path in scripts for line in path.read_text().splitlines() if "--array" in line]
    assert limits == ["#SBATCH --array=0-3%4", "#SBATCH --array=0-4%4"]


def test_a_local_submission_that_outlives_its_caller_is_waited_for(tmp_path: Path) -> None:
    starter = tmp_path / "starter"
    starter.write_text(
        """#!/bin/bash
shift 2
kill -9 $PPID
sleep 1
for run in "$@"; do
    echo '{"t": "2026-11-22T00:00:00+00:00", "event": "submitted", "attempt": 0, "job_id": "1"}' >> "$run/events.jsonl"
done
"""
    )
    starter.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from tests.launch import test_feed as t;"
        "from sedd.launch import submit_local as m; m.sys.executable = sys.argv[2];"
        "t.submit(t.local_order(Path(sys.argv[1])), now=t.NOW)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "runs"), str(starter)]
    assert subprocess.run(command, check=False).returncode == -9
    done = again(local_order(tmp_path / "runs"))
    assert str(done) == "3 of 3 submitted"
    assert len(jobs_of(done.runs)) == 3


def local_order(runs: Path) -> Order:
    """Three runs on this machine."""
    return order_for(*[small_experiment(seed=n) for n in range(3)], runs=runs)
