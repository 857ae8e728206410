"""Limits on jobs in the queue, as SLURM 22.05.8 prints them, and which of them applies."""

from dataclasses import replace

import pytest

from sedd.cluster.assoc_state import Qos, parse_assoc_state, parse_qos, parse_qos_choices
from sedd.cluster.submit_limits import (
    Limit,
    Limits,
    Submitter,
    effective_limits,
    is_array_refusal,
    is_limit_refusal,
)
from tests.cluster.recorded import sample

STATE = parse_assoc_state(sample("22.05.8", "assoc_mgr"))
QOS = parse_qos(sample("22.05.8", "sacctmgr_qos"))
CHOICES = parse_qos_choices(sample("22.05.8", "sacctmgr_associations"))
ROOT = Submitter(user="root", uid=0, partition="requeue")
"""8 jobs in the queue, 3 of them in QOS tiny; 150 allowed, 400 to the account."""


def limits(submitter: Submitter, **qos: Qos) -> Limits:
    return effective_limits(submitter, STATE, QOS | qos, CHOICES)


def test_an_association_limits_its_user_and_its_account_limits_all() -> None:
    found = limits(ROOT)
    assert [(str(limit), limit.allowed, limit.used) for limit in found.queued] == [
        ("MaxSubmitJobs of user root in account dev", 150, 8),
        ("GrpSubmitJobs of account dev", 400, 8),
    ]
    assert found.tightest is not None
    assert found.tightest.free == 142
    assert [(limit.name, limit.allowed) for limit in found.running] == [("MaxJobs", 3)]


def test_the_limits_of_a_qos_come_before_those_of_the_association() -> None:
    found = limits(replace(ROOT, qos="tiny"))
    assert [(limit.name, limit.allowed, limit.used) for limit in found.queued] == [
        ("MaxSubmitJobsPerUser", 4, 3),
        ("MaxSubmitJobsPerAccount", 6, 3),
        ("GrpSubmitJobs", 8, 3),
    ]
    assert found.running[0].allowed == 2


def test_a_partitions_qos_comes_first_unless_the_jobs_own_says_otherwise() -> None:
    own = Qos(name="own", max_submit_per_user=50)
    found = limits(replace(ROOT, qos="own", partition_qos="tiny"), own=own)
    assert found.queued[0].allowed == 4
    over = replace(own, flags=("OverPartQOS",))
    assert limits(replace(ROOT, qos="own", partition_qos="tiny"), own=over).queued[0].allowed == 50


def test_an_unused_qos_has_all_its_places_free() -> None:
    fresh = Qos(name="fresh", max_submit_per_user=7)
    assert limits(replace(ROOT, qos="fresh"), fresh=fresh).queued[0] == Limit(
        name="MaxSubmitJobsPerUser", holder="QOS fresh, each user", allowed=7, used=0
    )


def test_what_is_hidden_limits_nothing() -> None:
    hidden = parse_assoc_state("Current Association Manager state\n\nNo users currently cached in Slurm.\n")
    assert effective_limits(ROOT, hidden, {}, []) == Limits()
    assert Limits().tightest is None


@pytest.mark.parametrize(
    ("message", "is_limit", "is_array"),
    [
        ("QOSMaxSubmitJobPerUserLimit", True, False),
        ("AssocMaxSubmitJobLimit", True, False),
        ("AssocGrpSubmitJobsLimit", True, False),
        ("MaxSubmitJobsPerAccount", True, False),
        (
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            True,
            False,
        ),
        ("allocation failure: Resource temporarily unavailable", True, False),
        ("Slurm temporarily unable to accept job, sleeping and retrying", True, False),
        ("Batch job submission failed: Invalid job array specification", False, True),
        ("QOSMaxWallDurationPerJobLimit", False, False),
        ("Batch job submission failed: Invalid qos specification", False, False),
    ],
)
def test_refusals_that_fewer_jobs_would_not_meet(message: str, is_limit: bool, is_array: bool) -> None:
    assert (is_limit_refusal(message), is_array_refusal(message)) == (is_limit, is_array)
