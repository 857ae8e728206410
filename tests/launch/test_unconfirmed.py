"""A submission that is killed at any moment is found again: nothing is lost, nothing is submitted twice."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.amend.extend import extend
from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.profile import SlurmProfile
from sedd.errors import ClusterError, RunError, SeddError
from sedd.launch import submit_slurm as submission
from sedd.launch.cancel import cancel
from sedd.launch.make_runs import Batch, make_runs
from sedd.launch.resources import slurm_parameters
from sedd.launch.submit_slurm import confirm_submissions, is_startable, submit_slurm
from sedd.launch.unconfirmed import find_notes
from sedd.rundir.attempts import is_cancelled
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir
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
def batch(tmp_path: Path) -> Batch:
    order = order_for(*[small_experiment(seed=n) for n in range(3)], runs=tmp_path / "runs", profile=SLURM)
    return make_runs(order, now=NOW, made=[])


def submit(batch: Batch) -> list[str]:
    code, submitit = batch.folder / "code", batch.folder / "submitit"
    parameters = slurm_parameters(small_experiment(), SLURM, code=code, submitit=submitit)
    return submit_slurm(batch.runs, parameters, folder=submitit)


def jobs_of(batch: Batch) -> list[list[str]]:
    return [
        [e.get("job_id") for e in read_events(run.events) if e.event == "submitted"] for run in batch.runs
    ]


ONCE = [["7_0"], ["7_1"], ["7_2"]]


def test_a_submission_that_was_recorded_leaves_no_note(slurm: Path, batch: Batch) -> None:
    submit(batch)
    assert jobs_of(batch) == ONCE
    assert not find_notes(batch.folder / "submitit")


def test_whoever_is_killed_before_the_events_is_found_by_the_jobs_comment(
    slurm: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run: RunDir, job_id: str, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(submission, "record_submitted", killed)
        with pytest.raises(KeyboardInterrupt):
            submit(batch)
    assert jobs_of(batch) == [[], [], []]
    confirm_submissions(batch.folder / "submitit")
    confirm_submissions(batch.folder / "submitit")
    assert jobs_of(batch) == ONCE


def test_a_job_whose_submitter_did_not_live_to_write_its_pickle_gets_it(slurm: Path, batch: Batch) -> None:
    (slurm / "after").write_text("kill -9 $PPID; exit\n")
    program = (
        "import sys; from pathlib import Path; from tests.launch import test_unconfirmed as t;"
        "from sedd.launch.make_runs import Batch; from sedd.rundir.layout import RunDir;"
        "t.submit(Batch(runs=tuple(RunDir(Path(p)) for p in sys.argv[2:]), folder=Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", program, *map(str, (batch.folder, *(run.path for run in batch.runs)))]
    assert subprocess.run(command, check=False).returncode == -9
    folder = batch.folder / "submitit"
    assert not is_startable(folder, "7_0")
    confirm_submissions(folder)
    assert jobs_of(batch) == ONCE
    assert all(is_startable(folder, f"7_{task}") for task in range(3))
    assert sorted(path.name for path in folder.glob("*.pkl")) == [f"7_{n}_submitted.pkl" for n in range(3)]


def test_an_sbatch_that_outlives_its_caller_is_waited_for(slurm: Path, batch: Batch) -> None:
    (slurm / "then").write_text("kill -9 $PPID; sleep 2\n")
    test_a_job_whose_submitter_did_not_live_to_write_its_pickle_gets_it(slurm, batch)
    assert len((slurm / "queue").read_text().splitlines()) == 3


def test_without_an_answer_of_slurm_the_note_stays(slurm: Path, batch: Batch) -> None:
    (slurm / "after").write_text(
        "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1\n"
    )
    with pytest.raises(SlurmUnreachableError):
        submit(batch)
    (slurm / "down").touch()
    with pytest.raises(ClusterError):
        confirm_submissions(batch.folder / "submitit")
    (slurm / "down").unlink()
    confirm_submissions(batch.folder / "submitit")
    assert jobs_of(batch) == ONCE


def unanswered(slurm: Path, batch: Batch) -> None:
    """SLURM takes the jobs, and says nothing of it from then on."""
    (slurm / "after").write_text(
        "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1\n"
    )
    with pytest.raises(SlurmUnreachableError):
        submit(batch)
    (slurm / "after").unlink()
    (slurm / "down").touch()


def test_a_run_without_a_job_is_cancelled_while_slurm_does_not_answer(slurm: Path, batch: Batch) -> None:
    """A job that SLURM has for it all the same starts nothing, and is ended when SLURM answers again."""
    unanswered(slurm, batch)
    one, *others = batch.runs
    (told,) = cancel([one], now=NOW)
    assert (told.changed, is_cancelled(read_events(one.events))) == (True, True)
    assert "SLURM does not answer" in told.detail
    assert not cancel([one], now=NOW)[0].changed
    (slurm / "down").unlink()
    confirm_submissions(batch.folder / "submitit")
    assert jobs_of(batch) == [[], ["7_1"], ["7_2"]]
    assert (slurm / "cancelled").read_text().split() == ["--quiet", "7_0"]
    assert is_cancelled(read_events(one.events))
    assert not any(is_cancelled(read_events(run.events)) for run in others)


def test_a_run_that_had_ended_when_it_was_cancelled_has_no_job_to_ask_about(
    slurm: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(batch)
    run = batch.runs[0]
    append_event(run.events, "cancelled", attempt=0, now=NOW, over=True)
    monkeypatch.setenv("PATH", "")
    assert [(each.changed, each.detail) for each in cancel([run], now=NOW)] == [(False, "cancelled already")]
    with pytest.raises(SlurmUnreachableError):
        cancel([batch.runs[1]], now=NOW)


def test_what_is_not_submitted_cannot_be_extended_whatever_slurm_says(slurm: Path, batch: Batch) -> None:
    unanswered(slurm, batch)
    with pytest.raises(RunError, match="not submitted yet"):
        extend(batch.runs[0], 1000, rewarm=None, check=lambda _: None, now=NOW)


def test_a_refusal_leaves_no_note_and_no_file(slurm: Path, batch: Batch) -> None:
    (slurm / "refuse").write_text("Invalid qos")
    with pytest.raises(SeddError, match="Invalid qos"):
        submit(batch)
    left = [path.name for path in (batch.folder / "submitit").iterdir()]
    assert left == [".submit.lock"]


def test_what_slurm_never_took_waits_to_be_submitted(slurm: Path, batch: Batch) -> None:
    (slurm / "then").write_text(
        "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1\n"
    )
    with pytest.raises(SlurmUnreachableError):
        submit(batch)
    confirm_submissions(batch.folder / "submitit")
    assert jobs_of(batch) == [[], [], []]
    assert not find_notes(batch.folder / "submitit")
    (slurm / "then").unlink()
    submit(batch)
    assert [len(jobs) for jobs in jobs_of(batch)] == [1, 1, 1]


def test_a_note_on_a_full_disk_keeps_sbatch_from_being_called(
    slurm: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sedd.launch.unconfirmed.write_text", full)
    with pytest.raises(SeddError, match="No space left"):
        submit(batch)
    assert not (slurm / "queue").read_text()
