"""The batch script's last line: what the job entries left undone is done, once."""

import json
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from submitit.core.utils import DelayedSubmission, JobPaths

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.setup import ENDED, FAILED
from sedd.job import batch_end, final_events
from sedd.job.attempt import Task
from sedd.job.batch_end import finish, is_done
from sedd.job.causes import Ending
from sedd.job.entry import make_task, note_all_done
from sedd.job.environment import read_slurm_environment
from sedd.job.finish_attempt import finish_attempt
from sedd.launch.make_runs import make_runs
from sedd.launch.pickled_job import Job
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.rundir.read_usage import read_job_ends
from tests.launch.conftest import order_for, small_experiment, story, write_events
from tests.launch.test_submit import NOW

SUBMITTED = {"event": "submitted", "job_id": "120_3", "executor": "slurm"}
STARTED = {"event": "attempt_started", "attempt": 1, "job_id": "120_3", "restarts": 0, "host": "v100-2"}
VARIABLES = {
    "SLURM_JOB_ID": "123",
    "SLURM_ARRAY_JOB_ID": "120",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURMD_NODENAME": "v100-1",
}


class Slurm:
    """A stand-in for scontrol that knows one array task and notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.show("RUNNING")
        script = f"""#!/bin/bash
echo "$*" >> '{folder}/asked'
[ "$1" = show ] && cat '{folder}/job'
[ "$1" = requeue ] && sed -i 's/JobState=[A-Z]*/JobState=PENDING/; s/Restarts=0/Restarts=1/' '{folder}/job'
exit 0
"""
        (folder / "scontrol").write_text(script)
        (folder / "scontrol").chmod(stat.S_IRWXU)

    def show(self, state: str, more: str = "") -> None:
        job = f"JobId=123 ArrayJobId=120 ArrayTaskId=3 JobName=x\n   JobState={state} Restarts=0 Requeue=1 {more}\n"
        (self.folder / "job").write_text(job)

    def asked(self, what: str) -> list[str]:
        path = self.folder / "asked"
        return (
            [line for line in path.read_text().splitlines() if line.startswith(what)] if path.exists() else []
        )


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    stand_in = Slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{stand_in.folder}:{os.environ['PATH']}")
    return stand_in


def task_of(run: RunDir) -> Task:
    return make_task(run, read_slurm_environment(VARIABLES))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    profile = SlurmProfile(executor="slurm", exclude="v100-4")
    return make_runs(
        order_for(small_experiment(), runs=tmp_path / "runs", profile=profile), now=NOW, made=[]
    ).runs[0]


def test_an_attempt_without_a_last_word_was_killed_and_is_requeued_by_its_task_name(
    run: RunDir, slurm: Slurm
) -> None:
    write_events(run, SUBMITTED, STARTED)
    assert finish(task_of(run)) == 0
    assert story(run)[-2:] == ["failed:killed", "requeued:killed"]
    assert slurm.asked("requeue") == ["requeue 120_3"]
    assert finish(task_of(run)) == 0
    assert slurm.asked("requeue") == ["requeue 120_3"], "asked once, though the job is going back already"


def test_events_that_cannot_be_read_for_a_moment_do_not_cost_the_run(
    run: RunDir, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry and then the batch script failed for it, and nobody asked for another attempt."""
    write_events(run, SUBMITTED, STARTED)
    aside, moments = run.events.with_name("aside"), iter(range(2))
    run.events.rename(aside)
    run.events.mkdir()  # it cannot be read

    def pause(seconds: float) -> None:
        if next(moments, None) == 1:
            run.events.rmdir()
            aside.rename(run.events)

    monkeypatch.setattr(final_events.time, "sleep", pause)
    assert finish(task_of(run)) == 0
    assert story(run)[-2:] == ["failed:killed", "requeued:killed"]
    assert slurm.asked("requeue") == ["requeue 120_3"]


def test_a_job_whose_entries_died_before_they_could_count_themselves_is_counted(
    run: RunDir, slurm: Slurm
) -> None:
    write_events(run, SUBMITTED, STARTED, {"event": "requeued", "attempt": 1, "cause": "preempted"})
    again = make_task(run, read_slurm_environment(VARIABLES | {"SLURM_RESTART_COUNT": "1"}))
    assert finish(again) == 0
    assert story(run)[3:] == ["attempt_started", "failed:killed", "requeued:killed"]


def test_a_requeue_that_was_announced_but_never_asked_for_is_asked_for(run: RunDir, slurm: Slurm) -> None:
    write_events(run, SUBMITTED, STARTED, {"event": "requeued", "attempt": 1, "cause": "preempted"})
    assert finish(task_of(run)) == 0
    assert slurm.asked("requeue") == ["requeue 120_3"]


def test_a_user_who_cancels_between_the_last_word_and_the_request_is_obeyed(
    run: RunDir, slurm: Slurm
) -> None:
    """Neither a requeue nor a job that continues it."""
    slurm.show("COMPLETING")
    write_events(run, SUBMITTED, STARTED, {"event": "requeued", "attempt": 1, "cause": "preempted"})
    finish(task_of(run))
    assert story(run)[3:] == ["cancelled"]
    assert not slurm.asked("requeue")


@pytest.mark.parametrize(("word", "code"), [("completed", 0), ("cancelled", 0), ("gave_up", 1)])
def test_what_is_decided_stays_decided(run: RunDir, slurm: Slurm, word: str, code: int) -> None:
    write_events(run, SUBMITTED, STARTED, {"event": word, "attempt": 1})
    before = run.events.read_bytes()
    assert finish(task_of(run)) == code
    assert run.events.read_bytes() == before
    assert not slurm.asked("requeue")


def test_a_cancelled_job_is_not_revived(run: RunDir, slurm: Slurm) -> None:
    slurm.show("COMPLETING")
    write_events(run, SUBMITTED, STARTED)
    assert finish(task_of(run)) == 0
    assert story(run)[-1] == "cancelled"
    assert not slurm.asked("requeue")


def test_a_node_fault_excludes_the_node_of_the_failed_rank_and_the_profiles_own(
    run: RunDir, slurm: Slurm
) -> None:
    fault = {"event": "failed", "attempt": 1, "cause": "node_fault", "rank": 5, "host": "v100-3"}
    write_events(run, SUBMITTED, STARTED, fault)
    assert finish(task_of(run)) == 0
    assert slurm.asked("update") == ["update JobId=120_3 ExcNodeList=v100-4,v100-3"]


def test_when_the_budget_is_spent_the_job_fails(run: RunDir, slurm: Slurm) -> None:
    crash = {"event": "failed", "cause": "crashed", "rank": 0}
    write_events(
        run,
        SUBMITTED,
        STARTED,
        crash | {"attempt": 1},
        {"event": "requeued", "attempt": 1, "cause": "crashed"},
        STARTED | {"attempt": 2, "restarts": 0},
        crash | {"attempt": 2},
    )
    assert finish(task_of(run)) == 1
    assert json.loads(run.events.read_text().splitlines()[-1])["event"] == "gave_up"
    assert not slurm.asked("requeue")


def test_a_setup_that_ended_the_script_ends_the_run_and_is_named(
    tmp_path: Path, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = SlurmProfile(executor="slurm", setup=("set -e", "module load cuda"))
    order = order_for(small_experiment(), runs=tmp_path / "runs", profile=profile)
    run = make_runs(order, now=NOW, made=[]).runs[0]
    write_events(run, SUBMITTED)
    monkeypatch.setenv(FAILED, "2 1")
    monkeypatch.setenv(ENDED, "1")
    assert finish(task_of(run)) == 1
    assert story(run)[1:] == ["attempt_started", "failed:crashed", "gave_up:crashed"]
    assert (
        "line 2 of setup: in the profile failed with exit code 1: module load cuda" in run.events.read_text()
    )
    assert not slurm.asked("requeue")


def test_a_job_that_died_before_its_first_line_says_what_it_printed_last(run: RunDir, slurm: Slurm) -> None:
    write_events(run, SUBMITTED)
    output = run.submitit / "120_3_0_log.out"
    output.write_text("loading modules\nModuleNotFoundError: No module named 'submitit'\n\n")
    task = make_task(run, read_slurm_environment(VARIABLES | {"SEDD_STEP_EXIT": "1"}))
    assert finish(task, output=output) == 0
    failed = next(e for e in read_events(run.events) if e.event == "failed")
    assert failed.get("cause") == "crashed"
    expected = "exit code 1 before its first line: No module named 'submitit'"
    assert failed.get("error") == expected
    assert slurm.asked("requeue")


@pytest.mark.parametrize(("code", "error"), [("137", "killed by SIGKILL"), ("", "the job's processes ended")])
def test_sigkill_is_said_only_where_srun_says_so(run: RunDir, slurm: Slurm, code: str, error: str) -> None:
    write_events(run, SUBMITTED, STARTED)
    finish(make_task(run, read_slurm_environment(VARIABLES | {"SEDD_STEP_EXIT": code})))
    failed = next(e for e in read_events(run.events) if e.event == "failed")
    assert failed.get("error").startswith(error)
    assert failed.get("cause") == "killed"


def test_the_end_of_an_attempt_reads_no_events_again(
    run: RunDir, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(run, SUBMITTED, STARTED)
    events = read_events(run.events)
    for name, module in list(sys.modules.items()):
        if name.startswith("sedd.") and hasattr(module, "read_events"):
            monkeypatch.setattr(module, "read_events", lambda path: pytest.fail("events are read again"))
    killed = Ending(exit_code=-9, signals=frozenset(), time_left_s=None, rank=0)
    result = finish_attempt(task_of(run), killed, events, attempt=1, has_entries=False)
    assert result.next is not None
    assert slurm.asked("requeue")


def test_a_run_folder_that_is_gone_is_named_and_one_that_is_back_is_finished_by_its_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(batch_end, "FOLDER_PATIENCE_S", 0.1)
    assert batch_end.main(str(tmp_path / "gone")) == 1
    assert "error: the run folder did not come back within 0 s" in capsys.readouterr().out

    run = RunDir(tmp_path / "back")
    run.submitit.mkdir(parents=True)
    delayed = DelayedSubmission(Job(str(run.path)))
    delayed.set_timeout(60, max_num_timeout=0)
    delayed.dump(JobPaths(run.submitit, job_id="120_3").submitted_pickle)
    started: list[list[str]] = []

    def come_back(is_so: Callable[[], bool], *, timeout_s: float) -> bool:
        run.manifest.write_text("{}")
        return is_so()

    def start_anew(program: str, arguments: list[str]) -> NoReturn:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(batch_end, "wait_until", come_back)
    monkeypatch.setattr(os, "execv", start_anew)
    with pytest.raises(SystemExit):
        batch_end.main(str(run.submitit))
    assert started == [[sys.executable, "-m", "sedd.job.batch_end", str(run.submitit)]]


DONE = VARIABLES | {"SUBMITIT_EXECUTOR": "slurm", "SEDD_JOB_START": "1796000000", "SEDD_STEP_EXIT": "0"}


def note_done(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, *, leaves_one: bool = False, **changes: str
) -> bool:
    """Whether a job entry that comes to its end in such an environment notes that nothing is left to do.

    In a process of its own: that of the tests may have children of other tests.
    """
    for name, value in (DONE | changes).items():
        monkeypatch.setenv(name, value)

    def end() -> None:
        left = subprocess.Popen(["sleep", "60"]) if leaves_one else None
        note_all_done(str(run.path))
        if left is not None:
            left.kill()

    process = multiprocessing.get_context("fork").Process(target=end)
    process.start()
    process.join()
    assert process.exitcode == 0
    return any(run.submitit.glob("*.done"))


def test_where_the_entries_have_done_all_the_last_line_imports_next_to_nothing(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that continues the run waits for it."""
    write_events(run, SUBMITTED, STARTED)
    assert note_done(run, monkeypatch)
    command = [sys.executable, "-X", "importtime", "-m", "sedd.job.batch_end", str(run.submitit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sedd.job.environment" in done.stderr
    assert not {"pydantic", "submitit", "sedd.job.entry"} & {
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines()
    }
    assert list(read_job_ends(run.job_ends)) == [1]
    assert not is_done(run.submitit, DONE, now=NOW), "said once, of one start of the job"


@pytest.mark.parametrize(
    "changes",
    [
        {"SEDD_STEP_EXIT": "137"},  # another entry was killed
        {"SEDD_STEP_EXIT": ""},
        {"SEDD_JOB_START": "1796000001"},  # another start of the job
        {"SLURM_JOB_ID": "124"},
        {"SEDD_JOB_START": ""},
    ],
)
def test_the_last_line_looks_itself_unless_all_entries_of_this_start_ended_well(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    assert note_done(run, monkeypatch)
    assert not is_done(run.submitit, DONE | changes, now=NOW)
    of_this_start = {*changes} == {"SEDD_STEP_EXIT"}
    assert any(run.submitit.glob("*.done")) is not of_this_start, "nobody looks at it again"
    assert is_done(run.submitit, DONE, now=NOW) is not of_this_start


@pytest.mark.parametrize("step_exit", ["0", "1", "143"])
def test_no_start_of_a_job_leaves_its_file_behind(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, step_exit: str
) -> None:
    """SLURM has killed the scripts of two earlier starts; a job that gives way ends with another code than 0."""
    for began, job_id in (("1795000000", "123"), ("1795900000", "119")):
        (run.submitit / f"{job_id}-{began}.done").write_text(str(run.path))
    assert note_done(run, monkeypatch)
    is_done(run.submitit, DONE | {"SEDD_STEP_EXIT": step_exit}, now=NOW)
    assert not any(run.submitit.glob("*.done"))


REQUEUED = {"event": "requeued", "attempt": 1, "cause": "preempted"}
ELSEWHERE = STARTED | {"attempt": 2, "restarts": 1}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([REQUEUED], True),
        ([], False),  # another entry leads: nobody was told, no fellow woken
        ([REQUEUED, ELSEWHERE], False),  # this start is late: the attempt that began last is not its own
    ],
)
def test_an_entry_says_so_only_of_its_own_attempt_that_has_its_final_event(
    run: RunDir, events: list[dict[str, Any]], expected: bool
) -> None:
    write_events(run, SUBMITTED, STARTED, *events)
    environment = os.environ | DONE | {"PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"}
    script = (
        "import sys, sedd.job.entry as entry, runpy, sedd.job.supervisor as supervisor\n"
        "supervisor.supervise = lambda task, box: 0\n"
        "sys.argv = ['entry', sys.argv[1]]\n"
        "del sys.modules['sedd.job.entry']\n"
        "runpy.run_module('sedd.job.entry', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(run.submitit.glob("*.done")) == expected


def test_of_a_points_first_job_it_is_said_where_the_sweep_has_its_files(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "submitit").mkdir(parents=True)
    run.code.rename(sweep / "code")
    run.code.symlink_to(sweep / "code", target_is_directory=True)
    pickle = sweep / "submitit" / "120_3_submitted.pkl"
    pickle.touch()
    assert not note_done(run, monkeypatch)
    assert is_done(sweep / "submitit", DONE, now=NOW)
    pickle.unlink()
    assert note_done(run, monkeypatch), "a job that continues the point has its files in the run"


def test_only_the_first_tasks_entry_says_so_and_only_when_it_leaves_no_process(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not note_done(run, monkeypatch, SLURM_PROCID="1")
    assert not note_done(run, monkeypatch, SUBMITIT_EXECUTOR="local", SUBMITIT_LOCAL_JOB_ID="1")
    assert not note_done(run, monkeypatch, leaves_one=True, SLURM_PROCID="0", SUBMITIT_EXECUTOR="slurm")
    assert note_done(run, monkeypatch, SLURM_PROCID="0", SUBMITIT_EXECUTOR="slurm")
