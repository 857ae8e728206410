"""The signal plan in words, for every kind of site."""

import pytest

from sedd.preflight.checks import signal_plan as check
from sedd.preflight.finding import Status
from tests.preflight.slurm_facts import config, partition, profile, slurm


def look(make_context, site, **changes):
    known = slurm(partition(**changes), site=config(**site))
    return check.judge(check.gather(make_context(profile=profile(), slurm=known)))


# Measured on SLURM 22.05: with GraceTime the first signal comes that long before the end; without, SIGTERM and
# KillWait; with preempt_send_user_signal the job's own signal first; a cancelled job may requeue itself.
@pytest.mark.parametrize(
    ("site", "changes", "status", "words"),
    [
        ({}, {}, Status.OK, ["SIGTERM, SIGKILL 20s later (GraceTime)", "SLURM requeues"]),
        ({}, {"grace_s": 0}, Status.OK, ["SIGTERM, SIGKILL 30s later (KillWait, no GraceTime)"]),
        ({"user_signal": True}, {}, Status.OK, ["at preemption SIGUSR2, SIGKILL 20s later"]),
        ({}, {"preempt_mode": "CANCEL"}, Status.OK, ["then the run requeues itself"]),
        ({}, {"preempt_mode": "CANCEL", "grace_s": 0}, Status.WARN, ["the run requeues itself"]),
        ({}, {"preempt_mode": "OFF"}, Status.OK, ["no preemption", "SIGUSR2 before the time limit"]),
        ({"preempt_type": "preempt/none"}, {}, Status.OK, ["no preemption"]),
        ({}, {"preempt_mode": "GANG,SUSPEND"}, Status.OK, ["paused and continues"]),
        ({"job_requeue": False}, {}, Status.OK, ["JobRequeue=0"]),
    ],
)
def test_plan(make_context, site, changes, status, words):
    verdict = look(make_context, site, **changes)
    assert verdict.status is status
    assert all(word in verdict.saw for word in words), verdict.saw


def test_unknown_partition_leaves_the_plan_to_the_check_partition(make_context):
    assert check.gather(make_context(profile=profile(partition="none"), slurm=slurm())) is None
