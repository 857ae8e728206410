"""The average of the weights."""

import pytest
import torch
from torch import nn

from sedd.model.ema import Ema


def test_average_follows_its_definition_with_a_warm_up():
    model = nn.Linear(3, 2).double()
    ema = Ema(model, decay=0.5)
    expected = model.weight.detach().clone()
    for updates in range(12):
        with torch.no_grad():
            model.weight.add_(1.0 + updates)
        decay = min(0.5, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        ema.update()
    with ema.applied():
        torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-12, atol=0)


def test_own_weights_return_even_after_an_error():
    model = nn.Linear(3, 2)
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        model.weight.zero_()

    def fail():
        with ema.applied():
            assert not (model.weight == 0).all()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (model.weight == 0).all()


def test_saved_and_restored_average_goes_on_exactly(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ema = Ema(model, decay=0.99)

    def train(average, steps):
        for step in range(steps):
            with torch.no_grad():
                model.weight.mul_(1.1).add_(0.01 * step)
            average.update()

    train(ema, 4)
    torch.save(ema.state_dict(), tmp_path / "ema.pt")
    weights = model.weight.detach().clone()
    train(ema, 5)
    with torch.no_grad():
        model.weight.copy_(weights)
    restored = Ema(model, decay=0.99)
    restored.load_state_dict(torch.load(tmp_path / "ema.pt", weights_only=True))
    train(restored, 5)
    for name, average in ema.state_dict()["averages"].items():
        assert torch.equal(restored.state_dict()["averages"][name], average)


def test_state_of_another_network_is_refused():
    with pytest.raises(ValueError, match="another network"):
        Ema(nn.Linear(2, 2), 0.9).load_state_dict(Ema(nn.Linear(2, 2, bias=False), 0.9).state_dict())
