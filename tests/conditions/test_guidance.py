"""Guided sampling in worlds with known p(x | y), against laws written down by enumeration."""

import itertools
import shlex
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sedd.conditions.asked import HEADER_KEYS, ask
from sedd.conditions.guides import guided_by
from sedd.conditions.known import KnownField
from sedd.design.redesigns import Redesign
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.guidance import exact_changes, first_order_changes, guided, tilted
from sedd.diffusion.objective import Objective
from sedd.diffusion.parameterization import PARAMETERIZATIONS
from sedd.diffusion.predictor import PREDICTORS
from sedd.diffusion.sampler import sample
from sedd.diffusion.times import T_MIN
from sedd.errors import UsageError
from sedd.inference.generation import Sample, fasta_text
from sedd.spec.conditions import FIELD_NAME, GuidanceOptions
from sedd.spec.inference import SampleOptions
from tests.diffusion.enumeration import World, chi_square_p, expm, noise_named, small_graph

F64 = torch.float64
NOISE = noise_named("loglinear")
SHARE = (0.3, 0.7)
"""p(y) of the two labels."""


def exact(world: World):
    """The exact score of a batch at one noise level, looked up in a table."""

    def log_score(x: torch.Tensor, sigma_bar: torch.Tensor) -> torch.Tensor:
        table = world.log_score_table(sigma_bar[0].item())
        return table[world.index(x.view(-1, world.length))].view(-1, world.n)

    return log_score


class Labelled:
    """Two labelled populations of short sequences: p(x | y), and p(x) = sum_y p(y) p(x | y)."""

    def __init__(self, graph: str, length: int, n: int = 3) -> None:
        self.under = [World(small_graph(graph, n), length, seed=seed) for seed in (3, 4)]
        self.all = World(small_graph(graph, n), length)
        self.all.p_0 = SHARE[0] * self.under[0].p_0 + SHARE[1] * self.under[1].p_0

    def table(self, weight: float, sigma_bar: float) -> torch.Tensor:
        """The guided log ratios of every state by their definition, [state, place, y]."""
        conditional, unconditional = (w.log_score_table(sigma_bar) for w in (self.under[0], self.all))
        mixed = weight * conditional + (1 - weight) * unconditional
        return torch.where(conditional.isneginf() | unconditional.isneginf(), -torch.inf, mixed)

    def law(self, weight: float, predictor: str, steps: int, *, normalised: bool) -> torch.Tensor:
        """The distribution over states that the sampler's kernels make of the prior."""
        graph, world = self.all.graph, self.all
        times, law = torch.linspace(1, T_MIN, steps + 1, dtype=F64), world.prior()

        def score(t: torch.Tensor) -> torch.Tensor:
            table, sigma_bar = self.table(weight, NOISE.total(t).item()), NOISE.total(t)
            if not normalised:
                return table
            residues = table[..., :-1].softmax(-1) / torch.expm1(sigma_bar)
            table = torch.cat((residues.log(), torch.full_like(table[..., -1:], -torch.inf)), -1)
            return table.scatter(-1, world.states.unsqueeze(-1), 0.0)

        for t, s in itertools.pairwise(times):
            law = world.law(PREDICTORS[predictor](graph, NOISE, score(t), world.states, t, s), law)
        end = NOISE.total(times[-1])
        kernel = graph.posterior(score(times[-1]), world.states, end, end)
        kernel = kernel * graph.clean_tokens(torch.device("cpu"))
        return world.law(kernel / kernel.sum(-1, keepdim=True), law)

    def draw(self, log_score, count: int, *, seed: int = 0, **options) -> torch.Tensor:
        x = sample(
            log_score,
            [self.all.length] * count,
            graph=self.all.graph,
            noise=NOISE,
            generator=torch.Generator().manual_seed(seed),
            **{"steps": 6, **options},
        )
        return self.all.index(x.view(count, self.all.length)).bincount(minlength=len(self.all.states))

    def log_evidence(self, rows: torch.Tensor, sigma_bar: torch.Tensor) -> torch.Tensor:
        """ln p(y = 0 | x_t) of sequences as rows [sequences * length, n], multilinear in them."""
        rows = rows.view(-1, self.all.length, self.all.n)

        def chance(world: World) -> torch.Tensor:
            p = world.marginal(sigma_bar[0].item())
            for axis in range(self.all.length):
                p = (
                    torch.einsum("...a,sa->s...", p, rows[:, -1])
                    if axis == 0
                    else torch.einsum("s...a,sa->s...", p, rows[:, -1 - axis])
                )
            return p

        return (SHARE[0] * chance(self.under[0])).log() - chance(self.all).log()


@pytest.mark.parametrize("graph", GRAPHS)
def test_weight_0_and_1_are_the_unconditional_and_the_conditional_law_to_the_bit(graph: str):
    world, asked = Labelled(graph, 2), []
    scores = {}
    for name, of in (("with", world.under[0]), ("without", world.all)):
        score = exact(of)
        scores[name] = lambda x, sigma_bar, score=score, name=name: asked.append(name) or score(x, sigma_bar)
    for weight, name in ((0.0, "without"), (1.0, "with")):
        for cached in {False, world.all.graph.settles}:
            alone = world.draw(scores[name], 300, cached=cached)
            asked.clear()
            assert torch.equal(
                world.draw(guided(scores["with"], scores["without"], weight), 300, cached=cached), alone
            )
            assert set(asked) == {name}


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_samples_follow_the_guided_law(graph: str, predictor: str, weight: float):
    world = Labelled(graph, 2)
    score = guided(exact(world.under[0]), exact(world.all), weight)
    for cached in {False, world.all.graph.settles}:
        law = world.law(weight, predictor, 6, normalised=cached)
        found = world.draw(score, 12_000, predictor=predictor, cached=cached)
        assert chi_square_p(found, law) > 1e-4


@pytest.mark.parametrize("graph", GRAPHS)
def test_at_weight_1_many_steps_draw_from_p_of_x_given_y(graph: str):
    world = Labelled(graph, 2)
    score = guided(exact(world.under[0]), exact(world.all), 1.0)
    if world.all.graph.settles:
        steps, target = 60, world.under[0].p_0.reshape(-1)
        assert (world.law(1.0, "analytic", steps, normalised=True) - target).abs().sum() < 0.03
    else:  # up to the distance of p_1 from the prior
        steps, target = 60, world.law(1.0, "analytic", 60, normalised=False)
        assert (target - world.under[0].p_0.reshape(-1)).abs().sum() < 0.03
    count = 4000
    assert chi_square_p(world.draw(score, count, steps=steps), target) > 1e-4
    other = world.under[1].p_0.reshape(-1)
    assert chi_square_p(world.draw(score, count, steps=steps), other.clamp_min(1e-9)) < 1e-6


@pytest.mark.parametrize("weight", [0.5, 2.0, 3.0])
def test_a_single_token_follows_p_times_the_evidence_to_the_weight(weight: float):
    """Of one token on the absorbing graph the guided law can be written down: p(x) p(y | x)^w / Z."""
    world = Labelled("absorbing", 1, n=5)
    prior, given = world.all.p_0[:-1], world.under[0].p_0[:-1]
    law = prior * (given / prior) ** weight
    score = guided(exact(world.under[0]), exact(world.all), weight)
    found = world.draw(score, 20_000, cached=True)[:-1]
    assert chi_square_p(found, law / law.sum()) > 1e-4
    assert chi_square_p(found, given) < 1e-4


@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0, 2.5])
@pytest.mark.parametrize("graph", GRAPHS)
def test_an_exact_classifier_guides_as_the_conditional_score_does(graph: str, weight: float):
    """Bayes: p_t(y | c) / p_t(x | c) = p_t(y) / p_t(x) times p(c | y) / p(c | x), also at every power."""
    world = Labelled(graph, 2)
    x, sigma_bar = world.all.states.flatten(), torch.full((len(world.all.states),), 0.8, dtype=F64)
    borders = torch.arange(len(sigma_bar) + 1, dtype=torch.int32) * 2

    def changes(x, sigma_bar):
        return exact_changes(lambda rows, _, level: world.log_evidence(rows, level), x, borders, sigma_bar, 3)

    by_classifier = tilted(exact(world.all), changes, weight)(x, sigma_bar)
    by_scores = guided(exact(world.under[0]), exact(world.all), weight)(x, sigma_bar)
    by_scores = by_scores.scatter(-1, x.unsqueeze(-1), 0.0)
    torch.testing.assert_close(by_classifier, by_scores, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("graph", GRAPHS)
def test_samples_under_a_guide_follow_the_conditional_law(graph: str):
    world, count = Labelled(graph, 2), 4000
    borders = torch.arange(count + 1, dtype=torch.int32) * 2
    score = guided_by(
        exact(world.all),
        lambda rows, _, level: world.log_evidence(rows, level),
        borders,
        n=3,
        weight=1.0,
        changes="exact",
    )
    found = world.draw(score, count)
    assert chi_square_p(found, world.law(1.0, "analytic", 6, normalised=False)) > 1e-4


def test_the_first_order_is_exact_for_a_linear_classifier_and_close_for_a_gentle_one():
    lengths, n = [3, 1, 0, 4], 5
    borders = torch.tensor([0, 3, 4, 4, 8], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    slope = torch.randn(8, n, dtype=F64, generator=generator)
    x, levels = torch.randint(0, n, (8,), generator=generator), torch.ones(4, dtype=F64)

    def linear(rows, cu_seqlens, sigma_bar):
        return torch.stack([part.sum() for part in (rows * slope).split(lengths)])

    def gentle(rows, cu_seqlens, sigma_bar):
        return torch.nn.functional.logsigmoid(0.05 * linear(rows, cu_seqlens, sigma_bar))

    each, first = (c(linear, x, borders, levels, n) for c in (exact_changes, first_order_changes))
    torch.testing.assert_close(first, each)
    torch.testing.assert_close(each, slope - slope.gather(-1, x.unsqueeze(-1)))
    each, first = (c(gentle, x, borders, levels, n) for c in (exact_changes, first_order_changes))
    assert (first - each).abs().max() < 0.05 * each.abs().max()
    assert not torch.equal(first, each)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_the_guided_score_is_the_same_for_either_parameterization(graph: str, parameterization: str):
    world = Labelled(graph, 2)
    borders = torch.arange(len(world.all.states) + 1, dtype=torch.int32) * 2
    objective = Objective(world.all.graph, NOISE, parameterization)

    def network(of: World):
        """A raw output that means the exact score."""

        def raw(x, sigma_bar):
            ratio, each = exact(of)(x, sigma_bar), sigma_bar.repeat_interleave(2)
            if parameterization == "score":
                return ratio - of.graph.log_score_scale(each).unsqueeze(-1)
            # The clean token's distribution given the others, from the definition.
            noise = expm(of.graph, sigma_bar[0])
            joint = (ratio.exp() @ torch.linalg.inv(noise)).clamp_min(0)
            return joint.log()

        return objective.log_score(raw, borders)

    x, level = world.all.states.flatten(), torch.full((len(world.all.states),), 0.6, dtype=F64)
    if world.all.graph.settles and parameterization == "subs":
        masked = x == world.all.graph.mask

        def network(of: World):  # on this graph the score at masks is the distribution already
            return objective.log_score(exact(of), borders)
    else:
        masked = torch.ones_like(x, dtype=torch.bool)
    found = guided(network(world.under[0]), network(world.all), 2.0)(x, level)
    table = world.table(2.0, 0.6).view(-1, 3)
    finite = table.isfinite() & masked.unsqueeze(-1)
    if world.all.graph.settles:
        finite[:, -1] = False  # what is drawn is never a mask
    torch.testing.assert_close(found[finite], table[finite], atol=1e-7, rtol=1e-6)


def test_what_either_rules_out_stays_ruled_out():
    impossible = torch.tensor([[0.0, -torch.inf, 1.0]])
    possible = torch.tensor([[0.0, 2.0, -torch.inf]])
    mixed = guided(lambda x, level: impossible, lambda x, level: possible, 3.0)(
        torch.zeros(1), torch.zeros(1)
    )
    assert mixed.tolist() == [[0.0, -torch.inf, -torch.inf]]


def test_a_guide_that_rules_out_or_knows_nothing_is_one_clear_error():
    world = Labelled("absorbing", 1)
    for answer in (torch.nan, -torch.inf):
        score = guided_by(
            exact(world.all),
            lambda rows, borders, level, answer=answer: torch.full_like(level, answer) + 0 * rows.sum(),
            torch.tensor([0, 1], dtype=torch.int32),
            n=3,
            weight=1.0,
            changes="exact",
        )
        with pytest.raises(UsageError, match="the guide gives a probability of zero, or none"):
            score(torch.tensor([2]), torch.ones(1, dtype=F64))


def test_no_key_of_a_samples_header_is_there_twice_and_every_label_is_one_word():
    """Whatever fields are called, as one `length`: a parser could not tell a label from the sample's own."""
    fields = tuple(KnownField(name=key, kind="number") for key in (*HEADER_KEYS, "heat"))
    family = KnownField(name="family", kind="category", values=("zinc finger",))
    condition: dict[str, str | int | float] = {**dict.fromkeys((*HEADER_KEYS, "heat"), 300)}
    condition["family"] = "zinc finger"
    asked = ask((*fields, family), condition, GuidanceOptions(guidance=2), torch.device("cpu"))
    how = SampleOptions(remask=0.1, order="margin", temperature=0.9, top_p=0.8)
    one = Redesign(
        name="r", parent="p", mutations="A1G", count=1, identity=0.9, score=0.1, standard_error=0.1
    )
    network: Any = SimpleNamespace(run="a/b", step=3, asked=asked)
    header = fasta_text(network, how, [Sample("s", "MKV", one)]).splitlines()[0]
    pairs = [word.split("=", 1) for word in shlex.split(header) if "=" in word]
    told = dict(pairs)
    assert len(told) == len(pairs)
    assert (told["length"], told["label.length"], told["heat"]) == ("3", "300", "300")
    assert told["family"] == "zinc finger"
    own = set(told) - {"heat", "family"} - {f"label.{key}" for key in HEADER_KEYS}
    assert own | {"guide", "guide_weight"} == set(HEADER_KEYS)
    assert not FIELD_NAME.fits("label.length"), "no field is called so"


def test_a_weight_of_no_condition_is_refused():
    with pytest.raises(UsageError, match="guidance weights a condition, and there is none"):
        ask((), {}, GuidanceOptions(guidance=2.0), torch.device("cpu"))
