"""Rows of sequences brought to tokens and back, rotation, modulation: each against its definition by autograd."""

import pytest
import torch

from sedd.model.modulation import gated_sum, norm_modulate
from sedd.model.packing import sequence_index, shift_tokens, sum_over_sequences
from sedd.model.rotary import rotate, rotation
from sedd.spec.model import neighbour_columns

F64 = torch.float64
CU = torch.tensor([0, 3, 3, 10, 11], dtype=torch.int32)
SEQUENCE = torch.tensor([0] * 3 + [2] * 7 + [3])


def rows(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def assert_same_gradients(fused, plain, *inputs):
    weight = torch.randn(fused.shape, dtype=F64, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-12)
    ours, theirs = (torch.autograd.grad(out, inputs, weight) for out in (fused, plain))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_each_token_knows_its_sequence():
    assert torch.equal(sequence_index(CU, 11), SEQUENCE)


def test_sums_are_of_each_sequences_rows():
    sums = sum_over_sequences(torch.ones(11, 2), CU)
    assert sums.tolist() == [[3, 3], [0, 0], [7, 7], [1, 1]]


@pytest.mark.parametrize(("hidden", "reach"), [(8, 1), (40, 5), (136, 3), (136, 8)])
def test_a_shift_takes_columns_from_neighbours_within_the_sequence(hidden, reach):
    y, columns = rows(11, hidden), neighbour_columns(hidden)
    plain = y * 1
    for token in range(11):
        for distance in range(1, reach + 1):
            for side, other in enumerate((token - distance, token + distance)):
                first = (2 * (distance - 1) + side) * columns
                is_there = 0 <= other < 11 and SEQUENCE[other] == SEQUENCE[token]
                plain[token, first : first + columns] = y[other, first : first + columns] if is_there else 0
    assert_same_gradients(shift_tokens(y, SEQUENCE, reach), plain, y)
    assert shift_tokens(y, SEQUENCE, 0) is y


def test_modulated_norm_is_layer_norm_scaled_and_shifted():
    x, factor, shift = rows(11, 6), rows(4, 6, seed=1), rows(4, 6, seed=2)
    plain = torch.nn.functional.layer_norm(x, (6,)) * factor[SEQUENCE] + shift[SEQUENCE]
    assert_same_gradients(norm_modulate(x, factor, shift, SEQUENCE, CU), plain, x, factor, shift)


def test_gated_sum_is_what_it_says():
    x, branch, gate = rows(11, 6), rows(11, 6, seed=1), rows(4, 6, seed=2)
    assert_same_gradients(
        gated_sum(x, branch, gate, SEQUENCE, CU), x + gate[SEQUENCE] * branch, x, branch, gate
    )


def test_rotation_is_complex_multiplication_by_position():
    x, position = rows(11, 2, 8), torch.arange(11) * 37
    frequency = 10_000.0 ** (-torch.arange(4, dtype=F64) / 4)
    turn = torch.polar(torch.ones(11, 1, 4, dtype=F64), position[:, None, None] * frequency)
    complex_x = torch.complex(x[..., :4], x[..., 4:]) * turn
    plain = torch.cat((complex_x.real, complex_x.imag), -1)
    assert_same_gradients(rotate(x, *rotation(position, 8, F64)), plain, x)


def test_rotated_products_depend_on_distance_alone():
    q, k = rows(1, 1, 8).expand(50, 1, 8), rows(1, 1, 8, seed=1).expand(50, 1, 8)
    turn = rotation(torch.arange(50), 8, F64)
    product = torch.einsum("qhd,khd->qk", rotate(q, *turn), rotate(k, *turn))
    for distance in (0, 3, 20):
        along = product.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-9, atol=1e-11)
