"""The difference of two likelihood bounds on common noise: wild type and mutant, or two networks."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sedd.diffusion.likelihood import likelihood_bound
from sedd.inference.batch_size import batch_residues
from sedd.inference.conditionals import Denoiser
from sedd.inference.pack import batches, pack
from sedd.inference.variants import Variant, places_in_wild_type
from sedd.spec.inference import ScoreOptions


def bound_difference(
    denoiser: Denoiser,
    variants: Sequence[Variant],
    how: ScoreOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> NDArray[np.float64]:
    """bound(wild type) - bound(mutant) in nats by independent sets of draws, [variants, sets]: high is good.

    Both are corrupted at the same levels and, position by position, by the same numbers, so that what differs is what
    the mutation changes; sequences that are equal differ by exactly 0. Insertions and deletions shift positions: what
    stands behind them keeps the numbers that it has in the wild type.
    """
    asked: dict[bytes, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
    pairs = []
    for variant in variants:
        first = np.arange(len(variant.wild_type))
        keys = [
            _key(*one) for one in ((variant.wild_type, first), (variant.mutant, places_in_wild_type(variant)))
        ]
        asked.setdefault(keys[0], (variant.wild_type, first))
        asked.setdefault(keys[1], (variant.mutant, places_in_wild_type(variant)))
        pairs.append(keys)
    estimates = dict(
        zip(asked, bound_estimates(denoiser, list(asked.values()), how, progress=progress), strict=True)
    )
    return np.stack([estimates[wild_type] - estimates[mutant] for wild_type, mutant in pairs])


def _key(tokens: NDArray[np.uint8], places: NDArray[np.int64]) -> bytes:
    return tokens.tobytes() + places.tobytes()


def bound_estimates(
    denoiser: Denoiser,
    sequences: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    how: ScoreOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[NDArray[np.float64]]:
    """Estimates of each sequence's bound by sets of draws; sequences come with the places by which they share noise."""
    found: list[NDArray[np.float64]] = []
    for first, stop in batches([len(tokens) for tokens, _ in sequences], batch_residues(denoiser.device)):
        part = sequences[first:stop]
        tokens, borders, longest = pack([tokens for tokens, _ in part], denoiser.device)
        bound = likelihood_bound(
            denoiser.log_score(borders, longest),
            tokens,
            borders,
            graph=denoiser.graph,
            noise=denoiser.noise,
            draws=max(2, how.draws),
            seed=how.seed,
            keys=torch.zeros(len(part), dtype=torch.int64, device=denoiser.device),
            places=torch.from_numpy(np.concatenate([places for _, places in part])).to(denoiser.device),
        )
        found += list(bound.estimates.T.cpu().numpy())
        progress(stop, len(sequences))
    return found
