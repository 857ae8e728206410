"""Scores of substitutions from single residues' distributions: ln p(mutant's residue) - ln p(wild type's), summed.

Higher is better for the mutant. Each method is a plan: sequences to ask the network for, shared by all mutants that
need them, and for each mutant the terms that are added up. Sequences are packed into full batches whatever mutant
they belong to: a scan of 20 L mutants takes L sequences, not 20 L calls.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from sedd.diffusion.conditional import cleanest_level, hidden_level
from sedd.diffusion.draws import counter_noise
from sedd.inference.conditionals import Denoiser, Query, read_conditionals
from sedd.inference.variants import Variant
from sedd.spec.inference import ScoreOptions

Values = NDArray[np.float64]
"""[variants, draws]: scores of each draw, which know nothing of each other."""


@dataclass(frozen=True, slots=True)
class Term:
    """ln p(to) - ln p(source) at a site of a sequence that is asked for, for one draw of one mutant."""

    variant: int
    draw: int
    site: int
    to: int
    source: int


@dataclass(slots=True)
class Plan:
    """What to ask, each sequence once, and what becomes of the answers."""

    draws: int
    terms: dict[bytes, list[Term]] = field(default_factory=dict)
    queries: dict[bytes, tuple[NDArray[np.uint8], float]] = field(default_factory=dict)

    def add(self, tokens: NDArray[np.uint8], sigma_bar: float, terms: Sequence[Term]) -> None:
        key = tokens.tobytes() + np.float64(sigma_bar).tobytes()
        self.queries.setdefault(key, (tokens, sigma_bar))
        self.terms.setdefault(key, []).extend(terms)


def masked_marginal(denoiser: Denoiser, variants: Sequence[Variant], how: ScoreOptions) -> Plan:
    """All of a mutant's sites hidden at once (Meier et al. 2021, "masked marginals").

    Where several tokens hide a position (uniform graph) each is a draw.
    """
    hiding = denoiser.hiding[: how.draws]
    plan = Plan(len(hiding))
    for number, variant in enumerate(variants):
        sites, level = variant.sites, _level(denoiser, how, len(variant.sites), len(variant.wild_type))
        for draw, token in enumerate(hiding):
            tokens = variant.wild_type.copy()
            tokens[list(sites)] = token
            plan.add(tokens, level, [_term(number, draw, site, variant) for site in sites])
    return plan


def wild_type_marginal(denoiser: Denoiser, variants: Sequence[Variant], how: ScoreOptions) -> Plan:
    """Nothing hidden: one call of the network scores all substitutions of a protein."""
    plan = Plan(1)
    for number, variant in enumerate(variants):
        level = how.sigma_bar if how.sigma_bar is not None else cleanest_level(denoiser.noise)
        plan.add(variant.wild_type, level, [_term(number, 0, site, variant) for site in variant.sites])
    return plan


def order_ensemble(denoiser: Denoiser, variants: Sequence[Variant], how: ScoreOptions) -> Plan:
    """Substitutions made one after the other in a random order, each site hidden in its turn; the mean over draws.

    Of the rest a random part, from nothing to a share `hidden`, is hidden too: the order in which an any-order model
    would write the protein, the mutated sites near its end. With nothing hidden and exact conditionals the terms of
    any order add up to ln p(mutant) - ln p(wild type).
    """
    plan = Plan(how.draws)
    for number, variant in enumerate(variants):
        sites, length = np.array(variant.sites, dtype=np.int64), len(variant.wild_type)
        ranks = _uniforms(how.seed, how.draws, length)
        for draw in range(how.draws):
            token = denoiser.hiding[draw % len(denoiser.hiding)]
            rest = np.setdiff1d(np.arange(length), sites)
            most = int(how.hidden * len(rest))
            count = int((draw + ranks[draw, length]) / how.draws * (most + 1))
            hidden = rest[np.argsort(ranks[draw, rest], kind="stable")[:count]]
            level = _level(denoiser, how, count + 1, length)
            tokens = variant.wild_type.copy()
            for site in sites[np.argsort(ranks[draw, sites], kind="stable")].tolist():
                asked = tokens.copy()
                asked[hidden] = asked[site] = token
                plan.add(asked, level, [_term(number, draw, site, variant)])
                tokens[site] = variant.mutant[site]
    return plan


MARGINALS: dict[str, Callable[[Denoiser, Sequence[Variant], ScoreOptions], Plan]] = {
    "masked": masked_marginal,
    "wild_type": wild_type_marginal,
    "orders": order_ensemble,
}
"""By the name in `ScoreOptions.methods`."""


def marginal_scores(
    method: str,
    denoiser: Denoiser,
    variants: Sequence[Variant],
    how: ScoreOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Values:
    """The scores of substitutions by a method of MARGINALS, [variants, draws]; `progress` hears of sequences asked."""
    plan = MARGINALS[method](denoiser, variants, how)
    values = np.zeros((len(variants), plan.draws))
    keys = list(plan.queries)
    places = [sorted({term.site for term in plan.terms[key]}) for key in keys]
    queries = [Query(*plan.queries[key], tuple(at)) for key, at in zip(keys, places, strict=True)]
    rows = read_conditionals(denoiser, queries, as_if_hidden=method == "wild_type")
    for number, (key, at, found) in enumerate(zip(keys, places, rows, strict=True)):
        row_of = {site: row for row, site in enumerate(at)}
        for term in plan.terms[key]:
            row = found[row_of[term.site]]
            values[term.variant, term.draw] += row[term.to] - row[term.source]
        progress(number + 1, len(keys))
    return values


def _term(number: int, draw: int, site: int, variant: Variant) -> Term:
    return Term(number, draw, site, int(variant.mutant[site]), int(variant.wild_type[site]))


def _level(denoiser: Denoiser, how: ScoreOptions, hidden: int, length: int) -> float:
    if how.sigma_bar is not None:
        return how.sigma_bar
    return hidden_level(denoiser.graph, denoiser.noise, hidden, length)


@functools.cache
def _uniforms(seed: int, draws: int, length: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) by draw and position, [draws, length + 1]: those of a position do not depend on the mutant."""
    borders = torch.tensor([0, *[length + 1] * draws]).cumsum(0).int()
    noise = counter_noise(seed, -100, torch.arange(draws), borders, draws * (length + 1))
    found: NDArray[np.float64] = noise.uniform(1, torch.float64).view(draws, length + 1).numpy()
    return found
