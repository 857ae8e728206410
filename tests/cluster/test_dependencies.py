"""Who waits for whose success, as squeue shows it, and waiting for a successor."""

import pytest

from sedd.cluster.dependencies import after_success_of, moved_on, parse_waiting

# squeue --format='%i|%E' of 22.05.8; a finished condition is left out there, a failed one says so.
SEEN = """8|afterok:7(unfulfilled)
10|afterok:9(failed)
12_[0-999%1]|(null)
13|afterok:12_0(unfulfilled),afterok:12_1(unfulfilled)
14_[0-3]|afterok:12_*(unfulfilled)
15_2|afterany:7(unfulfilled)?afterok:9(failed)
16|(null)
"""


def test_waiting_jobs_and_what_for() -> None:
    assert parse_waiting(SEEN) == {
        "8": "afterok:7(unfulfilled)",
        "10": "afterok:9(failed)",
        "13": "afterok:12_0(unfulfilled),afterok:12_1(unfulfilled)",
        "14": "afterok:12_*(unfulfilled)",
        "15_2": "afterany:7(unfulfilled)?afterok:9(failed)",
    }
    assert parse_waiting("") == {}


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


def test_several_jobs_are_one_condition() -> None:
    assert after_success_of(["7", "12_0"]) == "afterok:7:12_0"


def test_lines_of_a_greeting_wait_for_nothing() -> None:
    assert parse_waiting("Welcome|afterok:5\n7|afterok:5(unfulfilled)\n") == {"7": "afterok:5(unfulfilled)"}
