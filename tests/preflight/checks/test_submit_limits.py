"""How many jobs the site lets one have in the queue, said before anything is submitted."""

import pytest

from sedd.cluster.submit_limits import Limit, Limits
from sedd.preflight.checks import submit_limits as check
from sedd.preflight.finding import Status


def limit(allowed, used=0, name="MaxSubmitJobs"):
    return Limit(name=name, holder="user ada in account science", allowed=allowed, used=used)


def judge(runs, *queued, running=(), max_job_count=10_000):
    limits = Limits(queued=queued, running=running)
    return check.judge(check.Facts(runs=runs, limits=limits, max_job_count=max_job_count))


@pytest.mark.parametrize(
    ("runs", "limits", "status", "saw"),
    [
        (
            300,
            [limit(150, 8)],
            Status.WARN,
            "allows 150 jobs at a time (MaxSubmitJobs of user ada in account",
        ),
        (300, [limit(150, 8)], Status.WARN, "8 are in the queue: 142 are submitted now"),
        (300, [limit(400, 8), limit(150)], Status.WARN, "allows 150 jobs"),
        (1, [limit(150, 150)], Status.WARN, "1 run; the site allows 150 jobs at a time"),
        (1, [limit(150, 150)], Status.WARN, "none is submitted now"),
        (142, [limit(150, 8)], Status.OK, "150 jobs may be in the queue"),
        (1, [limit(0)], Status.FAIL, "MaxSubmitJobs of user ada in account science is 0"),
        (9, [], Status.OK, "no limit"),
        (10_001, [], Status.WARN, "MaxJobCount"),
    ],
)
def test_a_sweep_against_the_limits(runs, limits, status, saw):
    verdict = judge(runs, *limits)
    assert verdict.status is status
    assert saw in verdict.saw


def test_how_many_may_run_at_a_time_is_said():
    assert "3 may run at a time (MaxJobs" in judge(9, running=(limit(3, name="MaxJobs"),)).saw


def test_a_site_where_nothing_may_run_takes_nothing():
    assert judge(9, running=(limit(0, name="MaxJobs"),)).status is Status.FAIL
