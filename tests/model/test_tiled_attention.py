"""Our own attention kernels against softmax written out in float64: on a GPU, and on a CPU that plays one."""

import pytest
import torch

from sedd.model import tiled_sizes
from sedd.model.attention import explicit_attention, pair_for, tiled_attention
from sedd.model.block_ops import rotated_attention
from sedd.model.fused import tiled_attention as tiled
from sedd.model.fused.tiled_attention import tiled_backward, tiled_forward
from sedd.model.packing import Packing, sequence_index
from sedd.model.rotary import rotate, rotation
from sedd.model.tiled_sizes import HEAD_DIMS
from tests.model.cuda_on_cpu import AS_VOLTA, CPU, DEVICES, GPU, kernels_on

TOLERANCE = 2e-3
"""Of ‖ours − exact‖ / ‖exact‖: some roundings of float16, each 2^-11 at most."""
CASES = {
    "odd lengths": [70, 1, 33, 16],
    "empty ones": [0, 5, 0, 17, 0],
    "one sequence": [129],
    "many short": [1 + i % 5 for i in range(8)],
}
LONG = {"whole tiles": [512, 513, 64, 1], "longest": [1100, 90], "as in training": [400, 300, 200, 77]}


@pytest.fixture(params=DEVICES, autouse=True)
def device(request, monkeypatch):
    with kernels_on(request.param, monkeypatch) as device:
        yield device


def draw(*shape, seed):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    return torch.randn(*shape, generator=generator).half()


def relative(here, there):
    return float((here.detach().double() - there.detach().double()).norm() / there.detach().double().norm())


def borders_of(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int()


def turn_of(borders, tokens, head_dim):
    position = torch.arange(tokens) - borders.long()[sequence_index(borders, tokens)]
    return rotation(position, head_dim, torch.float32)


def seen(lengths, heads, head_dim, turn=None):
    """Output and gradients of heads that lie as in a block, side by side; queries and keys are taken as turned."""
    q, k, v = draw(sum(lengths), 3, heads, head_dim, seed=0).unbind(1)
    weight, borders = draw(sum(lengths), heads, head_dim, seed=1), borders_of(lengths)
    output, kept = tiled_forward(q, k, v, borders, max(lengths) + 5, keep=True)
    back = tiled_backward(weight, q, k, v, output, borders, max(lengths) + 5, kept, turn)
    return [output, *back]


def expected(lengths, heads, head_dim, turn=None):
    given = draw(sum(lengths), 3, heads, head_dim, seed=0).double().unbind(1)
    weight = draw(sum(lengths), heads, head_dim, seed=1).double()
    given = [x.detach().requires_grad_() for x in given]
    output = explicit_attention(*given, borders_of(lengths), max(lengths))
    d_q, d_k, d_v = torch.autograd.grad(output, given, weight)
    if turn is not None:
        back = turn[0].double(), -turn[1].double()
        d_q, d_k = rotate(d_q, *back), rotate(d_k, *back)
    return [output, d_q, d_k, d_v]


def require_same(ours, theirs):
    for here, there in zip(ours, theirs, strict=True):
        assert here.dtype == torch.float16
        assert relative(here, there) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_output_and_gradients_are_those_of_softmax_within_each_sequence(case, head_dim):
    require_same(seen(CASES[case], 2, head_dim), expected(CASES[case], 2, head_dim))


@pytest.mark.parametrize("device", [GPU, AS_VOLTA], indirect=True)
@pytest.mark.parametrize("case", LONG)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_long_sequences_too_and_the_same_bits_every_time(case, head_dim):
    turn = turn_of(borders_of(LONG[case]), sum(LONG[case]), head_dim)
    first, second = (seen(LONG[case], 3, head_dim, turn) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    require_same(first, expected(LONG[case], 3, head_dim, turn))


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_gradients_of_what_was_turned_are_turned_back(head_dim):
    lengths = [20, 75]
    turn = turn_of(borders_of(lengths), sum(lengths), head_dim)
    require_same(seen(lengths, 1, head_dim, turn), expected(lengths, 1, head_dim, turn))


def test_it_does_not_matter_how_many_heads_gradients_of_scores_are_kept_at_once(monkeypatch):
    at_once = seen([70, 3], 3, 128)
    for kept in (1, 2 * 73 * 128 * 2):
        monkeypatch.setattr(tiled_sizes, "KEPT_BYTES", kept)
        assert all(torch.equal(a, b) for a, b in zip(seen([70, 3], 3, 128), at_once, strict=True))


@pytest.mark.parametrize("device", [CPU], indirect=True)
@pytest.mark.parametrize("layout", [0, 1, 2], ids=["Turing to Hopper", "Volta", "nobody's"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_it_does_not_matter_how_a_card_holds_matrices(layout, head_dim):
    choose = tiled.attention_module(torch.device("cpu"), head_dim)._library.choose_layout
    choose(layout)
    try:
        assert tiled._why_not.__wrapped__(torch.device("cpu"), (7, 0)) is None
        require_same(seen([70, 3], 1, head_dim), expected([70, 3], 1, head_dim))
    finally:
        choose(0)


@pytest.mark.parametrize("device", [CPU], indirect=True)
def test_a_card_that_holds_them_in_an_unknown_way_is_not_trusted():
    turing = [
        [(lane // 4 + (i & 2) * 4) * 16 + lane % 4 * 2 + (i & 4) * 2 + (i & 1) for i in range(8)]
        for lane in range(32)
    ]
    assert tiled._is_known(turing)
    by_columns = [[place % 16 * 16 + place // 16 for place in lane] for lane in turing]
    assert not tiled._is_known(by_columns)
    assert not tiled._is_known([turing[0], *turing[:-1]])
    assert not tiled._is_known([[*lane[2:], *lane[:2]] for lane in turing])


def test_separate_tensors_and_autograd():
    lengths = [40, 7]
    given = [x.contiguous().requires_grad_() for x in draw(47, 3, 2, 64, seed=0).unbind(1)]
    output = tiled_attention(*given, borders_of(lengths), 40)
    gradients = torch.autograd.grad(output, given, draw(47, 2, 64, seed=1))
    require_same([output, *gradients], expected(lengths, 2, 64))


def test_rotated_attention_is_rotation_and_attention():
    lengths, heads, head_dim = [50, 21], 2, 32
    qkv, borders = draw(sum(lengths), 3 * heads * head_dim, seed=0), borders_of(lengths)
    index, turn = sequence_index(borders, sum(lengths)), turn_of(borders, sum(lengths), head_dim)
    weight, results = draw(sum(lengths), heads * head_dim, seed=1), []
    for kernels, attention, given in (("fused", "tiled", qkv), ("torch", "explicit", qkv.double())):
        given = given.requires_grad_()
        where = Packing(index, borders, max(lengths), attention, kernels, 0.0, None)
        mixed = rotated_attention(given * 1, turn, heads, where)
        results.append([mixed, *torch.autograd.grad(mixed, given, weight.to(given.dtype))])
    require_same(*results)


@pytest.mark.parametrize("device", [CPU], indirect=True)
def test_heads_of_other_sizes_are_left_to_efficient():
    device = torch.device(CPU)
    assert pair_for("tiled", 96, device) is pair_for("efficient", 96, device)
    assert all(pair_for("tiled", head_dim, device).forward is tiled_forward for head_dim in HEAD_DIMS)


@pytest.mark.parametrize("device", [CPU], indirect=True)
@pytest.mark.parametrize(("capability", "of_128"), [((7, 0), True), ((7, 5), False), ((9, 0), True)])
def test_turing_shares_too_little_memory_for_heads_of_128(monkeypatch, capability, of_128):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert tiled.is_written_for(128, torch.device("cuda")) == of_128
    assert tiled.is_written_for(64, torch.device("cuda"))


@pytest.mark.parametrize("device", [CPU], indirect=True)
def test_another_number_format_is_refused_not_misread():
    q, k, v = torch.zeros(5, 3, 2, 64).unbind(1)
    with pytest.raises(TypeError, match=r"float16, not in torch\.float32"):
        tiled_attention(q, k, v, borders_of([5]), 5)
