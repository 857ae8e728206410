import pytest

from sedd.cluster.sacct import parse_sacct
from sedd.cluster.states import JobState
from tests.cluster.recorded import RECORDED, sample


@pytest.mark.parametrize("version", RECORDED)
def test_each_attempt_is_a_fact_and_the_newest_is_last(version: str) -> None:
    facts = parse_sacct(sample(version, "sacct"))
    assert [f.state for f in facts if f.job_id == "9"] == [JobState.REQUEUED, JobState.PENDING]


@pytest.mark.parametrize("version", RECORDED)
def test_pending_tasks_of_an_array_are_expanded(version: str) -> None:
    facts = parse_sacct(sample(version, "sacct"))
    assert [f.job_id for f in facts if f.job_id.startswith("2_")] == ["2_0", "2_1", "2_2", "2_3", "2_4"]


@pytest.mark.parametrize("version", RECORDED)
def test_who_cancelled_does_not_hide_that_it_was(version: str) -> None:
    (fact,) = (f for f in parse_sacct(sample(version, "sacct")) if f.job_id == "8")
    assert fact.state is JobState.CANCELLED


@pytest.mark.parametrize("version", RECORDED)
def test_exit_code_of_what_ended_only(version: str) -> None:
    facts = {f.job_id: f for f in parse_sacct(sample(version, "sacct"))}
    assert (facts["4"].exit_code, facts["4"].exit_signal) == (3, 0)
    assert facts["1"].exit_code is None
    assert facts["1"].ended_at is None


@pytest.mark.parametrize("version", RECORDED)
def test_a_separator_in_a_name_stays_in_the_name(version: str) -> None:
    facts = {f.job_id: f for f in parse_sacct(sample(version, "sacct"))}
    assert facts["1"].name is not None
    assert facts["1"].name.startswith("esm big|small")


@pytest.mark.parametrize("version", RECORDED)
def test_lines_of_a_greeting_are_no_jobs(version: str) -> None:
    recorded = sample(version, "sacct")
    assert parse_sacct(f"job 3{'|' * 20}\n{recorded}") == parse_sacct(recorded)
