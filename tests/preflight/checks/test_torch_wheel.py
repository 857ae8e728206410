"""No torch, CPU-only torch, torch without the card's architecture."""

import sys

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.preflight.checks import torch_wheel
from sedd.preflight.finding import Status
from sedd.preflight.read.torch_wheel import Wheel

V100 = SlurmProfile.model_validate({"executor": "slurm", "gpu": {"type": "v100"}})
WITH, WITHOUT = ("sm_70", "sm_80"), ("sm_75", "sm_80")


def look(monkeypatch, context, wheel):
    monkeypatch.setattr(torch_wheel, "query_wheel", lambda: wheel)
    return torch_wheel.judge(torch_wheel.gather(context))


@pytest.fixture
def gpu_scene(make_context):
    return make_context({"resources.gpus_per_node": 1}, profile=V100)


def test_no_torch_fails_with_the_command_that_installs_it(monkeypatch, gpu_scene):
    verdict = look(monkeypatch, gpu_scene, None)
    assert verdict.status is Status.FAIL
    assert verdict.hint == f"{sys.executable} -m pip install --force-reinstall 'torch>=2.6,<2.11'"


def test_cpu_only_torch_fails_for_a_gpu_job_alone(monkeypatch, gpu_scene, make_context):
    wheel = Wheel(version="2.13.0+cpu", cuda=None, archs=())
    assert look(monkeypatch, gpu_scene, wheel).status is Status.FAIL
    assert look(monkeypatch, make_context(), wheel).status is Status.OK


@pytest.mark.parametrize(
    ("archs", "status"), [(WITH, Status.OK), (WITHOUT, Status.FAIL), (None, Status.UNKNOWN)]
)
def test_a_v100_needs_sm_70_kernels(monkeypatch, gpu_scene, archs, status):
    verdict = look(monkeypatch, gpu_scene, Wheel(version="2.14.1+cu130", cuda="13.0", archs=archs))
    assert verdict.status is status
    if status is Status.FAIL:
        assert "sm_70" in verdict.saw
        assert "'torch>=2.6,<2.11'" in verdict.hint


def test_card_that_nobody_named_is_unknown(monkeypatch, make_context):
    monkeypatch.setattr(torch_wheel, "query_driver", lambda: None)
    verdict = look(
        monkeypatch,
        make_context({"resources.gpus_per_node": 1}),
        Wheel(version="2.10.0", cuda="12.8", archs=WITH),
    )
    assert verdict.status is Status.UNKNOWN
    assert "gpu: {type:" in verdict.hint
