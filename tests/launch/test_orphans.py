"""Jobs of ours without a run folder are found, strangers' are not: by files, with SLURM's answers made up."""

import datetime as dt
from pathlib import Path

import pytest

from sedd.cluster.identity import ProvenJob, new_mark
from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.errors import RunError
from sedd.launch import orphans as module
from sedd.launch.orphans import Orphan, cancel_orphans, find_orphans, find_owner
from sedd.launch.unconfirmed import noted
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


class Cluster:
    """Jobs with their whole comments; which of them were asked to end."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobFact] = {}
        self.ended: list[str] = []
        self.asked = 0

    def add(self, job_id: str, comment: str | None, *, state: JobState = JobState.PENDING) -> JobFact:
        self.jobs[job_id] = JobFact(job_id=job_id, state=state, name="small", user="ada", comment=comment)
        return self.jobs[job_id]

    def squeue(self) -> list[JobFact]:
        """As the monitor's question shows them: of the comment only its beginning."""
        return [
            JobFact(job_id=j.job_id, state=j.state, name=j.name, user=j.user, comment=(j.comment or "")[:28])
            for j in self.jobs.values()
        ]

    def comments(self, user: str) -> str:
        self.asked += 1
        return "".join(f"{j.job_id}|{j.comment or '(null)'}\n" for j in self.jobs.values() if j.user == user)

    def show(self, job_id: str) -> list[JobFact]:
        return [j for j in self.jobs.values() if job_id in (j.job_id, j.job_id.partition("_")[0])]

    def scancel(self, jobs: list[ProvenJob]) -> None:
        self.ended += [job.job_id for job in jobs]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(module, "query_comments", cluster.comments)
    monkeypatch.setattr(module, "query_jobs", cluster.show)
    monkeypatch.setattr(module, "scancel", cluster.scancel)
    return cluster


def make(root: Path, identity: str, **manifest: object) -> RunDir:
    run = create_run(root, "small", identity, "name: small\n")
    write_manifest(run, {"created": NOW.isoformat(), "executor": "slurm"} | manifest)
    return run


def submit(cluster: Cluster, run: RunDir, job_id: str, *, folder: Path | None = None, token: str = "") -> str:
    """A job of the run in the queue, and its event; returns the token."""
    mark = new_mark(folder or run.path)
    token = token or mark.token
    cluster.add(job_id, mark.comment().replace(mark.token, token))
    append_event(
        run.events, "submitted", attempt=0, now=NOW, job_id=job_id, executor="slurm", token=token, user="ada"
    )
    return token


def find(cluster: Cluster, claimed: set[tuple[str, str]] | None = None) -> list[str]:
    return [o.description for o in find_orphans(cluster.squeue(), user="ada", claimed=claimed or set())]


def test_a_job_whose_folder_is_gone_is_an_orphan_and_others_are_not(cluster: Cluster, tmp_path: Path) -> None:
    kept, lost = make(tmp_path, "20261122-080000-aaaaaaaa"), make(tmp_path, "20261122-080001-aaaaaaaa")
    submit(cluster, kept, "1")
    submit(cluster, lost, "2")
    cluster.add("3", "no token=ffffffffffffffff of sedd")
    cluster.add("4", None)
    cluster.add("5", new_mark(tmp_path / "gone").comment(), state=JobState.COMPLETED)
    assert find(cluster) == []
    lost.path.rename(tmp_path / "elsewhere")
    assert find(cluster) == [f"job 2 (small) belongs to no run folder: {lost.path} is gone"]
    assert find_orphans(cluster.squeue(), user="eve", claimed=set()) == []


def test_slurm_is_asked_again_only_for_jobs_that_no_known_run_claims(
    cluster: Cluster, tmp_path: Path
) -> None:
    token = submit(cluster, make(tmp_path, "20261122-080000-aaaaaaaa"), "1")
    assert find(cluster, {(token, "1")}) == []
    assert cluster.asked == 0
    assert find(cluster, {(token, "2")}) == []
    assert cluster.asked == 1


def test_of_a_sweep_only_the_points_whose_folders_are_gone(cluster: Cluster, tmp_path: Path) -> None:
    sweep = tmp_path / "small" / "sweep-1"
    points = [make(tmp_path, f"20261122-08000{n}-aaaaaaaa", sweep="sweep-1") for n in range(3)]
    sweep.mkdir()
    token = submit(cluster, points[0], "7_0", folder=sweep)
    for number in (1, 2):
        submit(cluster, points[number], f"7_{number}", folder=sweep, token=token)
    assert find(cluster) == []
    points[1].path.rename(tmp_path / "elsewhere")
    assert find(cluster) == [f"job 7_1 (small) belongs to no run folder: {sweep} has no run of it"]


def test_a_job_that_is_being_submitted_is_no_orphan(cluster: Cluster, tmp_path: Path) -> None:
    run, mark = make(tmp_path, "20261122-080000-aaaaaaaa"), new_mark(tmp_path)
    cluster.add("1", new_mark(run.path).comment())
    with noted(run.submitit, mark.token, [run]):
        assert find(cluster) == []
        with pytest.raises(RunError, match="is being submitted"):
            find_owner("1", runs=tmp_path)


def test_the_owner_of_a_job_is_its_run_wherever_that_lives_now(cluster: Cluster, tmp_path: Path) -> None:
    run = make(tmp_path / "runs", "20261122-080000-aaaaaaaa")
    submit(cluster, run, "1")
    found = find_owner("1", runs=tmp_path / "other root")
    assert isinstance(found, RunDir)
    assert found.path == run.path
    moved = tmp_path / "runs" / "kept" / run.id
    moved.parent.mkdir()
    run.path.rename(moved)
    found = find_owner("1", runs=tmp_path / "runs")
    assert isinstance(found, RunDir)
    assert found.path == moved
    (orphan,) = find_owner("1", runs=tmp_path / "other root")  # type: ignore[misc] # a list
    assert isinstance(orphan, Orphan)
    cancel_orphans([orphan])
    assert cluster.ended == ["1"]


def test_a_job_without_our_token_or_of_another_user_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("3", "my own business")
    with pytest.raises(RunError, match="was not submitted by sedd"):
        find_owner("3", runs=tmp_path)
    cluster.add("4", new_mark(tmp_path / "gone").comment())
    monkeypatch.setattr(module.os, "geteuid", lambda: 1002)
    monkeypatch.setattr(module, "user_name", lambda uid: "eve")
    with pytest.raises(RunError, match="is a job of ada"):
        find_owner("4", runs=tmp_path)
    assert find_owner("5", runs=tmp_path) == []
    assert cluster.ended == []


def test_a_folder_that_may_not_be_read_is_not_taken_for_gone(cluster: Cluster, tmp_path: Path) -> None:
    run = make(tmp_path, "20261122-080000-aaaaaaaa")
    cluster.add("1", new_mark(run.path).comment())
    assert len(find(cluster)) == 1, "it has never submitted this job"

    def refuse(path: object, mode: int) -> bool:
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.os, "access", refuse)
        assert find(cluster) == []
