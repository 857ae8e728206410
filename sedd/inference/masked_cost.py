"""Cross-entropy of hidden residues at a masking rate: what published protein language models report, at 0.15."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sedd.diffusion.conditional import hidden_level
from sedd.diffusion.draws import counter_noise
from sedd.diffusion.likelihood import Bound, join_bounds
from sedd.inference.conditionals import Query, read_conditionals
from sedd.inference.evaluation import Proteins, arrays_of, bound_of
from sedd.inference.keep import Arrays, Keep, at_once
from sedd.inference.load_network import Trained
from sedd.spec.inference import EvaluateOptions

_STREAM = -200
"""Keeps these draws apart from those of the bound."""
_TOGETHER = 64
"""Proteins whose masked copies are held at once."""


def masked_costs(
    trained: Trained,
    proteins: Proteins,
    how: EvaluateOptions,
    *,
    progress: Callable[[int], None] = lambda done: None,
    keep: Keep = at_once,
    name: str = "masked",
) -> dict[float, Bound]:
    """For each of `how.mask_rates` the nats of hidden residues; `residues` counts the hidden ones.

    Of each protein round(rate x length), at least one, are hidden, `how.draws` times: which ones follows from its
    residues alone, and those of a smaller rate are hidden at a larger one, too.
    """
    keys = proteins.keys(torch.device("cpu"))
    starts = range(0, len(proteins.distinct), _TOGETHER)

    def compute(number: int) -> Arrays:
        first = starts[number]
        progress(int(proteins.copies[:first].sum()))
        part = proteins.distinct[first : first + _TOGETHER]
        orders = [_orders(how, key, len(tokens)) for key, tokens in zip(keys[first:], part, strict=False)]
        found: dict[str, NDArray[Any]] = {}
        for place, rate in enumerate(how.mask_rates):
            costs = arrays_of(_costs(trained, part, orders, rate))
            found |= {f"{place}.{what}": values for what, values in costs.items()}
        return found

    parts = list(keep(name, len(starts), compute))
    progress(len(proteins.names))
    return {
        rate: join_bounds(
            [bound_of(_of_rate(part, place)) for part in parts], torch.from_numpy(proteins.copies)
        )
        for place, rate in enumerate(how.mask_rates)
    }


def _of_rate(part: Arrays, place: int) -> Arrays:
    mine = f"{place}."
    return {key.removeprefix(mine): values for key, values in part.items() if key.startswith(mine)}


def _costs(
    trained: Trained, part: Sequence[NDArray[np.uint8]], orders: Sequence[NDArray[np.int64]], rate: float
) -> Bound:
    """Of some proteins at one rate; a set for each draw."""
    denoiser, queries = trained.denoiser(), []
    counts = [max(1, round(rate * len(tokens))) for tokens in part]
    for tokens, order, count in zip(part, orders, counts, strict=True):
        level = hidden_level(denoiser.graph, denoiser.noise, count, len(tokens))
        for draw in order:
            hidden = np.sort(draw[:count])
            asked = tokens.copy()
            asked[hidden] = denoiser.hiding[0]
            queries.append(Query(asked, level, tuple(hidden.tolist())))
    rows = read_conditionals(denoiser, queries)
    draws = len(orders[0])
    nats = [
        -float(found[np.arange(len(found)), part[number // draws][list(query.positions)]].sum())
        for number, (query, found) in enumerate(zip(queries, rows, strict=True))
    ]
    return Bound(
        estimates=torch.tensor(nats, dtype=torch.float64).view(len(part), draws).T,
        residues=torch.tensor(counts),
        ruled_out=torch.zeros(len(part), dtype=torch.int64),
    )


def _orders(how: EvaluateOptions, key: torch.Tensor, length: int) -> NDArray[np.int64]:
    """A random order of a protein's positions for each draw, [draws, length]."""
    borders = torch.arange(how.draws + 1, dtype=torch.int32) * length
    noise = counter_noise(how.seed, _STREAM, key + torch.arange(how.draws), borders, how.draws * length)
    drawn = noise.uniform(1, torch.float64).view(how.draws, length)
    order: NDArray[np.int64] = drawn.argsort(dim=1, stable=True).numpy()
    return order
