"""An id alone is no proof: whose job SLURM shows."""

import ast
import dataclasses
import datetime as dt
import inspect
from pathlib import Path

import pytest

from sedd.cluster import control, identity
from sedd.cluster.identity import (
    ForeignJobError,
    JobIdentity,
    Mark,
    OtherClusterError,
    ProvenJob,
    is_same_job,
    new_mark,
    parse_mark,
    prove_job,
)
from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
FOLDER = "/shared/my runs/small/20261122-120000-1a2b3c4d"
MARK = Mark(token="0123456789abcdef", folder=FOLDER)
OURS = JobIdentity(
    job_id="7", noted_at=NOW, cluster="old", user="ada", token=MARK.token, folders=(f"{FOLDER}/submitit",)
)
SHOWN = JobFact(
    job_id="7", state=JobState.RUNNING, user="ada", submitted_at=NOW, comment=MARK.comment("night run")
)
OF_FORMAT_1 = dataclasses.replace(OURS, cluster=None, user=None, token=None)


@pytest.mark.parametrize("users", [None, "night run", "a; folder=/elsewhere", "continues=3"])
@pytest.mark.parametrize("continues", [None, "12_3"])
def test_a_mark_is_read_back_from_any_comment(users: str | None, continues: str | None) -> None:
    mark = dataclasses.replace(new_mark(Path("/a b/c; d"), continues=continues))
    if users == "a; folder=/elsewhere":
        assert parse_mark(mark.comment(users)).token == mark.token  # type: ignore[union-attr]
    elif users != "continues=3":
        assert parse_mark(mark.comment(users)) == mark


@pytest.mark.parametrize("comment", [None, "", "night run", "sedd token=12", "sedd: run continues 3"])
def test_other_comments_have_no_mark(comment: str | None) -> None:
    assert parse_mark(comment) is None


def test_no_two_marks_are_the_same() -> None:
    assert len({new_mark(Path("/a")).token for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("changes", "is_ours"),
    [
        ({}, True),
        ({"restarts": 3, "submitted_at": NOW + dt.timedelta(days=2)}, True),  # a requeue counts from then
        ({"user": "eve"}, False),
        ({"comment": new_mark(Path(FOLDER)).comment()}, False),  # a later submission of ours, even
        # A site that rewrites comments: the script's folder tells, then the time.
        ({"comment": None, "script": f"{FOLDER}/submitit/job.sh"}, True),
        ({"comment": None, "script": "/home/ada/other.sh"}, False),
        ({"comment": None}, True),
        ({"comment": None, "submitted_at": NOW - dt.timedelta(hours=1)}, False),
        ({"comment": None, "submitted_at": NOW + dt.timedelta(hours=1)}, False),
        ({"comment": None, "submitted_at": None}, False),
    ],
)
def test_what_shows_whose_job_it_is(changes: dict[str, object], is_ours: bool) -> None:
    fact = dataclasses.replace(SHOWN, **changes)  # type: ignore[arg-type] # any field
    assert is_same_job(OURS, fact, cluster="old") is is_ours


def test_a_job_of_another_cluster_is_another_job() -> None:
    assert not is_same_job(OURS, SHOWN, cluster="new")
    assert is_same_job(OURS, SHOWN, cluster=None), "where the name is not known the token tells"


def test_the_exact_time_of_submission_is_asked_for_where_it_was_noted() -> None:
    exact = dataclasses.replace(OF_FORMAT_1, submitted_at=NOW)
    fact = dataclasses.replace(SHOWN, comment=None)
    assert is_same_job(exact, fact, cluster=None)
    late = dataclasses.replace(fact, submitted_at=NOW + dt.timedelta(seconds=1))
    assert not is_same_job(exact, late, cluster=None)


def test_a_run_of_format_1_is_known_by_its_script_and_owns_no_marked_job() -> None:
    plain = dataclasses.replace(SHOWN, comment=None, script=f"{FOLDER}/submitit/job.sh")
    assert is_same_job(OF_FORMAT_1, plain, cluster="old")
    assert not is_same_job(OF_FORMAT_1, SHOWN, cluster="old")


def show(monkeypatch: pytest.MonkeyPatch, fact: JobFact | None, cluster: str = "old") -> None:
    monkeypatch.setattr(identity, "query_job", lambda job_id, timeout_s: fact)
    monkeypatch.setattr(identity, "query_cluster_name", lambda timeout_s: cluster)


def test_a_proof_holds_the_job_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, SHOWN)
    assert prove_job(OURS) == ProvenJob(job_id="7", fact=SHOWN, identity=OURS)
    show(monkeypatch, None)
    assert prove_job(OURS).fact is None


def test_a_strangers_job_is_named_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, dataclasses.replace(SHOWN, comment=None, user="eve", name="fold"))
    with pytest.raises(ForeignJobError, match=r"another job has the id 7 now \(eve's fold\)"):
        prove_job(OURS)


def test_the_other_clusters_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, SHOWN, cluster="new")
    with pytest.raises(OtherClusterError, match="cluster old, and this is cluster new") as error:
        prove_job(OURS)
    assert "old" in (error.value.hint or "")


CHANGING = {("scontrol", "requeue"), ("scontrol", "update"), ("scontrol", "release"), ("scontrol", "hold")}


def changes_something(words: list[object]) -> bool:
    return words[:1] == ["scancel"] or tuple(words[:2]) in CHANGING


def test_only_one_file_changes_jobs_and_it_takes_proven_ones_only() -> None:
    package = Path(inspect.getfile(control)).parents[1]
    users = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.List)
        if changes_something([part.value if isinstance(part, ast.Constant) else None for part in node.elts])
    }
    assert users == {"control.py"}
    acting = [control.requeue, control.release, control.update_job, control.scancel, control.is_requeued]
    for function in acting:
        first = next(iter(inspect.signature(function).parameters.values()))
        assert "ProvenJob" in str(first.annotation), function.__name__


def test_the_guard_sees_a_command_that_changes_something() -> None:
    assert changes_something(["scancel", None])
    assert changes_something(["scontrol", "update", None])
    assert not changes_something(["scontrol", "show", "job"])
