"""Redesigns of parents by partial diffusion, each with its score beside the parent."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import RESIDUES, TOKENS, decode, encode
from sedd.design.parents import Parent
from sedd.design.redesigns import Redesign, count_possible, draw_distinct, redesigns_of, shortfall
from sedd.design.templates import Frame
from sedd.diffusion.sampler import Progress
from sedd.inference.load_network import Trained
from sedd.inference.paired_bound import bound_difference
from sedd.inference.variants import Variant
from sedd.spec.inference import SampleOptions, ScoreOptions
from sedd.spec.redesign import RedesignOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """How the completion of proteins begins."""

    share: float = 1.0
    """1 - exp(-sigma_bar) of the noise level to begin at."""
    is_held: bool = True
    """Whether the given residues stay to the end, or are only what is begun with."""
    counters: tuple[int, ...] = (1,)
    """Of the batches' random numbers."""


NEW = Begin()
"""In noise alone, around what is given."""

Complete = Callable[[Sequence[Frame], Begin], Iterable[str]]
"""Draws the free positions of proteins."""


def redesign(
    trained: Trained,
    parents: Sequence[Parent],
    how: RedesignOptions,
    wanted: SampleOptions,
    complete: Complete,
    progress: Progress,
    notify: Callable[[str], None],
) -> list[tuple[Redesign, str]]:
    """Distinct redesigns of each parent with their sequences, in the order in which they were drawn."""
    found = []
    for number, parent in enumerate(parents):
        draw = partial(_draw, trained, parent, number, how, wanted.seed, complete)
        letters = [n for n in RESIDUES if TOKENS[n] not in wanted.omit]
        possible = count_possible(parent, letters, how.max_mutations, enough=wanted.count)
        drawn = draw_distinct(parent, wanted.count, draw, possible=possible)
        if (told := shortfall(parent, wanted.count, drawn)) is not None:
            notify(told)
        # Scoring asks, too, whether to stop; all sampling steps are done by then.
        ask = partial(progress, wanted.steps, wanted.steps)
        scores, errors = _score(trained, parent, drawn.found, wanted.seed, ask)
        beside = redesigns_of(parent, drawn.found, scores.tolist(), errors.tolist())
        found += list(zip(beside, map(decode, drawn.found), strict=True))
    return found


def _draw(
    trained: Trained,
    parent: Parent,
    number: int,
    how: RedesignOptions,
    seed: int,
    complete: Complete,
    first: int,
    count: int,
) -> list[NDArray[np.uint8]]:
    """The draws of one parent with these numbers.

    What the noise did not hit is held. Only on the uniform graph, whose network cannot be told what was hit, everything
    may change, unless positions are kept or mutations limited.
    """
    hits = [parent.hit(how, seed, number, draw) for draw in range(first, first + count)]
    frames = [Frame(parent.name, parent.tokens, hit) for hit in hits]
    is_held = trained.objective.graph.settles or bool(parent.kept.any()) or how.max_mutations is not None
    begin = Begin(share=parent.share_hit(how), is_held=is_held, counters=(2, number, first))
    return [encode(text) for text in complete(frames, begin)]


def _score(
    trained: Trained, parent: Parent, found: Sequence[NDArray[np.uint8]], seed: int, ask: Callable[[], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bound of the parent less that of each redesign in nats, on common noise, and the standard error."""
    variants = [
        Variant(protein=parent.name, name=str(number), wild_type=parent.tokens, mutant=tokens)
        for number, tokens in enumerate(found)
    ]
    if not variants:
        return np.zeros(0), np.zeros(0)
    how = ScoreOptions(methods=("bound",), seed=seed)
    drawn = bound_difference(trained.denoiser(), variants, how, progress=lambda done, of: ask())
    return drawn.mean(1), drawn.std(1, ddof=1) / drawn.shape[1] ** 0.5
