"""Options of the network, from their definitions: norm of queries and keys, values' residual, dropped branches."""

import copy

import pytest
import torch

from sedd.model import block as block_module
from sedd.model.layer_dropout import branch_factors
from sedd.model.query_key_norm import QueryKeyNorm
from sedd.model.size import parameter_count
from sedd.model.transformer import Transformer
from sedd.model.value_residual import ValueResidual
from sedd.preflight.read.footprint import activation_bytes
from sedd.spec.experiment import Experiment
from sedd.spec.model import ModelSpec
from tests.model.cuda_on_cpu import DEVICES, kernels_on
from tests.model.test_transformer import CU, LENGTHS, SIGMA, TOKENS, busy, forward

SIZE = {"hidden": 32, "cond": 16, "blocks": 3, "heads": 2, "dropout": 0.0}
BOTH = {"query_key_norm": True, "value_residual": True}
F64 = torch.float64


def spec(**options):
    return ModelSpec(**SIZE | options)


def gradients(output, model):
    weight = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(4))
    return torch.autograd.grad((output * weight).sum(), list(model.parameters()))


# --- off ---


@pytest.mark.parametrize("options", [{}, *({name: True} for name in BOTH), BOTH])
def test_options_add_what_the_closed_form_says_and_nothing_when_off(options):
    model = Transformer(spec(**options))
    more = {name for name, _ in model.named_parameters()} - {
        name for name, _ in Transformer(spec()).named_parameters()
    }
    wanted = {f"blocks.{n}.query_key_norm.gain" for n in range(3) if "query_key_norm" in options}
    wanted |= {f"blocks.{n}.value_residual.mix" for n in (1, 2) if "value_residual" in options}
    assert more == wanted
    assert sum(p.numel() for p in model.parameters()) == parameter_count(spec(**options))


def test_they_are_off_where_a_spec_does_not_name_them():
    assert ModelSpec() == ModelSpec(query_key_norm=False, value_residual=False, layer_dropout=0.0)


def test_values_of_a_single_block_have_nothing_to_be_mixed_into():
    with pytest.raises(ValueError, match="blocks is 1"):
        spec(value_residual=True, blocks=1)


# --- norm of queries and keys ---


def by_definition(q_and_k, gain):
    """q / rms(q) times the gain of its head, k / rms(k)."""
    normed = q_and_k / (q_and_k.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return torch.stack((normed[:, 0] * gain[:, None], normed[:, 1]), 1)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(F64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_queries_and_keys_are_divided_by_their_root_mean_square(dtype, bound):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(50, 2, 3, 8, dtype=F64, generator=generator) for _ in range(2))
    gain = torch.rand(3, dtype=F64, generator=generator) + 0.5
    results = []
    for norm_by, to in (("ours", dtype), ("definition", F64)):
        given = x.to(dtype).to(to).requires_grad_()
        norm = QueryKeyNorm(3).to(torch.promote_types(to, torch.float32))
        norm.gain.data.copy_(gain)
        seen = norm(given) if norm_by == "ours" else by_definition(given, norm.gain)
        results.append((seen, *torch.autograd.grad(seen, (given, norm.gain), weight.to(dtype).to(to))))
    for ours, exact in zip(*results, strict=True):
        assert (ours.double() - exact.double()).norm() < bound * exact.double().norm()
    assert results[0][0].dtype == dtype


def test_no_length_of_queries_and_keys_matters_to_a_network_that_norms_them():
    for normed in (True, False):
        model = busy(spec(query_key_norm=normed))
        before = forward(model)
        with torch.no_grad():
            for block in model.blocks:  # each head's own factor
                block.qkv.weight[:64].view(4, 16, 32).mul_(torch.tensor([3.0, 0.5, 7.0, 2.0])[:, None, None])
        assert torch.allclose(forward(model), before, rtol=1e-4, atol=1e-4) is normed


def test_a_query_without_entries_stays_finite():
    x = torch.zeros(2, 2, 1, 8, requires_grad=True)
    seen = QueryKeyNorm(1)(x)
    seen.sum().backward()
    assert bool((seen == 0).all())
    assert bool(x.grad.isfinite().all())


# --- values' residual ---


def test_values_of_later_blocks_are_their_own_and_the_first_ones_by_learnt_weights(monkeypatch):
    model, entered, own = busy(spec(**BOTH)), [], []
    attend = block_module.rotated_attention

    def spy(qkv, *rest):
        entered.append(qkv[:, 64:].clone())
        return attend(qkv, *rest)

    monkeypatch.setattr(block_module, "rotated_attention", spy)
    for block in model.blocks:
        block.qkv.register_forward_hook(lambda module, given, output: own.append(output[:, 64:].clone()))
    forward(model)
    assert torch.equal(entered[0], own[0])
    for number in (1, 2):
        first, weight = model.blocks[number].value_residual.mix.tolist()
        torch.testing.assert_close(entered[number], first * own[0] + weight * own[number])


def test_a_network_starts_as_the_one_without_the_residual_to_the_bit():
    mixed, plain = busy(spec(value_residual=True)), busy(spec())
    for block in mixed.blocks[1:]:
        block.value_residual.mix.data.copy_(ValueResidual().mix)
    mixed.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(forward(mixed), forward(plain))


def test_every_option_starts_in_a_network_that_knows_nothing():
    assert (forward(Transformer(spec(**BOTH, layer_dropout=0.5))) == 0).all()


# --- dropped branches ---


def test_branches_are_dropped_more_often_the_deeper_they_lie():
    u = torch.rand(40_000, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    factors = branch_factors(u, 0.6)
    for branch in range(8):
        chance = 0.6 * (branch // 2 + 1) / 4
        column = factors[:, branch]
        assert sorted(column.unique().tolist()) == pytest.approx([0, 1 / (1 - chance)])
        assert (column == 0).double().mean().item() == pytest.approx(chance, abs=0.01)
        assert column.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(branch_factors(u, 0.0), torch.ones_like(u))


def test_a_dropped_branch_is_left_out_of_its_sequence_alone():
    """Against a network whose block has no such branch: its last matrix is zero."""
    model = busy(spec())
    factors = torch.ones(len(LENGTHS), 6, dtype=F64)
    factors[3, 2], factors[0, 5] = 0, 0  # attention of the second block, MLP of the third

    def without(*silenced):
        other = copy.deepcopy(model)
        for layer in silenced:
            for weight in other.get_submodule(layer).parameters():
                torch.nn.init.zeros_(weight)
        return forward(other).split(LENGTHS)

    def raw(given):
        return model(TOKENS, CU, SIGMA, max_length=14, branch_factors=given)

    seen = raw(factors).split(LENGTHS)
    for number, expected in ((0, without("blocks.2.down")), (1, without()), (3, without("blocks.1.out"))):
        torch.testing.assert_close(seen[number], expected[number], rtol=1e-9, atol=1e-11)
    assert torch.equal(raw(torch.ones_like(factors)), raw(None))


# --- all together ---


def test_gradients_are_those_of_finite_differences():
    model = busy(ModelSpec(hidden=16, cond=8, blocks=2, heads=2, dropout=0.0, **BOTH))
    factors = branch_factors(torch.rand(4, 4, generator=torch.Generator().manual_seed(3)), 0.5).double()
    weight = torch.randn(20, 33, dtype=F64, generator=torch.Generator().manual_seed(1))

    def loss():
        return (model(TOKENS, CU, SIGMA, max_length=14, branch_factors=factors) * weight).sum()

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        direction, values = torch.randn(parameter.shape, dtype=F64, generator=generator), []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(loss())
                parameter.sub_(direction, alpha=step)
        slope = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close((parameter.grad * direction).sum(), slope, rtol=1e-4, atol=1e-5, msg=name)


def test_recomputed_blocks_have_the_same_gradients_to_the_bit():
    seen = []
    for checkpointing in (False, True):
        model = busy(spec(**BOTH), activation_checkpointing=checkpointing).train()
        seen.append(gradients(forward(model), model))
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [{"query_key_norm": True}, {"value_residual": True}, BOTH])
def test_our_kernels_compute_the_same_though_they_turn_queries_and_keys_in_place(
    monkeypatch, device, options
):
    with kernels_on(device, monkeypatch) as name:
        torch.manual_seed(0)
        model = Transformer(spec(**options | {"hidden": 64})).train()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
        where = [part.to(name) for part in (TOKENS, CU, SIGMA.float())]
        factors = torch.tensor([[1, 0, 1, 1.25, 1, 1], [1] * 6, [1] * 6, [1.25, 1, 0, 1, 1, 0]], device=name)
        results = []
        for kernels, attention in (("fused", "tiled"), ("torch", "padded")):
            model.kernels, model.attention = kernels, attention
            with torch.autocast(name, torch.float16):
                output = model(*where, max_length=14, branch_factors=factors)
            results.append([output, *gradients(output, model)])
        for ours, theirs in zip(*results, strict=True):
            assert (ours - theirs).norm() < 2e-2 * theirs.norm()


@pytest.mark.parametrize("options", [{"query_key_norm": True}, {"value_residual": True}, BOTH])
def test_what_they_keep_for_the_backward_pass_is_in_the_memory_formula(options):
    """Bytes of all storages that a forward pass saves, beside those of the plain network."""
    tokens = 512
    given = torch.arange(tokens) % 33, torch.tensor([0, tokens], dtype=torch.int32), torch.ones(1)

    def kept(model):
        storages = {}

        def pack(x):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            output = model(*given, max_length=tokens)
        assert output.requires_grad
        return sum(storage.nbytes() for storage in storages.values())

    def predicted(**options):
        how = {"steps": 1, "precision": "fp32", "residues_per_step": tokens, "residues_per_gpu": tokens}
        asked = {"name": "x", "data": {"store": "/", "max_length": 64}, "model": SIZE | options}
        return activation_bytes(Experiment.model_validate(asked | {"training": how}), tokens)

    plain, more = (kept(Transformer(spec(**each), attention="padded")) for each in ({}, options))
    assert more - plain == pytest.approx(predicted(**options) - predicted(), rel=0.1)
