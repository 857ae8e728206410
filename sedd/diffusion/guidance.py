"""Guidance: scores under a condition, weighted against those without, or tilted by a classifier.

A score is the ratio p_t(y) / p_t(x), so conditions multiply it: p_t(y | c) / p_t(x | c) is the ratio without the
condition times p(c | y) / p(c | x). Both forms below raise that factor to a weight w, of which 0 is the distribution
without the condition and 1 the one given it. On either graph, and for
either parameterization: both are read as log scores.

Source: for rates of discrete jump processes Nisonoff et al. 2024 (arXiv 2406.01572), R_w(x, y) = R(x, y | c)^w
R(x, y)^(1 - w); Schiff et al. 2024 (arXiv 2412.10193) normalise the residue's distribution after that, which is what
the cached sampler of the absorbing graph does with every score. As for images, what is sampled for other w is no
distribution that could be written as p(x) p(c | x)^w, except for a single token on the absorbing graph.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sedd.diffusion.bound import LogScore
from sedd.diffusion.draws import Borders, Packed, PerSequence

LogChanges = Callable[[Tensor, Tensor], Tensor]
"""(x [tokens], sigma_bar [sequences]) -> ln p(c | x with y at the token) - ln p(c | x), [tokens, n]."""


def guided(conditional: LogScore, unconditional: LogScore, weight: float) -> LogScore:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): (1 - w) unconditional + w conditional.

    Both are log scores. At w = 0 and w = 1 it is one of them, to the bit, and the other is not asked.
    """
    if weight == 0:
        return unconditional
    if weight == 1:
        return conditional

    def log_score(x: Tensor, sigma_bar: Tensor) -> Tensor:
        with_it, without = conditional(x, sigma_bar), unconditional(x, sigma_bar)
        mixed = (1 - weight) * without + weight * with_it
        # What either rules out stays so: infinities of both signs would add up to nothing.
        return torch.where(with_it.isneginf() | without.isneginf(), -torch.inf, mixed)

    return log_score


def tilted(unconditional: LogScore, changes: LogChanges, weight: float) -> LogScore:
    """Guidance by a classifier: unconditional + w (ln p(c | x with y) - ln p(c | x)). At w = 0 nothing is asked."""
    if weight == 0:
        return unconditional

    def log_score(x: Tensor, sigma_bar: Tensor) -> Tensor:
        score = unconditional(x, sigma_bar)
        # The current token's own entry is a ratio of equals.
        own = x.long().unsqueeze(-1)
        change = changes(x, sigma_bar).to(score.dtype).scatter(-1, own, 0.0)
        return torch.where(score.isneginf(), score, score + weight * change)

    return log_score


Classifier = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(rows [tokens, n], cu_seqlens [sequences + 1], sigma_bar [sequences]) -> ln p(c | x_t) [sequences].

Rows are one-hot; differentiable in them, for `first_order`.
"""


def exact_changes(
    classifier: Classifier, x: Packed, cu_seqlens: Borders, sigma_bar: PerSequence, n: int
) -> Float[Tensor, "tokens n"]:
    """ln p(c | x with y at i) - ln p(c | x) for every token i and every y, by asking for each of them.

    One token of every sequence is changed at a time: n calls for each position of the longest sequence.
    """
    rows = torch.nn.functional.one_hot(x.long(), n).double()
    starts, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    before = classifier(rows, cu_seqlens, sigma_bar).double()
    found = before.new_zeros(x.numel(), n)
    for place in range(int(lengths.max())):
        here = lengths > place
        tokens = (starts + place)[here]
        for y in range(n):
            changed = rows.clone()
            changed[tokens] = 0.0
            changed[tokens, y] = 1.0
            found[tokens, y] = (classifier(changed, cu_seqlens, sigma_bar).double() - before)[here]
    return found


def first_order_changes(
    classifier: Classifier, x: Packed, cu_seqlens: Borders, sigma_bar: PerSequence, n: int
) -> Float[Tensor, "tokens n"]:
    """The same to first order, by one gradient: d/d rows at y less that at the current token.

    Exact for a classifier that is linear in the rows (Nisonoff et al. 2024 call it Taylor-approximated guidance).
    """
    with torch.enable_grad():
        rows = torch.nn.functional.one_hot(x.long(), n).double().requires_grad_()
        total = classifier(rows, cu_seqlens, sigma_bar).sum()
        (slope,) = torch.autograd.grad(total, rows)
    return slope - slope.gather(-1, x.long().unsqueeze(-1))


CHANGES: dict[str, Callable[..., Tensor]] = {"exact": exact_changes, "first_order": first_order_changes}
"""How a classifier's answer to single changes is found, by name."""
