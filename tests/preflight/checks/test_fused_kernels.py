"""Fused kernels that compute rightly, wrongly, or cannot be had."""

import dataclasses
import math

import pytest
import torch

from sedd.preflight.checks import fused_kernels as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status

SMALL = {"data.max_length": 64, "model.hidden": 32, "model.heads": 2}
ON_GPU = SMALL | {"resources.gpus_per_node": 1}


@pytest.mark.parametrize("error", [math.nan, 0.1])
def test_a_wrong_output_or_gradient_fails(error):
    passing = check.CHECK.passing
    for part in ("output", "gradient"):
        wrong = dataclasses.replace(passing.errors, **{part: error})
        verdict = check.judge(dataclasses.replace(passing, errors=wrong))
        assert verdict.status is Status.FAIL
        assert "training.kernels: torch" in verdict.hint


@pytest.mark.parametrize(("asked", "status"), [("auto", Status.WARN), ("fused", Status.FAIL)])
def test_none_to_be_had_is_grave_only_where_they_were_asked_for(asked, status):
    problem = "no NVRTC: nvidia-cuda-nvrtc is not installed"
    verdict = check.judge(dataclasses.replace(check.CHECK.passing, asked=asked, problem=problem, errors=None))
    assert verdict.status is status
    assert problem in verdict.saw


def test_on_a_cpu_the_question_arises_only_where_the_spec_asks_for_them(make_context):
    assert check.gather(make_context(SMALL | {"resources.gpus_per_node": 0}, side=Side.NODE)) is None
    asked = SMALL | {"resources.gpus_per_node": 0, "training.kernels": "fused"}
    verdict = check.judge(check.gather(make_context(asked, side=Side.NODE)))
    assert verdict.status is Status.FAIL
    assert "not for cpu" in verdict.saw


@pytest.mark.parametrize("spec", [{"training.kernels": "torch"}, {"training.compile": True}])
def test_nor_where_the_spec_takes_others(make_context, spec):
    assert check.gather(make_context(ON_GPU | spec, side=Side.NODE)) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
def test_this_card_passes_and_its_memory_is_free_again(make_context, precision):
    context = make_context(ON_GPU | {"training.precision": precision}, side=Side.NODE)
    check.gather(context)  # what cuBLAS takes for itself at its first use, it keeps
    before = torch.cuda.memory_allocated()
    verdict = check.judge(check.gather(context))
    assert verdict.status is Status.OK, verdict.saw
    assert torch.cuda.memory_allocated() == before
