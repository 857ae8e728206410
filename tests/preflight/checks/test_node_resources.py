"""More than any node has; nodes that are down."""

import pytest

from sedd.preflight.checks import node_resources as check
from sedd.preflight.finding import Status
from tests.preflight.slurm_facts import node, profile, slurm

GPUS = {"resources.gpus_per_node": 4, "training.residues_per_step": 2048}


def look(make_context, spec, *nodes, gpu_type="v100"):
    site = profile(partition="gpu", gpu={"type": gpu_type} if gpu_type else {})
    return check.judge(check.gather(make_context(spec, profile=site, slurm=slurm(nodes=nodes))))


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        (GPUS, Status.OK),
        ({**GPUS, "resources.gpus_per_node": 8, "training.residues_per_step": 4096}, Status.FAIL),
        ({**GPUS, "resources.cpus_per_process": 11}, Status.FAIL),
        ({**GPUS, "resources.memory": "200GiB"}, Status.FAIL),
        ({**GPUS, "resources.nodes": 2, "training.residues_per_step": 4096}, Status.FAIL),
    ],
)
def test_what_a_node_must_have(make_context, spec, status):
    verdict = look(make_context, spec, node())
    assert verdict.status is status
    if status is Status.FAIL:
        assert "4 v100 GPUs, 40 cores" in verdict.hint


def test_gpu_type_is_spelt_as_in_gres(make_context):
    assert look(make_context, GPUS, node(gpus={"tesla_v100": 4})).status is Status.FAIL
    assert look(make_context, GPUS, node(gpus={"tesla_v100": 4}), gpu_type=None).status is Status.OK


def test_nodes_of_other_partitions_do_not_count(make_context):
    assert look(make_context, GPUS, node(partitions=("cpu",))).status is Status.UNKNOWN


def test_drained_nodes_are_a_warning(make_context):
    verdict = look(make_context, GPUS, node(state=("IDLE", "DRAIN")))
    assert verdict.status is Status.WARN
    assert "n1 IDLE+DRAIN" in verdict.saw
