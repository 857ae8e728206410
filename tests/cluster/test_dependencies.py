"""Who waits for whose success, as squeue shows it, and waiting for a successor."""

import pytest

from sedd.cluster.dependencies import Waiting, after, moved_on, parse_waiting, wants_whole

# squeue --format='%i|%E|%k' of 22.05.8; a finished condition is left out there, a failed one says so.
SEEN = """8|afterok:7(unfulfilled)|(null)
10|afterok:9(failed)|sedd token=0123456789abcdef; folder=/runs/small/1
12_[0-999%1]|(null)|(null)
13|afterok:12_0(unfulfilled),afterok:12_1(unfulfilled)|mine
14_[0-3]|afterok:12_*(unfulfilled)|
15_2|afterany:7(unfulfilled)?afterok:9(failed)|(null)
16|(null)|(null)
17|afterany:7(unfulfilled)|sedd token=0123456789abcdef; continues=7; folder=/runs/small/1
"""


def test_waiting_jobs_and_what_for() -> None:
    assert [(job.job_id, job.wish) for job in parse_waiting(SEEN)] == [
        ("8", "afterok:7(unfulfilled)"),
        ("10", "afterok:9(failed)"),
        ("13", "afterok:12_0(unfulfilled),afterok:12_1(unfulfilled)"),
        ("14", "afterok:12_*(unfulfilled)"),
        ("15_2", "afterany:7(unfulfilled)?afterok:9(failed)"),
        ("17", "afterany:7(unfulfilled)"),
    ]
    assert parse_waiting("") == []


def test_ours_are_those_with_a_token_that_continue_no_other_job() -> None:
    assert [job.job_id for job in parse_waiting(SEEN) if job.is_ours] == ["10"]


@pytest.mark.parametrize(
    ("wish", "old", "new", "moved"),
    [
        ("afterok:7(unfulfilled)", "7", "20", "afterok:20"),
        ("afterok:7", "7", "20", "afterok:20"),
        ("afterok:9(failed)", "9", "20", "afterok:20"),
        ("afterok:12_0(unfulfilled),afterok:12_1(unfulfilled)", "12_1", "20", "afterok:12_0,afterok:20"),
        ("afterok:12_*(unfulfilled)", "12", "20", "afterok:20"),
        ("afterany:9(unfulfilled)?afterok:9(failed)", "9", "20", "afterany:9?afterok:20"),
        # another job whose number begins alike, an array whose task it is not, and a wait for the mere end
        ("afterok:77(unfulfilled)", "7", "20", None),
        ("afterok:12_10(unfulfilled)", "12_1", "20", None),
        ("afterok:12_1(unfulfilled)", "12", "20", None),
        ("afterany:7(unfulfilled)", "7", "20", None),
    ],
)
def test_only_what_waits_for_the_success_of_this_job_moves(
    wish: str, old: str, new: str, moved: str | None
) -> None:
    assert moved_on(wish, old, new) == moved


def test_a_wait_for_the_mere_end_moves_where_the_job_is_ours() -> None:
    assert moved_on("afterany:7(unfulfilled),afterok:9", "7", "20", ends=True) == "afterany:20,afterok:9"
    assert moved_on("afterok:7,afterany:7(unfulfilled)", "7", "20", ends=True) == "afterok:20,afterany:20"
    assert moved_on("afterany:77(unfulfilled)", "7", "20", ends=True) is None


def test_several_jobs_are_one_condition() -> None:
    assert after(success_of=["7", "12_0"]) == "afterok:7:12_0"
    assert after(success_of=["7"], end_of=["8", "9_1"]) == "afterok:7,afterany:8:9_1"
    assert after(end_of=["8"]) == "afterany:8"
    assert after() is None


def test_lines_of_a_greeting_wait_for_nothing() -> None:
    seen = parse_waiting("Welcome|afterok:5\n7|afterok:5(unfulfilled)|(null)\n")
    assert seen == [Waiting(job_id="7", wish="afterok:5(unfulfilled)", is_ours=False)]


@pytest.mark.parametrize(
    ("wish", "is_whole"),
    [
        ("afterok:12_*(unfulfilled)", True),
        ("afterok:9(failed),aftercorr:12_*(unfulfilled)", True),
        ("afterok:12", True),
        ("afterok:12_1(unfulfilled)", False),
        ("afterok:123_*(unfulfilled)", False),
        ("afterany:12_*(unfulfilled)", False),
    ],
)
def test_who_waits_for_the_success_of_a_whole_array(wish: str, is_whole: bool) -> None:
    assert wants_whole(wish, "12") is is_whole
