"""A partition that does not exist, is down, or refuses what is asked."""

import pytest

from sedd.cluster.command import SlurmUnreachableError
from sedd.preflight.checks import partition as check
from sedd.preflight.finding import Status
from tests.preflight.slurm_facts import partition, profile, silence, slurm


def look(context):
    return check.judge(check.gather(context))


def test_local_runs_have_no_partition(make_context):
    assert check.gather(make_context()) is None


def test_silent_slurm_raises_what_becomes_unknown(make_context):
    with pytest.raises(SlurmUnreachableError):
        check.gather(make_context(profile=profile(), slurm=silence()))


def test_default_partition_is_used_when_the_profile_names_none(make_context):
    known = slurm(partition(name="other", is_default=False), partition(name="usual"))
    verdict = look(make_context(profile=profile(), slurm=known))
    assert verdict.status is Status.OK
    assert verdict.saw.startswith("usual: up")


def test_partition_that_does_not_exist_fails_and_names_those_that_do(make_context):
    verdict = look(make_context(profile=profile(partition="gpus"), slurm=slurm(partition())))
    assert verdict.status is Status.FAIL
    assert "no partition gpus" in verdict.saw
    assert "SLURM has gpu" in verdict.hint


@pytest.mark.parametrize(
    ("spec", "site", "changes", "status", "saw"),
    [
        ({"resources.walltime": "25h"}, {}, {}, Status.FAIL, "walltime 1d 1h is longer than gpu's 1d"),
        ({"resources.walltime": "25h"}, {"max_walltime": "24h"}, {}, Status.OK, "1d of 1d"),
        ({"resources.walltime": "25h"}, {}, {"max_time_s": None}, Status.OK, "unlimited"),
        ({"resources.nodes": 3, "training.residues_per_gpu": 1, "training.residues_per_step": 3}, {}, {}, Status.FAIL,
         "3 nodes, gpu allows 2"),
        ({"resources.spare_nodes": 1}, {}, {}, Status.FAIL, "2 nodes, gpu has 1"),
        ({"resources.spare_nodes": 1}, {}, {"total_nodes": 2}, Status.OK, "up"),
        ({"resources.spare_nodes": 1}, {}, {"total_nodes": 0}, Status.OK, "up"),
        ({}, {"account": "me"}, {"allow_accounts": ("you", "they")}, Status.FAIL, "account me may not use gpu"),
        ({}, {"account": "me"}, {"allow_accounts": ("me",)}, Status.OK, "up"),
        ({}, {"qos": "gold"}, {"allow_qos": ("normal",)}, Status.FAIL, "qos gold may not use gpu"),
        ({}, {}, {"state": "DOWN"}, Status.WARN, "gpu is DOWN"),
        ({}, {}, {"state": "DRAIN"}, Status.FAIL, "gpu is DRAIN: SLURM takes no new jobs"),
    ],
)  # fmt: skip
def test_limits(make_context, spec, site, changes, status, saw):
    verdict = look(
        make_context(spec, profile=profile(partition="gpu", **site), slurm=slurm(partition(**changes)))
    )
    assert verdict.status is status
    assert saw in verdict.saw


def test_one_of_several_partitions_that_refuses_is_named(make_context):
    known = slurm(partition(), partition(name="short", max_time_s=600))
    verdict = look(make_context(profile=profile(partition="gpu,short"), slurm=known))
    assert verdict.status is Status.FAIL
    assert "short's 10m" in verdict.saw
    assert "max_walltime: 10m" in verdict.hint


def test_a_closed_partition_beside_an_open_one_is_no_failure(make_context):
    known = slurm(partition(name="a", state="DRAIN"), partition(name="b"))
    verdict = look(make_context(profile=profile(partition="a,b"), slurm=known))
    assert verdict.status is Status.WARN
    assert "a is DRAIN" in verdict.saw
