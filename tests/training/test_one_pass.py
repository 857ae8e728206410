"""Clipping, AdamW and the average in one pass against the same by torch's operators."""

import copy

import pytest
import torch

from sedd.model.ema import Ema
from sedd.training.one_pass import OnePassAdamW
from tests.model.cuda_on_cpu import DEVICES, kernels_on

RATE, DECAY, CLIP = 3e-3, 0.1, 0.5


@pytest.fixture(params=DEVICES, autouse=True)
def device(request, monkeypatch):
    with kernels_on(request.param, monkeypatch) as device:
        yield device


class Net(torch.nn.Module):
    """Sizes of one block of threads and several, and not of whole fours; one weight gets no gradient."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator(torch.get_default_device()).manual_seed(0)
        sizes = ((3, 7), (130, 257), (5,), (2,))
        self.weights = torch.nn.ParameterList(torch.randn(*size, generator=generator) for size in sizes)


def groups(net):
    a, b, c, frozen = net.weights
    return [
        {"params": [a, b], "weight_decay": DECAY},
        {"params": [c], "weight_decay": 0.0, "rate_scale": 0.25},
        {"params": [frozen], "weight_decay": 0.0},
    ]


def give_gradients(net, step, scale, *, bad=False):
    generator = torch.Generator(torch.get_default_device()).manual_seed(step)
    for weight in net.weights[:3]:
        weight.grad = torch.randn(weight.shape, generator=generator) * scale
    if bad:
        net.weights[1].grad[77, 200] = torch.inf


def by_torch(net, steps, ema, scaler, device, bad=()):
    """What the definition says, an operator after the other; returns the norms."""
    optimizer, norms = torch.optim.AdamW(groups(net), betas=(0.9, 0.95)), []
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = RATE * step * group.get("rate_scale", 1.0)
        give_gradients(net, step, scaler.scale(torch.ones(())), bad=step in bad)
        scaler.unscale_(optimizer)
        norms.append(torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP))
        scaler.step(optimizer)
        scaler.update()
        ema.update()
    return optimizer, norms


def in_one_pass(net, steps, ema, scaler, bad=(), optimizer=None):
    optimizer, norms = optimizer or OnePassAdamW(groups(net), betas=(0.9, 0.95)), []
    for step in steps:
        give_gradients(net, step, scaler.scale(torch.ones(())), bad=step in bad)
        norms.append(optimizer.clip_and_step(RATE * step, scaler, ema, CLIP).clone())
    return optimizer, norms


def prepared(device, *, scales):
    net = Net()
    return (
        net,
        Ema(net, 0.9),
        torch.amp.GradScaler(device, init_scale=1024.0, growth_interval=2, enabled=scales),
    )


@pytest.mark.parametrize("scales", [True, False])
def test_weights_moments_averages_and_norms_are_those_of_the_operators(device, scales):
    (ours, our_ema, our_scaler), (theirs, their_ema, their_scaler) = (
        prepared(device, scales=scales) for _ in range(2)
    )
    optimizer, norms = in_one_pass(ours, range(1, 6), our_ema, our_scaler)
    expected, expected_norms = by_torch(theirs, range(1, 6), their_ema, their_scaler, device)
    torch.testing.assert_close(torch.stack(norms), torch.stack(expected_norms))
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(our_ema.average_of(a), their_ema.average_of(b))
    here, there = optimizer.state_dict(), expected.state_dict()
    assert here["state"].keys() == there["state"].keys()
    for place, moments in here["state"].items():
        for name, value in moments.items():
            torch.testing.assert_close(value.cpu(), there["state"][place][name].cpu())
    assert our_scaler.state_dict() == their_scaler.state_dict()


def test_a_gradient_that_is_not_finite_changes_no_weight_and_lowers_the_scale(device):
    net, ema, scaler = prepared(device, scales=True)
    optimizer, _ = in_one_pass(net, [1], ema, scaler)
    before, counted = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    _, norms = in_one_pass(net, [2], ema, scaler, bad=[2], optimizer=optimizer)
    assert not torch.isfinite(norms[0])
    assert scaler.get_scale() == 512.0
    assert ema.updates == 2
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for place, moments in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, counted[place][name]) for name, value in moments.items())


def test_a_loaded_state_continues_with_the_same_bits(device):
    whole, whole_ema, whole_scaler = prepared(device, scales=True)
    in_one_pass(whole, range(1, 5), whole_ema, whole_scaler)
    net, ema, scaler = prepared(device, scales=True)
    first, _ = in_one_pass(net, range(1, 3), ema, scaler)
    second = OnePassAdamW(groups(net), betas=(0.9, 0.95))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    in_one_pass(net, range(3, 5), ema, scaler, optimizer=second)
    for a, b in zip(net.weights, whole.weights, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(ema.average_of(a), whole_ema.average_of(b))


def test_gradients_may_lie_anywhere(device):
    """As views of the buckets that ranks exchange do: not at a multiple of four numbers."""
    results = []
    for offset in (0, 1):
        net, ema, scaler = prepared(device, scales=True)
        optimizer = OnePassAdamW(groups(net), betas=(0.9, 0.95))
        give_gradients(net, 1, scaler.scale(torch.ones(())))
        for weight in net.weights[:3]:
            bucket = torch.empty(weight.numel() + offset)
            view = bucket[offset:].view_as(weight)
            weight.grad = view.copy_(weight.grad)
        optimizer.clip_and_step(RATE, scaler, ema, CLIP)
        results.append(net.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
