"""A step on gradients that are not finite, without loss scaling."""

from pathlib import Path

import pytest
import torch

from sedd.model.transformer import Transformer
from sedd.training.precision import PRECISIONS
from sedd.training.train_state import fresh_state
from tests.tiny import tiny_spec


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_that_is_not_finite_changes_no_weight_and_the_next_does(optimizer: str) -> None:
    spec = tiny_spec(Path("unread.store"), optimizer=optimizer)
    model = Transformer(spec.model)
    state = fresh_state(model, spec.training, PRECISIONS["fp32"])
    for bad in (torch.nan, torch.inf):
        before = [weight.detach().clone() for weight in model.parameters()]
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, bad)
        state.step_and_average(torch.tensor(bad))
        assert all(torch.equal(weight, was) for weight, was in zip(model.parameters(), before, strict=True))
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    state.step_and_average(torch.tensor(1.0))
    assert not any(torch.equal(weight, was) for weight, was in zip(model.parameters(), before, strict=True))
    assert all(weight.isfinite().all() for weight in model.parameters())
