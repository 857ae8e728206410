"""The training loss: weights, invariances, curricula."""

import math

import pytest
import torch

from sedd.diffusion.curriculum import CURRICULA, GROWTHS, SigmaScale, TimeBias
from sedd.diffusion.draws import counter_noise
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.noise import NOISES
from sedd.diffusion.objective import Objective
from sedd.diffusion.parameterization import PARAMETERIZATIONS
from sedd.diffusion.times import diffusion_times, lattice
from tests.diffusion.enumeration import curriculum_named, noise_named, small_graph

LENGTHS = (5, 1, 8, 3)
CU = torch.tensor((0, *LENGTHS)).cumsum(0).int()
TOKENS = torch.arange(sum(LENGTHS)) % 3
TIMES = torch.tensor([0.001, 0.4, 0.9, 1.0], dtype=torch.float64)


def network(n):
    """Raw output that depends on a token alone."""
    table = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return lambda x, sigma_bar: table[x] * 0.5


def keyed(samples, cu):
    return counter_noise(7, 3, torch.tensor(samples), cu, int(cu[-1]))


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_loss_does_not_depend_on_packing(graph, noise, parameterization):
    objective = Objective(small_graph(graph), noise_named(noise), parameterization)
    net = network(4)
    whole = objective.per_residue(net, TOKENS, CU, TIMES, generator=keyed(range(4), CU))
    parts = whole.split(LENGTHS)
    order = [2, 0, 3, 1]
    cu = torch.tensor([0, *(LENGTHS[i] for i in order)]).cumsum(0).int()
    tokens = torch.cat([TOKENS.split(LENGTHS)[i] for i in order])
    shuffled = objective.per_residue(net, tokens, cu, TIMES[order], generator=keyed(order, cu))
    torch.testing.assert_close(shuffled, torch.cat([parts[i] for i in order]), rtol=1e-12, atol=0)
    for number, part in enumerate(parts):
        alone = torch.tensor([0, LENGTHS[number]], dtype=torch.int32)
        loss = objective.per_residue(
            net, TOKENS.split(LENGTHS)[number], alone, TIMES[number, None], generator=keyed([number], alone)
        )
        torch.testing.assert_close(loss, part, rtol=1e-12, atol=0)


@pytest.mark.parametrize("noise", NOISES)
def test_subs_loss_is_the_weighted_cross_entropy_of_masked_residues(noise):
    graph, schedule = small_graph("absorbing"), noise_named(noise)
    objective = Objective(graph, schedule, "subs")
    net, seen = network(4), []

    def spy(x, sigma_bar):
        seen.append((x, sigma_bar))
        return net(x, sigma_bar)

    loss = objective.per_residue(spy, TOKENS, CU, TIMES, generator=keyed(range(4), CU))
    ((x, sigma_bar),) = seen
    log_p = net(x, sigma_bar)[:, :3].log_softmax(-1).gather(-1, TOKENS[:, None])[:, 0]
    weight = schedule.rate(TIMES) * torch.exp(-sigma_bar) / (1 - torch.exp(-sigma_bar))
    per_token = weight.repeat_interleave(torch.tensor(LENGTHS))
    torch.testing.assert_close(loss, torch.where(x == 3, -per_token * log_p, 0.0), rtol=1e-8, atol=1e-9)
    assert (x == 3).any()


@pytest.mark.parametrize("noise", NOISES)
def test_counting_masks_costs_the_same_with_less_variance(noise):
    """Both estimators of one loss, over many draws of the same sequences."""
    copies = 3000
    tokens, cu = (
        TOKENS.repeat(copies),
        torch.cat([torch.zeros(1), torch.tensor(LENGTHS * copies).cumsum(0)]).int(),
    )
    u = torch.rand(4 * copies, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    each = {}
    for estimator in ("times", "counts"):
        objective = Objective(small_graph("absorbing"), noise_named(noise), "subs", estimator=estimator)
        loss = objective.per_residue(
            network(4), tokens, cu, diffusion_times(u), generator=keyed(range(4 * copies), cu)
        )
        each[estimator] = loss.view(copies, -1).sum(1)
    means = {name: values.mean().item() for name, values in each.items()}
    errors = {name: values.std().item() / copies**0.5 for name, values in each.items()}
    # Below t_min, 1e-3 of the way, only the bound looks.
    assert means["counts"] == pytest.approx(means["times"], abs=4 * math.hypot(*errors.values()) + 0.05)
    assert errors["counts"] < 0.7 * errors["times"]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_power_of_the_time_keeps_the_expected_loss(graph):
    """Times U^p weighted by p U^(p - 1) against times U, over many evenly spread draws for the same sequences."""
    copies = 6000
    tokens = TOKENS.repeat(copies)
    cu = torch.cat([torch.zeros(1), torch.tensor(LENGTHS * copies).cumsum(0)]).int()
    u = ((torch.arange(copies, dtype=torch.float64) + 0.5) / copies).repeat_interleave(len(LENGTHS))
    means, errors = [], []
    for power in (1.0, 2.0):
        objective = Objective(small_graph(graph), noise_named("geometric"), time_power=power)
        keys = keyed(range(len(LENGTHS) * copies), cu)
        loss = objective.per_residue(network(4), tokens, cu, diffusion_times(u), generator=keys)
        each = loss.view(copies, -1).sum(1)
        means.append(each.mean().item())
        errors.append(each.std().item() / copies**0.5)
    assert means[0] == pytest.approx(means[1], abs=3 * math.hypot(*errors))
    assert math.hypot(*errors) < 0.04 * means[0]


def test_counting_masks_needs_masks_and_no_curriculum():
    for graph, curriculum in [("uniform", None), ("absorbing", TimeBias(preschool_steps=1, bias=1.0))]:
        with pytest.raises(ValueError, match="counts"):
            Objective(small_graph(graph), noise_named("loglinear"), "score", curriculum, "counts")


def test_network_without_knowledge_costs_the_logarithm_of_the_alphabet():
    objective = Objective(GRAPHS["absorbing"](), noise_named("loglinear"), "score")
    tokens = torch.randint(4, 24, (20_000,), generator=torch.Generator().manual_seed(0))
    cu = torch.arange(0, 20_001, 100, dtype=torch.int32)
    t = diffusion_times(lattice(torch.arange(200)))
    loss = objective.per_residue(
        lambda x, s: torch.zeros(len(x), 33), tokens, cu, t, generator=torch.Generator().manual_seed(2)
    )
    assert loss.mean().item() == pytest.approx(math.log(32), rel=0.05)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("name", CURRICULA)
def test_curriculum_ends_with_the_preschool_and_never_reaches_the_bound(name):
    graph, noise = small_graph("absorbing"), noise_named("loglinear")
    plain = Objective(graph, noise)
    eased = Objective(graph, noise, curriculum=curriculum_named(name, preschool_steps=100))
    net = network(4)

    def loss(objective, step):
        return objective.per_residue(net, TOKENS, CU, TIMES, generator=keyed(range(4), CU), step=step).sum()

    assert loss(eased, 1) != loss(plain, 1)
    for step in (100, 10_000):
        torch.testing.assert_close(loss(eased, step), loss(plain, step), rtol=1e-12, atol=0)
    bounds = [o.bound(net, TOKENS, CU, TIMES, generator=keyed(range(4), CU)) for o in (eased, plain)]
    assert torch.equal(*bounds)


@pytest.mark.parametrize("growth", GROWTHS)
def test_sigma_scale_grows_from_a_tenth_to_one(growth):
    curriculum = SigmaScale(preschool_steps=50, growth=growth)
    scales = [curriculum.sigma_scale(step) for step in range(60)]
    assert scales[0] == pytest.approx(0.1)
    assert scales[50:] == pytest.approx([1.0] * 10)
    assert scales == sorted(scales)


def test_time_bias_prefers_small_times_less_and_less():
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    curriculum = TimeBias(preschool_steps=10, bias=1.0)
    torch.testing.assert_close(curriculum.bend_times(u, 0), u**2)
    torch.testing.assert_close(curriculum.bend_times(u, 5), u**1.5)
    torch.testing.assert_close(curriculum.bend_times(u, 10), u)


def test_times_cover_the_interval_evenly():
    u = lattice(torch.arange(500, 1500), offset=0.3)
    assert u.dtype == torch.float32
    assert 0 <= u.min() < u.max() < 1
    assert (torch.histc(u, 100, 0, 1) - 10).abs().max() <= 3
    t = diffusion_times(torch.tensor([0.0, 1.0]))
    assert t.tolist() == pytest.approx([1e-3, 1.0])
    assert torch.equal(
        lattice(torch.tensor([700]), offset=0.3), lattice(torch.arange(1000), offset=0.3)[700:701]
    )
