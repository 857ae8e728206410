"""Batches from one store or several: each micro-batch holds a fixed share of every store."""

from collections.abc import Sequence

import numpy as np
import xxhash

from sedd.data.batches import Batches, PackedBatch, ReadLabels
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.spec.data import DataSpec


class Mixture:
    """Micro-batch m is micro-batch m of every store, end to end; each store goes through epochs of its own."""

    def __init__(self, parts: Sequence[Batches]) -> None:
        self._parts = parts
        self.residues = sum(part.residues for part in parts)
        self.max_length = max(part.max_length for part in parts)

    def micro_batch(self, index: int) -> PackedBatch:
        """Micro-batch `index`, counted from 0 over the whole run and all ranks."""
        batches = [part.micro_batch(index) for part in self._parts]
        starts = np.cumsum([0, *(part.residues for part in self._parts)])
        ends = [start + batch.cu_seqlens[1:] for start, batch in zip(starts, batches, strict=False)]
        labels = [batch.labels for batch in batches if batch.labels is not None]
        return PackedBatch(
            tokens=np.concatenate([batch.tokens for batch in batches]),
            cu_seqlens=np.concatenate([[0], *ends]).astype(np.int32),
            max_length=self.max_length,
            labels=np.concatenate(labels) if labels else None,
        )


def training_batches(
    stores: Sequence[TokenStore],
    data: DataSpec,
    *,
    residues: int,
    seed: int,
    labels: ReadLabels | None = None,
) -> Batches | Mixture:
    """The training batches of `stores`, which are those of `data` in their order.

    Raises:
        DataError: a store without training sequences, or one too small to have a residue in every batch.
    """
    if len(stores) == 1:
        return Batches(stores[0], max_length=data.max_length, residues=residues, seed=seed, labels=labels)
    temperature = data.mixture.temperature if data.mixture else 1.0
    shares = residues_of_each([store.split("train").residues for store in stores], residues, temperature)
    for store, share in zip(stores, shares, strict=True):
        if not share:
            raise DataError(
                f"{store.path} would have no residue in a batch of {residues:,}",
                hint="a higher data.mixture.temperature, or a larger batch",
            )
    return Mixture(
        [
            # A seed of its own: stores of equal size would go through the same order.
            Batches(
                store, max_length=data.max_length, residues=share, seed=seed + (number << 32), labels=labels
            )
            for number, (store, share) in enumerate(zip(stores, shares, strict=True))
        ]
    )


def residues_of_each(sizes: Sequence[int], residues: int, temperature: float) -> list[int]:
    """How many of a batch's residues each store gives, proportional to size^(1/temperature): largest remainders."""
    weights = (np.array(sizes, np.float64) / max(sizes)) ** (1 / temperature)
    exact = weights / weights.sum() * residues
    shares = np.floor(exact).astype(np.int64)
    missing = residues - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return [int(share) for share in shares]


def joint_hash(stores: Sequence[TokenStore]) -> str:
    """Names the content of all stores in their order; of one store its own content hash."""
    if len(stores) == 1:
        return stores[0].content_hash
    return str(xxhash.xxh3_128_hexdigest("\n".join(store.content_hash for store in stores).encode()))
