"""The network: its size, its independence of packing, its gradients."""

import subprocess
import sys

import pytest
import torch

from sedd.model.attention import IMPLEMENTATIONS
from sedd.model.size import parameter_count
from sedd.model.transformer import Transformer
from sedd.spec.model import ModelSpec

SMALL = ModelSpec(hidden=32, cond=16, blocks=2, heads=2, dropout=0.0)
LENGTHS = [5, 1, 0, 14]
SHIFTED = SMALL.model_copy(update={"token_shift": 2})
CU = torch.tensor([0, *LENGTHS]).cumsum(0).int()
TOKENS = torch.randint(0, 33, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.01, 0.5, 3.0, 6.0], dtype=torch.float64)


def busy(spec=SMALL, **options):
    """A network in which every part matters: freshly made, most are silent."""
    torch.manual_seed(0)
    model = Transformer(spec, **options).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def forward(model, tokens=TOKENS, cu_seqlens=CU, sigma_bar=SIGMA):
    return model(tokens, cu_seqlens, sigma_bar, max_length=max(cu_seqlens.diff().tolist()))


def test_default_size_is_exact():
    assert sum(p.numel() for p in Transformer(ModelSpec()).parameters()) == 23_930_880
    assert parameter_count(ModelSpec()) == 23_930_880


@pytest.mark.parametrize(
    ("hidden", "cond", "blocks", "heads"), [(32, 16, 1, 1), (48, 24, 3, 2), (768, 128, 12, 12)]
)
def test_parameter_formula_counts_the_module(hidden, cond, blocks, heads):
    spec = ModelSpec(hidden=hidden, cond=cond, blocks=blocks, heads=heads)
    with torch.device("meta"):
        assert sum(p.numel() for p in Transformer(spec).parameters()) == parameter_count(spec)


def test_a_token_shift_takes_no_parameters_and_makes_another_network():
    (plain, shifted), spec = (busy(spec) for spec in (SMALL, SHIFTED)), ModelSpec(token_shift=4)
    assert parameter_count(spec) == parameter_count(ModelSpec())
    assert [p.shape for p in shifted.parameters()] == [p.shape for p in plain.parameters()]
    assert not torch.allclose(forward(shifted), forward(plain))


def test_padded_form_gives_one_row_per_residue():
    output = (
        Transformer(ModelSpec()).eval().forward_padded(torch.zeros(2, 64, dtype=torch.int64), torch.rand(2))
    )
    assert output.shape == (2, 64, 33)
    assert output.dtype == torch.float32


def test_fresh_network_knows_nothing():
    assert (forward(Transformer(SMALL)) == 0).all()


@pytest.mark.parametrize(("implementation", "spec"), [("padded", SMALL), ("explicit", SHIFTED)])
def test_sequence_does_not_see_the_others_nor_its_place_in_the_batch(implementation, spec):
    model = busy(spec, attention=implementation)
    whole = forward(model).split(LENGTHS)
    for number in (0, 1, 3):
        tokens = TOKENS.split(LENGTHS)[number]
        alone = model.forward_padded(tokens[None], SIGMA[number, None])[0]
        torch.testing.assert_close(alone, whole[number], rtol=1e-9, atol=1e-11)
    order = [3, 0, 1]
    cu = torch.tensor([0, *(LENGTHS[i] for i in order)]).cumsum(0).int()
    shuffled = forward(model, torch.cat([TOKENS.split(LENGTHS)[i] for i in order]), cu, SIGMA[order])
    torch.testing.assert_close(shuffled, torch.cat([whole[i] for i in order]), rtol=1e-9, atol=1e-11)


def test_output_depends_on_order_context_and_noise_level():
    model = busy()
    base = forward(model)
    for changed in (
        forward(model, TOKENS.flip(0), CU.flip(0).neg() + 20, SIGMA.flip(0)).flip(0),
        forward(model, TOKENS.clone().index_fill(0, torch.tensor([19]), 7)),
        forward(model, sigma_bar=SIGMA * 1.01),
    ):
        assert not torch.allclose(changed[6:], base[6:], atol=1e-4)


def test_gradients_are_those_of_finite_differences():
    model = busy(ModelSpec(hidden=16, cond=8, blocks=1, heads=2, dropout=0.0))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    weight = torch.randn(20, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (forward(model) * weight).sum().backward()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append((forward(model) * weight).sum())
                parameter.sub_(direction, alpha=step)
        slope = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close((parameter.grad * direction).sum(), slope, rtol=1e-5, atol=1e-6, msg=name)


def test_activation_checkpointing_changes_memory_alone():
    spec = ModelSpec(hidden=32, cond=16, blocks=2, heads=2, dropout=0.3)
    gradients = []
    for checkpointing in (False, True):
        model = busy(spec, activation_checkpointing=checkpointing).train()
        torch.manual_seed(5)
        forward(model).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_dropout_is_for_training_only():
    model = busy(ModelSpec(hidden=32, cond=16, blocks=2, heads=2, dropout=0.5))
    assert torch.equal(forward(model), forward(model))
    assert not torch.equal(forward(model.train()), forward(model))


def test_autocast_output_is_single_precision_and_close():
    model = busy().float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    exact = forward(model, sigma_bar=SIGMA.float())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = forward(model, sigma_bar=SIGMA.float())
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()


TRACING = """
import sys
import torch
from sedd.model.transformer import Transformer
from sedd.spec.model import ModelSpec
torch.manual_seed(0)
device, backend = sys.argv[1:]
attention = "explicit" if device == "cpu" else None
model = Transformer(ModelSpec(hidden=32, cond=16, blocks=2, heads=2, dropout=0.0), attention=attention).to(device)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
batch = torch.arange(20), torch.tensor([0, 5, 5, 20], dtype=torch.int32), torch.rand(3)
batch = [part.to(device) for part in batch]
results = []
for network in (model, torch.compile(model, backend=backend, fullgraph=True)):
    model.zero_grad()
    output = network(*batch, max_length=15)
    output.square().sum().backward()
    results.append((output.detach(), [p.grad for p in model.parameters()]))
torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
"""


def run_tracing(device, backend):
    # In a process of its own: the shape checks of the tests cannot be traced.
    subprocess.run([sys.executable, "-c", TRACING, device, backend], check=True, timeout=200)


def test_forward_and_backward_trace_into_one_graph():
    run_tracing("cpu", "aot_eager")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_compiled_network_computes_the_same_on_a_gpu():
    run_tracing("cuda", "inductor")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_forward_and_backward_never_wait_for_the_gpu(implementation):
    model = Transformer(SMALL, attention=implementation).cuda()
    inputs = TOKENS.cuda(), CU.cuda(), SIGMA.float().cuda()

    def step():
        with torch.autocast("cuda", torch.float16):
            model(*inputs, max_length=14).square().sum().backward()

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
