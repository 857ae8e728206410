import time

import pytest

from sedd.cluster import squeue
from sedd.cluster.squeue import parse_comments, parse_squeue
from sedd.cluster.states import JobState
from tests.cluster.recorded import RECORDED, sample


@pytest.mark.parametrize("version", RECORDED)
def test_every_job_of_the_recorded_queue_is_there_once(version: str) -> None:
    jobs = {job.job_id: job for job in parse_squeue(sample(version, "squeue"))}
    assert set(jobs) == {"1", "2_0", "2_1", "2_2", "2_3", "2_4", *map(str, range(3, 11)), "12", "13"}
    assert jobs["1"].state is JobState.RUNNING
    assert jobs["1"].nodes == "v100-1"
    assert jobs["1"].time_limit_s == 26 * 3600
    assert jobs["2_0"].slurm_id == "11"
    assert (jobs["2_3"].state, jobs["2_3"].reason) == (JobState.PENDING, "JobArrayTaskLimit")
    assert jobs["2_3"].nodes is None
    assert jobs["3"].reason == "BeginTime"
    assert jobs["3"].starts_at is not None
    assert jobs["3"].submitted_at is not None
    assert (jobs["3"].starts_at - jobs["3"].submitted_at).total_seconds() == 3600
    assert (jobs["4"].state, jobs["4"].reason) == (JobState.FAILED, "NonZeroExitCode")
    assert jobs["8"].state is JobState.COMPLETING
    assert (jobs["9"].state, jobs["9"].restarts) == (JobState.COMPLETING, 1)
    assert jobs["12"].partition == "urgent"


@pytest.mark.parametrize("version", RECORDED)
def test_a_squeue_that_prints_no_separators_is_read_by_its_columns(version: str) -> None:
    """As squeue did before it knew a suffix in `--Format=type:size<suffix>` (src/squeue/opts.c up to about 20.02)."""
    with_suffixes = sample(version, "squeue")
    widths = [int("".join(c for c in field if c.isdigit())) for field in squeue.FORMAT.split(",")]
    columns = []
    for line in with_suffixes.splitlines():
        start, fields = 0, []
        for width in widths:
            fields.append(line[start : start + width])
            start += width + 1
        columns.append("".join(fields))
    assert "|" not in columns[0]
    assert parse_squeue("\n".join(columns)) == parse_squeue(with_suffixes)


@pytest.mark.parametrize("version", RECORDED)
def test_a_name_may_hold_the_separator_and_look_like_a_field(version: str) -> None:
    jobs = {job.job_id: job for job in parse_squeue(sample(version, "squeue"))}
    assert jobs["1"].name == "esm big|small JobState=FAILED β"


@pytest.mark.parametrize("version", RECORDED)
def test_a_range_is_expanded_where_squeue_did_not(version: str) -> None:
    line = next(line for line in sample(version, "squeue").splitlines() if line.startswith("2_1 "))
    facts = parse_squeue(line.replace("2_1 ", "2_[1-4%1] ", 1))
    assert [fact.job_id for fact in facts] == ["2_1", "2_2", "2_3", "2_4"]


def test_warnings_between_the_lines_are_no_jobs() -> None:
    assert parse_squeue("squeue: error: Invalid user: nobody\n\n") == []


@pytest.mark.parametrize("version", RECORDED)
def test_ten_thousand_lines_take_less_than_two_seconds_of_a_core(version: str) -> None:
    text = sample(version, "squeue") * 625
    start = time.process_time()  # not of the clock: others may have the core
    assert len(parse_squeue(text)) >= 10_000
    assert time.process_time() - start < 2


def test_the_question_is_one_command_whatever_the_number_of_jobs() -> None:
    assert squeue.FORMAT.startswith("JobArrayID:")
    assert squeue.FORMAT.split(",")[-1].startswith("Name:")


def test_comments_are_told_apart_by_job_and_may_hold_the_separator() -> None:
    text = "12|(null)\n13|sedd: 20261122-120000-a269d64a continues 12\n14_3|grant 7 | mine\n15|\n"
    assert parse_comments(text) == {
        "13": "sedd: 20261122-120000-a269d64a continues 12",
        "14_3": "grant 7 | mine",
    }


@pytest.mark.parametrize("version", RECORDED)
def test_lines_of_a_greeting_are_no_jobs(version: str) -> None:
    recorded = sample(version, "squeue")
    greeting = f"job 3 of at most 50{'|' * 20}\n{'*' * 1500}\n"
    assert parse_squeue(greeting + recorded) == parse_squeue(recorded)
    assert parse_comments("Welcome|to the site\n7|mine\n") == {"7": "mine"}
