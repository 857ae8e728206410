"""AdamW without torch's compiler: torch's own steps and state."""

import torch

from sedd.model.adamw import AdamW

SHAPES = ((3, 7), (5,), (2, 2))


def trained(kind: type[torch.optim.Optimizer], *, fused: bool) -> tuple[list[torch.Tensor], dict]:
    """Weights and state after four steps, the third of which is skipped; a group is added after the first."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = kind([{"params": weights[:2], "weight_decay": 0.1}], lr=1e-2, fused=fused)
    for step in range(4):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        if fused:
            optimizer.found_inf = torch.tensor(float(step == 2))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert all(weight.grad is None for weight in weights[:2])
        if step == 0:
            optimizer.add_param_group({"params": weights[2:], "weight_decay": 0.0})
            again = kind([{"params": weights[:2]}, {"params": weights[2:]}], lr=1.0, fused=fused)
            again.load_state_dict(optimizer.state_dict())
            optimizer = again
    return [weight.detach() for weight in weights], optimizer.state_dict()


def test_steps_and_state_are_torchs_to_the_bit():
    for fused in (True, False):
        ours, state = trained(AdamW, fused=fused)
        theirs, expected = trained(torch.optim.AdamW, fused=fused)
        assert all(map(torch.equal, ours, theirs))
        assert state["param_groups"] == expected["param_groups"]
        assert state["state"].keys() == expected["state"].keys()
        for place, moments in expected["state"].items():
            assert all(torch.equal(state["state"][place][name], value) for name, value in moments.items())


def test_a_step_leaves_nothing_to_differentiate():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([weight], lr=0.1)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert weight.is_leaf
    assert torch.is_grad_enabled()
