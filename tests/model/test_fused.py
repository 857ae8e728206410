"""The kernels between matrix products against the same by torch's operators: on a GPU, and on a CPU that plays one."""

import copy

import pytest
import torch

from sedd.model.block_ops import add_branch_and_norm, gelu_mlp, modulation_rows, rotated_attention
from sedd.model.fused import launch
from sedd.model.fused.rotated_attention import rotate_, turned_back
from sedd.model.packing import Packing, sequence_index
from sedd.model.rotary import rotate, rotation
from sedd.model.transformer import Transformer
from sedd.spec.model import ModelSpec
from tests.model.cuda_on_cpu import AS_VOLTA, CPU, DEVICES, GPU, MARKS, kernels_on

on_a_gpu = pytest.mark.parametrize("device", [GPU, AS_VOLTA], indirect=True)


@pytest.fixture(params=DEVICES, autouse=True)
def device(request, monkeypatch):
    """Where the kernels run: on a GPU, also in a V100's instructions alone, or compiled for the CPU."""
    with kernels_on(request.param, monkeypatch) as device:
        yield device


CASES = {
    "odd lengths": [7, 33, 50, 1, 16, 3],
    "empty ones": [0, 5, 0, 0, 17, 0],
    "one sequence": [67],
    "many short": [1 + i % 7 for i in range(20)],
}
# A thread takes four columns: one warp, one with idle threads, several. The CPU is too slow for many.
WIDTHS = [(CPU, 40), (CPU, 136)]
WIDTHS += [
    pytest.param(*gpu.values, width, marks=MARKS)
    for gpu in (GPU, AS_VOLTA)
    for width in (16, 40, 136, 512, 768, 1032, 4096)
]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def packing(lengths, kernels, *, dropout=0.0, seed=0, attention=None):
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    index = sequence_index(cu_seqlens, sum(lengths))
    return Packing(index, cu_seqlens, max(lengths), attention, kernels, dropout, torch.tensor([seed]))


def draw(*shape, seed, dtype=torch.float32):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()


def relative(here, there):
    return float(((here.double() - there.double()).norm() / there.double().norm().clamp_min(1e-9)).detach())


def inputs(lengths, hidden, dtype):
    """Stream, branch, and rows of sequences; as in the network, gate and shift are parts of wider rows."""
    tokens, rows = sum(lengths), len(lengths)
    gate, shift = draw(rows, 2 * hidden, seed=2, dtype=dtype).chunk(2, dim=-1)
    return (
        draw(tokens, hidden, seed=0),
        draw(tokens, hidden, seed=1, dtype=dtype),
        gate,
        draw(rows, hidden, seed=3),
        shift,
    )


def outcome(given, where, place=3, reach=0):
    """Stream, what enters, and the gradients of both by all that was given."""
    stream, entering = add_branch_and_norm(*given, where, place, reach=reach)
    weights = draw(*stream.shape, seed=7), draw(*stream.shape, seed=8)
    loss = (stream * weights[0]).sum() + (entering.float() * weights[1]).sum()
    return [stream, entering, *torch.autograd.grad(loss, [g for g in given if g is not None])]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("device", "hidden"), WIDTHS, indirect=["device"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reach", [0, 1, 4])
def test_fused_passes_compute_what_their_operators_do(reach, dtype, hidden, case):
    reach = min(reach, hidden // 8)
    given = inputs(CASES[case], hidden, dtype)
    wide = [g.detach().double().requires_grad_() for g in given]
    exact = outcome(wide, packing(CASES[case], "torch"), reach=reach)
    here = outcome(given, packing(CASES[case], "fused"), reach=reach)
    for ours, theirs in zip(here, exact, strict=True):
        assert relative(ours, theirs) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reach", [0, 4])
def test_the_first_norm_has_no_branch(reach, dtype):
    lengths = CASES["odd lengths"]
    x, _, _, factor, shift = inputs(lengths, 64, dtype)
    given = x, None, None, factor, shift
    wide = [g if g is None else g.detach().double().requires_grad_() for g in given]
    exact = outcome(wide, packing(lengths, "torch"), reach=reach)
    here = outcome(given, packing(lengths, "fused"), reach=reach)
    for ours, theirs in zip(here, exact, strict=True):
        assert relative(ours, theirs) < TOLERANCE[dtype]


@on_a_gpu
def test_results_do_not_change_from_run_to_run():
    given = inputs(CASES["many short"], 512, torch.float16)
    first, second = (
        outcome(given, packing(CASES["many short"], "fused", dropout=0.3, seed=5)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def kept(seed, place, tokens=200, hidden=64, dropout=0.3):
    where = packing([tokens], "fused", dropout=dropout, seed=seed)
    x, one = torch.zeros(tokens, hidden), torch.ones(tokens, hidden)
    row = torch.ones(1, hidden)
    return add_branch_and_norm(x, one, row, row, row, where, place)[0]


def test_dropout_keeps_the_right_share_scaled_up_and_differs_by_seed_and_place():
    drops = kept(1, 0)
    assert drops.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    entries = drops.numel()
    for other in (drops, kept(2, 0), kept(1, 1)):
        # Four standard deviations of a binomial share.
        assert abs(float((other > 0).double().mean()) - 0.7) < 4 * (0.21 / entries) ** 0.5
    for other in (kept(2, 0), kept(1, 1), drops.roll(1, 0), drops.roll(1, 1), drops.roll(4, 1)):
        agree = float(((other > 0) == (drops > 0)).double().mean())
        assert abs(agree - 0.58) < 5 * (0.58 * 0.42 / entries) ** 0.5
    assert torch.equal(drops, kept(1, 0))


def test_gradient_reaches_just_the_entries_that_dropout_kept():
    lengths = CASES["odd lengths"]
    given = inputs(lengths, 64, torch.float32)
    where = packing(lengths, "fused", dropout=0.5, seed=9)
    one = torch.ones_like
    mask = (
        add_branch_and_norm(torch.zeros_like(given[0]), one(given[1]), one(given[2]), *given[3:], where, 3)[
            0
        ].detach()
        / 2
    )
    exact = [g.detach().double().requires_grad_() for g in given]
    masked = [exact[0], exact[1] * mask * 2, *exact[2:]]
    stream, entering = add_branch_and_norm(*masked, packing(lengths, "torch"), 3)
    weights = draw(*stream.shape, seed=7), draw(*stream.shape, seed=8)
    loss = (stream * weights[0]).sum() + (entering * weights[1]).sum()
    there = [stream, entering, *torch.autograd.grad(loss, exact)]
    for ours, theirs in zip(outcome(given, where), there, strict=True):
        assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize(("sequences", "hidden"), [(1, 8), (21, 136)])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_modulations_rows_and_the_gradients_of_it_and_of_the_norms_weights(dtype, sequences, hidden):
    modulation = draw(sequences, 6 * hidden, seed=0, dtype=dtype)
    given = modulation, draw(hidden, seed=1), draw(hidden, seed=2)
    weights = [draw(sequences, 3, hidden, seed=3 + n).detach() for n in range(2)]
    results = []
    for kernels, to in (("fused", lambda x: x), ("torch", lambda x: x.detach().double().requires_grad_())):
        wide = [to(x) for x in given]
        rows = modulation_rows(*wide, packing([1] * sequences, kernels))
        by = [w[:, n].to(rows[0].dtype) for w in weights for n in range(3)]  # as a norm's: every third row
        results.append((*rows, *torch.autograd.grad(rows, wide, by)))
    for ours, theirs in zip(*results, strict=True):
        assert relative(ours, theirs) < TOLERANCE[dtype]


@pytest.mark.parametrize("tokens", [1, 67])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gelu_between_two_products_and_the_gradients_of_all(dtype, tokens):
    up, down = torch.nn.Linear(40, 160), torch.nn.Linear(160, 40)
    x, weight = (draw(tokens, 40, seed=seed, dtype=dtype) for seed in (0, 1))
    results = []
    for kernels, given in (("fused", x), ("torch", x.detach().double().requires_grad_())):
        wide = [copy.deepcopy(layer).to(given.dtype) for layer in (up, down)]
        y = gelu_mlp(given, *wide, packing([tokens], kernels))
        results.append(
            (y, *torch.autograd.grad(y, [given, *(p for w in wide for p in w.parameters())], weight))
        )
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == dtype
        assert relative(ours, theirs) < TOLERANCE[dtype]


def test_gelu_of_large_numbers_is_the_number_or_nothing():
    one = torch.nn.Linear(8, 32), torch.nn.Linear(32, 8)
    for layer in one:
        torch.nn.init.constant_(layer.weight, 1.0)
    x = torch.tensor([[6e4], [-6e4]]).expand(2, 8).clone().requires_grad_()
    y = gelu_mlp(x, *one, packing([2], "fused"))
    assert torch.allclose(y, gelu_mlp(x, *one, packing([2], "torch")))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.tolist() == [[256.0] * 8, [0.0] * 8]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rotation_in_place_turns_queries_and_keys_alone_and_back(dtype):
    tokens, heads, head_dim = 19, 3, 24
    qkv = draw(tokens, 3 * heads * head_dim, seed=0, dtype=dtype).detach()
    turn = rotation(torch.arange(tokens) * 7, head_dim, torch.float32)
    seen = qkv.clone()
    rotate_(seen, *turn, heads)
    q_and_k, v = qkv.view(tokens, 3 * heads, head_dim).tensor_split([2 * heads], 1)
    exact = torch.cat((rotate(q_and_k.double(), *turn), v.double()), 1).flatten(1)
    assert relative(seen, exact) < TOLERANCE[dtype]
    assert torch.equal(seen[:, 2 * heads * head_dim :], qkv[:, 2 * heads * head_dim :])
    rotate_(seen, *turn, heads, back=True)
    assert relative(seen, qkv) < TOLERANCE[dtype]


@pytest.mark.parametrize("side_by_side", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gradients_are_turned_back_into_one_tensor_wherever_they_lie(dtype, side_by_side):
    tokens, heads, head_dim = 19, 3, 24
    turn = rotation(torch.arange(tokens) * 7, head_dim, torch.float32)
    given = draw(tokens, 3, heads, head_dim, seed=0, dtype=dtype).detach()
    expected = given.flatten(1).clone()
    rotate_(expected, *turn, heads, back=True)
    parts = given.unbind(1) if side_by_side else [part.clone() for part in given.unbind(1)]
    seen = turned_back(*parts, turn)
    assert torch.equal(seen, expected)
    assert (seen.data_ptr() == given.data_ptr()) == side_by_side


@on_a_gpu
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("implementation", "dtype"),
    [
        ("efficient", torch.float32),
        ("efficient", torch.float16),
        ("tiled", torch.float16),
        ("flash", torch.float16),
        ("flash", torch.bfloat16),
    ],
)
def test_rotated_attention_is_rotation_and_attention(implementation, dtype, case):
    lengths, heads, head_dim = CASES[case], 3, 64
    if implementation == "flash" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("flash needs sm_80")
    qkv = draw(sum(lengths), 3 * heads * head_dim, seed=0, dtype=dtype)
    where = packing(lengths, "fused", attention=implementation)
    position = torch.arange(sum(lengths)) - where.cu_seqlens.long()[where.sequence]
    weight = draw(sum(lengths), heads * head_dim, seed=1, dtype=dtype)
    results = []
    for kernels, attention, given in (
        ("fused", implementation, qkv),
        ("torch", "explicit", qkv.detach().double().requires_grad_()),
    ):
        there = where._replace(kernels=kernels, attention=attention)
        mixed = rotated_attention(given * 1, rotation(position, head_dim, given.dtype), heads, there)
        (gradient,) = torch.autograd.grad(mixed, given, weight.to(given.dtype))
        results.append((mixed, gradient))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == dtype
        assert relative(ours, theirs) < TOLERANCE[dtype]


@pytest.mark.parametrize(("dtype", "bound"), [(None, 2e-5), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_network_is_the_same_with_either(device, dtype, bound, checkpointing):
    shape = {"hidden": 64, "cond": 32, "blocks": 3, "heads": 2, "dropout": 0.0}
    lengths, spec = [7, 33, 1, 0, 20], ModelSpec(**shape, token_shift=4 * checkpointing)
    torch.manual_seed(0)
    model = Transformer(spec, activation_checkpointing=checkpointing).train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    where = packing(lengths, "fused")
    tokens = torch.arange(sum(lengths)) * 7 % 33
    sigma_bar = torch.linspace(0.1, 5, len(lengths))
    results = []
    for kernels, attention in (("fused", None), ("torch", "padded")):
        model.kernels, model.attention = kernels, attention
        model.zero_grad()
        with torch.autocast(device, dtype or torch.float16, enabled=dtype is not None):
            output = model(tokens, where.cu_seqlens, sigma_bar, max_length=max(lengths))
        output.square().mean().backward()
        results.append([output.detach(), *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        assert relative(ours, theirs) < bound


def test_recomputed_blocks_drop_the_same_entries():
    spec = ModelSpec(hidden=64, cond=32, blocks=2, heads=2, dropout=0.3)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = Transformer(spec, activation_checkpointing=checkpointing, kernels="fused").train()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        torch.manual_seed(5)
        borders = torch.tensor([0, 30, 64], dtype=torch.int32)
        model(torch.arange(64) % 33, borders, torch.ones(2), max_length=40).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_what_the_kernels_cannot_do_is_said():
    cuda = torch.device("cuda")
    assert launch.why_not(cuda, torch.float16, 512) is None  # on a CPU the double compiles it
    assert "float64" in launch.why_not(cuda, torch.float64, 512)
    assert "4100" in launch.why_not(cuda, torch.float16, 4100)
    assert "cpu" in launch.why_not(torch.device("cpu"), torch.float32, 512)
