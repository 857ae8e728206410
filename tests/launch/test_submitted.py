"""A second submission of the same spec is refused while the first still counts."""

import os
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.launch import liveness
from sedd.launch.submitted import (
    describe_progress,
    find_submitted,
    find_unfinished,
    one_submission,
    require_not_submitted,
)
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, create_run, write_manifest
from tests.command_line import by_permission
from tests.launch.conftest import small_experiment, write_events
from tests.launch.fake_slurm import install

SUBMITTED = {"event": "submitted"}
STARTED = {"event": "attempt_started", "attempt": 2}


def make(runs: Path, *events: dict[str, object], seed: int = 0, number: int = 0) -> RunDir:
    experiment = small_experiment(seed=seed)
    run = create_run(runs, experiment.name, f"20261122-00000{number}-{experiment.hash()[:8]}", "")
    write_manifest(run, {"spec_hash": experiment.hash()})
    write_events(run, *events)
    return run


@pytest.mark.parametrize(
    ("events", "standing"),
    [
        ([SUBMITTED], "waiting to start"),
        ([SUBMITTED, STARTED], "in attempt 2"),
        ([SUBMITTED, STARTED, {"event": "requeued"}], "waiting for its next attempt"),
        ([SUBMITTED, STARTED, {"event": "failed"}], "in attempt 2"),
        ([SUBMITTED, STARTED, {"event": "completed"}], "completed"),
        ([SUBMITTED, STARTED, {"event": "cancelled"}], None),
        ([SUBMITTED, STARTED, {"event": "gave_up"}], None),
        ([SUBMITTED, STARTED, {"event": "gave_up"}, SUBMITTED], "waiting to start"),
        ([{"event": "preflight"}], None),
    ],
)
def test_what_counts_as_submitted_already(
    events: list[dict[str, object]], standing: str | None, tmp_path: Path
) -> None:
    run = make(tmp_path, *events)
    assert describe_progress(read_events(run.events)) == standing
    assert bool(find_submitted([small_experiment()], tmp_path)) is (standing is not None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
@pytest.mark.parametrize(
    "events", [[SUBMITTED, STARTED], [{"event": "preflight"}]], ids=["submitted", "left half-way"]
)
def test_the_same_spec_of_another_user_hinders_nobody_and_is_left_to_them(
    events: list[dict[str, object]], tmp_path: Path
) -> None:
    """In a folder of runs that several share."""
    run, asked = make(tmp_path, *events), [small_experiment()]
    assert find_submitted(asked, tmp_path) or find_unfinished(asked, tmp_path)
    for path in (run.path, *run.path.rglob("*")):
        os.chown(path, 4711, 4711)
    with by_permission():
        require_not_submitted(asked, tmp_path)
        assert find_unfinished(asked, tmp_path) is None
        others = find_submitted(asked, tmp_path, of_others=True)
        assert [known.run for known in others] == ([run] if SUBMITTED in events else [])
        run.path.chmod(0o700)  # who works with umask 077, in a folder that a colleague made for all
        require_not_submitted(asked, tmp_path)
        assert find_unfinished(asked, tmp_path) is None
        assert find_submitted(asked, tmp_path, of_others=True) == []


def test_the_refusal_names_the_run_and_the_ways_on(tmp_path: Path) -> None:
    run = make(tmp_path, SUBMITTED, STARTED)
    with pytest.raises(RunError) as refusal:
        require_not_submitted([small_experiment()], tmp_path)
    assert run.id in refusal.value.message
    assert "in attempt 2" in refusal.value.message
    assert refusal.value.hint is not None
    assert "--resubmit" in refusal.value.hint
    assert refusal.value.exit_code == 1


def test_any_other_field_makes_another_spec(tmp_path: Path) -> None:
    make(tmp_path, SUBMITTED)
    require_not_submitted([small_experiment(seed=1)], tmp_path)
    require_not_submitted([small_experiment(name="other")], tmp_path)


def test_a_sweep_says_how_many_of_its_points_exist(tmp_path: Path) -> None:
    make(tmp_path, SUBMITTED, seed=1)
    with pytest.raises(RunError, match="1 of these 3 runs"):
        require_not_submitted([small_experiment(seed=n) for n in range(3)], tmp_path)


def test_where_no_run_can_be_made_the_folder_is_named_and_another_advised(tmp_path: Path) -> None:
    (tmp_path / "tiny" / ".submit.lock").mkdir(parents=True)
    with pytest.raises(RunError) as caught, one_submission(["tiny"], tmp_path):
        pass
    assert caught.value.message == f"cannot write into {tmp_path / 'tiny'}: is a directory"
    assert "SEDD_RUNS" in (caught.value.hint or "")


TOKEN, OTHER = 16 * "a", 16 * "b"
JOB = SUBMITTED | {"executor": "slurm", "job_id": "7", "token": TOKEN}
OURS, FOREIGN = f"7|sedd token={TOKEN}; folder=/runs/x", f"7|sedd token={OTHER}; folder=/runs/y"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of SLURM's commands, whose file `queue` has the jobs."""
    folder = install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize(
    ("events", "queue", "is_gone"),
    [
        ([JOB], "", True),
        ([JOB], OURS, False),
        ([JOB], FOREIGN, True),  # SLURM has lost its state, and counts anew
        ([JOB], f"6|x\n{OURS}", False),
        ([JOB, STARTED | {"executor": "slurm"}], "", True),
        ([JOB, STARTED | {"executor": "slurm"}, {"event": "requeued"}], OURS, False),
        ([JOB, STARTED | {"executor": "slurm"}, {"event": "requeued"}], "", True),
        ([JOB | {"host": "other"}, STARTED | {"executor": "foreground", "host": "other"}], "", False),
        ([JOB | {"cluster": "elsewhere"}], "", False),
        ([JOB, STARTED | {"executor": "slurm"}, {"event": "completed"}], "", False),
    ],
)
def test_a_run_whose_job_is_gone_is_not_called_waiting(
    events: list[dict[str, object]],
    queue: str,
    is_gone: bool,
    slurm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(liveness, "query_cluster_name", lambda: "here")
    run = make(tmp_path, *events)
    (slurm / "queue").write_text(f"{queue}\n")
    with pytest.raises(RunError) as refusal:
        require_not_submitted([small_experiment()], tmp_path)
    assert ("nothing of that waits or runs any more: job 7" in refusal.value.message) is is_gone
    assert (f"sedd requeue {run.id};" in (refusal.value.hint or "")) is is_gone
    assert ("is submitted already" in refusal.value.message) is not is_gone


def test_where_slurm_does_not_answer_the_events_have_the_word(slurm: Path, tmp_path: Path) -> None:
    make(tmp_path, JOB)
    (slurm / "down").touch()
    with pytest.raises(RunError, match=r"submitted already: .*, waiting to start"):
        require_not_submitted([small_experiment()], tmp_path)


def test_of_a_sweep_the_points_whose_jobs_are_gone_are_named_to_go_on_with(
    slurm: Path, tmp_path: Path
) -> None:
    lost = [make(tmp_path, JOB | {"job_id": f"7_{n}"}, seed=n, number=n) for n in (1, 2)]
    make(tmp_path, JOB | {"job_id": "7_3"}, seed=3, number=3)
    (slurm / "queue").write_text(OURS.replace("7|", "7_3|") + "\n")
    with pytest.raises(
        RunError, match=r"3 of these 4 runs .*nothing waits or runs any more of 2 runs"
    ) as refusal:
        require_not_submitted([small_experiment(seed=n) for n in range(4)], tmp_path)
    assert f"sedd requeue {lost[0].id} {lost[1].id};" in (refusal.value.hint or "")
