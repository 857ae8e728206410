"""What a spec insists on is known at the login node."""

import pytest

from sedd.preflight.checks import kernels as check
from sedd.preflight.finding import Status
from sedd.preflight.read import cards
from tests.preflight.slurm_facts import profile

GPU = {"resources.gpus_per_node": 1}


@pytest.mark.parametrize(
    ("spec", "gpu", "status", "words"),
    [
        ({"training.kernels": "fused", "resources.gpus_per_node": 0}, None, Status.FAIL, "on a CPU"),
        ({**GPU, "training.kernels": "fused"}, "v100", Status.OK, "fused kernels"),
        ({"training.cuda_graphs": True, "resources.gpus_per_node": 0}, None, Status.FAIL, "there is no GPU"),
        (
            {**GPU, "training.cuda_graphs": True, "training.activation_checkpointing": True},
            None,
            Status.FAIL,
            "rec",
        ),
        ({**GPU, "training.cuda_graphs": True}, "v100", Status.OK, "CUDA graphs"),
        ({**GPU, "training.compile": True}, "v100", Status.WARN, "7.0"),
        ({**GPU, "training.compile": True}, "a100", Status.OK, "torch.compile"),
        ({**GPU, "training.compile": True}, None, Status.OK, "torch.compile"),
    ],
)
def test_kernels(monkeypatch, make_context, spec, gpu, status, words):
    monkeypatch.setattr(cards, "query_driver", lambda: None)
    verdict = check.judge(check.gather(make_context(spec, profile=profile(gpu={"type": gpu}))))
    assert verdict.status is status
    assert words in verdict.saw


@pytest.mark.parametrize("spec", [{}, {"training.compile": "auto"}, {"training.kernels": "torch"}])
def test_nothing_is_asked_where_nothing_is_insisted_on(make_context, spec):
    assert check.gather(make_context(spec)) is None
