"""One residue's distribution given the others, against worlds that can be written down."""

import pytest
import torch

from sedd.diffusion.conditional import cleanest_level, hidden_level, hiding_tokens
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.noise import NOISES
from sedd.diffusion.times import T_MIN
from tests.diffusion.enumeration import World, noise_named, small_graph

F64 = torch.float64


def conditionals(world, sigma_bar, x):
    """As `log_conditional` reads them off the exact score of one state."""
    levels = torch.tensor([sigma_bar], dtype=F64)
    log_score = world.log_score()(x, levels)
    return world.graph.log_conditional(log_score, x, levels.expand(len(x)))


@pytest.mark.parametrize("sigma_bar", [1e-3, 0.3, 2.0])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_row_is_bayes_rule_on_the_noisy_rest_whatever_stands_at_the_token(graph, sigma_bar):
    world = World(small_graph(graph), 3)
    transition = torch.linalg.matrix_exp(sigma_bar * world.graph.rates())
    x = torch.tensor([1, 0, 2])
    # p(x_0 at place 1, noisy tokens at the others): the noise of place 1 alone is not there.
    joint = torch.einsum("abc,a,c->b", world.p_0, transition[:, x[0]], transition[:, x[2]])
    exact = (joint / joint.sum()).log()
    for token in range(world.n):
        changed = x.clone()
        changed[1] = token
        found = conditionals(world, sigma_bar, changed)[1]
        possible = exact > -20
        torch.testing.assert_close(found[possible], exact[possible], rtol=0, atol=1e-7)


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_tokens_that_hide_are_those_no_clean_sequence_holds(graph):
    full = GRAPHS[graph]()
    occurs = torch.zeros(33, dtype=torch.bool)
    occurs[4:24] = True
    hiding = hiding_tokens(full, occurs)
    assert hiding == ((32,) if full.settles else (*range(4), *range(24, 33)))


def test_where_every_token_occurs_nothing_can_hide():
    with pytest.raises(ValueError, match="nothing can hide"):
        hiding_tokens(small_graph("uniform"), torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize("noise", NOISES)
def test_the_level_of_hidden_positions_is_where_so_many_are_expected(noise):
    graph, schedule = GRAPHS["absorbing"](), noise_named(noise)
    assert cleanest_level(schedule) == pytest.approx(float(schedule.total(torch.tensor(T_MIN, dtype=F64))))
    level = hidden_level(graph, schedule, 50, 99)
    last = schedule.total(torch.tensor(1.0, dtype=F64))
    assert float(torch.expm1(torch.tensor(-level, dtype=F64)) / torch.expm1(-last)) == pytest.approx(0.5)
    assert hidden_level(graph, schedule, 1, 10**6) == cleanest_level(schedule)
    assert hidden_level(GRAPHS["uniform"](), schedule, 50, 99) == cleanest_level(schedule)
