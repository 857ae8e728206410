"""Verdicts on many points become one finding."""

from sedd.preflight.finding import Status, fail, ok, unknown, warn
from sedd.preflight.show.merge_findings import Answer, merge


def merged(*answers):
    return merge("c", [Answer(verdict=verdict, point=point) for verdict, point in answers])


def test_what_is_the_same_everywhere_is_said_once_without_a_point():
    found = merged((warn("slow", "mend"), "a=1"), (warn("slow", "mend"), "a=2"))
    assert (found.status, found.saw, found.hint) == (Status.WARN, "slow", "mend")


def test_a_failure_at_one_point_is_told_with_that_point_and_hides_the_rest():
    found = merged(
        (ok("fits"), "a=1"), (fail("too large", "smaller"), "a=2"), (fail("too large", "smaller"), "a=3")
    )
    assert (found.status, found.hint) == (Status.FAIL, "smaller")
    assert found.saw == "too large (at a=2 and 1 more)"


def test_the_gravest_comes_first_and_many_are_counted():
    found = merged(
        (unknown("?"), "u"), *((warn(f"w{n}", "h"), f"p{n}") for n in range(4)), (fail("f", "g"), "x")
    )
    assert found.status is Status.FAIL
    assert found.saw == "f (at x); w0 (at p0); w1 (at p1); and 3 more like these"
    assert found.hint == "g; h"


def test_all_well_is_told_of_the_first():
    assert merged((ok("1 GiB"), "a=1"), (ok("2 GiB"), "a=2")).saw == "1 GiB (at a=1)"


def test_no_answer_is_no_finding():
    assert merge("c", []) is None
