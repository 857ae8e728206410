"""Against a `scontrol` that plays a scene: it answers `show job` from a list and notes what it is asked to do."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.cluster.control import (
    JobCancelledError,
    JobGoneError,
    Requeue,
    RequeueRefusedError,
    cancel_requeued,
    is_requeued,
    requeue,
    sbatch_test_only,
    scancel,
    update_job,
)
from sedd.cluster.identity import ProvenJob, own_job, read_identity
from sedd.errors import ClusterError

JOB = ProvenJob(job_id="7")
Play = Callable[..., Path]

_SCRIPT = """#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = show ]; then
    n=$(($(cat shown 2>/dev/null || echo 0) + 1)); echo $n >shown
    [ -f "answer$n" ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
    cat "answer$n"; exit
fi
echo "$(basename "$0") $*" >>asked
if [ -f refusal ]; then cat refusal >&2; exit 1; fi
"""


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """`play("RUNNING", "PENDING 1", refusal=...)`: state, restart count and reason that SLURM shows in turn."""
    for name in ("scontrol", "scancel"):
        (tmp_path / name).write_text(_SCRIPT)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def scene(*shown: str, refusal: str | None = None) -> Path:
        for number, text in enumerate(shown, start=1):
            state, restarts, reason = [*text.split(), *["0", "None"][len(text.split()) - 1 :]]
            record = f"JobId=7 JobName=x\\n   JobState={state} Reason={reason}\\n   Requeue=1 Restarts={restarts}\\n"
            (tmp_path / f"answer{number}").write_text(record.replace("\\n", "\n"))
        if refusal:
            (tmp_path / "refusal").write_text(refusal)
        return tmp_path / "asked"

    return scene


def test_a_running_job_is_requeued(play: Play) -> None:
    asked = play("RUNNING")
    assert requeue(JOB) is Requeue.ASKED
    assert asked.read_text() == "scontrol requeue 7\n"


@pytest.mark.parametrize("shown", ["PENDING", "REQUEUED", "COMPLETING 1", "RUNNING 1"])
def test_a_job_that_went_back_already_is_left_alone(play: Play, shown: str) -> None:
    asked = play(shown)
    assert requeue(JOB, restarts=0) is Requeue.ALREADY
    assert not asked.exists()


@pytest.mark.parametrize(
    ("shown", "is_taken"),
    [
        ("COMPLETING 1", True),
        ("PENDING 1 BeginTime", True),
        ("PENDING 1 Resources", False),  # it may start any moment
        ("RUNNING 1", False),
        ("COMPLETING 2", False),  # a later start of it
        ("COMPLETING 0", False),
    ],
)
def test_only_a_job_on_its_way_back_is_taken_out_of_the_queue(play: Play, shown: str, is_taken: bool) -> None:
    asked = play(shown)
    assert cancel_requeued(JOB, restarts=0) is is_taken
    assert asked.exists() is is_taken


@pytest.mark.parametrize("shown", ["CANCELLED", "COMPLETING"])
def test_a_cancelled_job_is_never_revived(play: Play, shown: str) -> None:
    asked = play(shown)
    for ask in (requeue, is_requeued):
        play(shown, shown)
        with pytest.raises(JobCancelledError, match="cancelled"):
            ask(JOB, restarts=0)
    assert not asked.exists()


def test_a_job_that_has_the_id_now_is_not_requeued(play: Play) -> None:
    identity = read_identity({"job_id": "7", "token": "0" * 16}, noted_at=dt.datetime.now(dt.UTC))
    asked = play("RUNNING")
    (asked.parent / "answer1").open("a").write(f"   Comment=sedd token={'1' * 16}; folder=/runs/other\n")
    with pytest.raises(JobGoneError, match="another job has the id 7 now"):
        requeue(own_job("7", identity), restarts=0)
    assert not asked.exists()


@pytest.mark.parametrize("shown", ["FAILED", "TIMEOUT", "NODE_FAIL"])
def test_a_job_that_failed_can_be_revived(play: Play, shown: str) -> None:
    play(shown)
    assert requeue(JOB) is Requeue.ASKED


def test_preemption_that_was_faster_is_success(play: Play) -> None:
    play("RUNNING", "COMPLETING 1", refusal="Job is pending execution for job 7")
    assert requeue(JOB) is Requeue.ALREADY


def test_a_site_that_forbids_it_is_a_refusal(play: Play) -> None:
    play("RUNNING", "RUNNING", refusal="Requested operation is presently disabled for job 7")
    with pytest.raises(RequeueRefusedError, match="presently disabled"):
        requeue(JOB)


def test_a_forgotten_job_is_a_refusal(play: Play) -> None:
    play()
    with pytest.raises(RequeueRefusedError, match="no longer knows"):
        requeue(JOB)


@pytest.mark.parametrize(
    ("shown", "is_back"), [("RUNNING", False), ("PENDING", True), ("COMPLETING 1", True)]
)
def test_whether_slurm_has_requeued_a_job_is_only_looked_at(play: Play, shown: str, is_back: bool) -> None:
    asked = play(shown)
    assert is_requeued(JOB, restarts=0) is is_back
    assert not asked.exists()


def test_update_names_the_job_once_with_all_changes(play: Play) -> None:
    asked = play()
    update_job(ProvenJob(job_id="7_2"), exclude_nodes=["v100-1", "v100-3"], start_soon=True)
    assert asked.read_text() == "scontrol update JobId=7_2 ExcNodeList=v100-1,v100-3 StartTime=now+5\n"


def test_nothing_to_change_or_cancel_asks_nothing(play: Play) -> None:
    asked = play()
    update_job(JOB)
    scancel([])
    assert not asked.exists()


def test_scancel_takes_jobs_and_a_signal(play: Play) -> None:
    asked = play()
    scancel([ProvenJob(job_id="7_1"), ProvenJob(job_id="8")], signal="USR2")
    assert asked.read_text() == "scancel --quiet --signal=USR2 7_1 8\n"


def test_a_script_that_slurm_would_refuse_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ClusterError, match="sbatch --test-only: invalid partition specified: x"):
        sbatch_test_only("#!/bin/sh\ntrue")
