"""A compiled network that is the network, one that is off by a sequence, and one that does not compile."""

import pytest
import torch

from sedd.model import block_ops as between
from sedd.model import transformer
from sedd.preflight.checks import compiled_step as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status

COMPILED = {"training.compile": True, "data.max_length": 64, "model.hidden": 32, "model.heads": 2}


@pytest.fixture
def look(make_context, monkeypatch):
    """The verdict where torch.compile does this. The real one takes a minute on a CPU."""

    def verdict(compiler, spec=None):
        monkeypatch.setattr(torch, "compile", compiler)
        return check.judge(check.gather(make_context(COMPILED | (spec or {}), side=Side.NODE)))

    return verdict


@pytest.mark.parametrize("spec", [{}, {"training.activation_checkpointing": True}])
def test_a_faithful_compiler_is_ok(look, spec):
    verdict = look(lambda model: model, spec)
    assert verdict.status is Status.OK
    assert verdict.saw.startswith("compiled in")


def test_an_index_off_by_one_sequence_fails(look, monkeypatch):
    real = transformer.sequence_index

    def compiler(model):
        def shifted(cu_seqlens, tokens):  # what a compiled search in a slice of the borders gave
            return (real(cu_seqlens, tokens) + 1).clamp_max(cu_seqlens.numel() - 2)

        monkeypatch.setattr(transformer, "sequence_index", shifted)
        return model

    verdict = look(compiler)
    assert verdict.status is Status.FAIL
    assert "the output is off by" in verdict.saw
    assert "training.compile: false" in verdict.hint


def test_a_wrong_gradient_alone_fails(look, monkeypatch):
    real = between.gated_sum

    def compiler(model):
        def lossy(x, *rest):
            return real(x, *rest).detach() + x - x.detach()

        monkeypatch.setattr(between, "gated_sum", lossy)
        return model

    verdict = look(compiler)
    assert verdict.status is Status.FAIL


def test_an_output_that_is_not_finite_fails(look):
    def compiler(model):
        return lambda *arguments, **named: model(*arguments, **named) * float("nan")

    assert look(compiler).status is Status.FAIL


def test_a_compiler_that_fails_is_a_finding_with_its_reason(look):
    def compiler(model):
        raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: No working C++ compiler found")

    verdict = look(compiler)
    assert verdict.status is Status.FAIL
    assert verdict.saw == "torch.compile: InvalidCxxCompiler: No working C++ compiler found"


def test_only_a_spec_that_asks_for_it_is_compiled(make_context):
    assert check.gather(make_context(side=Side.NODE)) is None
