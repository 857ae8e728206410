"""The likelihood bound of given proteins under a trained network."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sedd.data.alphabet import GAP_LETTERS, X, encode
from sedd.data.records import Record
from sedd.diffusion.bound import RULED_OUT
from sedd.diffusion.likelihood import Bound, join_bounds, likelihood_bound
from sedd.errors import DataError
from sedd.inference.load_network import Trained
from sedd.spec.inference import EvaluateOptions

BATCH_RESIDUES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The bound of every record that holds residues, in the order of the file."""

    names: tuple[str, ...]
    bound: Bound
    cut: int
    """Proteins longer than the network was trained on, of which the beginning was evaluated."""
    gaps: int
    """Gaps (- and .) that were removed, as from training data."""
    letters_to_x: int
    """Letters outside the alphabet that were read as X."""
    empty: int
    """Records without residues, which were left out."""
    words: tuple[str, ...]
    """Lines that look like text, but were read as residues."""

    def remarks(self, *, longest: int) -> list[str]:
        """What was altered or left out on the way to the bound; `longest` is the network's, in residues."""
        remarks = []
        if self.cut:
            remarks.append(f"{self.cut} longer proteins: their first {longest} residues were evaluated")
        if self.gaps or self.letters_to_x:
            remarks.append(
                f"{self.gaps} gaps were removed, {self.letters_to_x} letters outside the alphabet read as X"
            )
        if self.empty:
            remarks.append(f"{self.empty} records without residues were left out")
        if count := int(self.bound.ruled_out.sum()):
            remarks.append(
                f"{count} times the network gave a residue no chance ({RULED_OUT} or less) in the last step: each "
                f"counts {-math.log(RULED_OUT):.1f} nats, where the true bound is larger or infinite"
            )
        if self.words:
            remarks.append(
                f"{len(self.words)} lines of words were read as residues, the first: {self.words[0][:40]!r}"
            )
        return remarks


def evaluate(
    trained: Trained,
    records: Iterable[Record],
    *,
    how: EvaluateOptions,
    progress: Callable[[int], None],
) -> Evaluation:
    """Estimate the bound of each protein with `how.draws` noise levels; `progress` is told the proteins done.

    Raises:
        DataError: no protein, or a letter that is none. Records without residues are left out, as by a build.
    """
    longest = trained.experiment.data.max_length
    device = next(trained.model.parameters()).device
    names, encoded, gaps, letters_to_x, empty = [], [], 0, 0, 0
    words: list[str] = []
    for record in records:
        residues = _residues(record)
        if not len(residues):
            empty += 1
            continue
        words += record.words
        names.append(record.name)
        encoded.append(residues)
        gaps += sum(record.text.count(gap) for gap in GAP_LETTERS)
        letters_to_x += int((residues == X).sum()) - record.text.upper().count("X")
    if not encoded:
        raise DataError(
            "there is no protein to evaluate" + (f": all {empty} records are empty" if empty else "")
        )
    cut = sum(len(tokens) > longest for tokens in encoded)
    encoded = [tokens[:longest] for tokens in encoded]
    bounds, done = [], 0
    for batch in _batches(encoded):
        tokens = torch.from_numpy(np.concatenate(batch)).to(device, torch.int64)
        cu_seqlens = torch.tensor([0, *map(len, batch)], dtype=torch.int32, device=device).cumsum(
            0, dtype=torch.int32
        )
        bounds.append(
            likelihood_bound(
                trained.log_score(cu_seqlens, max(map(len, batch))),
                tokens,
                cu_seqlens,
                graph=trained.objective.graph,
                noise=trained.objective.noise,
                draws=how.draws,
                seed=how.seed,
                first_sample=done,
            )
        )
        done += len(batch)
        progress(done)
    return Evaluation(
        names=tuple(names),
        bound=join_bounds(bounds),
        cut=cut,
        gaps=gaps,
        letters_to_x=letters_to_x,
        empty=empty,
        words=tuple(words),
    )


def _residues(record: Record) -> NDArray[np.uint8]:
    """Tokens of a protein as training data holds them. Raises: DataError."""
    try:
        return encode(record.text.translate(dict.fromkeys(map(ord, GAP_LETTERS))))
    except DataError as e:
        raise DataError(f"'{record.name}': {e.message}") from e


def summary(trained: Trained, how: EvaluateOptions, result: Evaluation) -> dict[str, Any]:
    """All proteins in a few numbers, for JSON."""
    bound = result.bound
    return {
        "run": trained.run,
        "step": trained.step,
        "sequences": len(result.names),
        "residues": int(bound.residues.sum()),
        "nats_per_residue": bound.nats_per_residue,
        "standard_error": bound.standard_error,
        "perplexity": bound.perplexity,
        "bits_per_residue": bound.bits_per_residue,
        "draws": how.draws,
        "seed": how.seed,
        "cut": result.cut,
        "gaps": result.gaps,
        "letters_to_x": result.letters_to_x,
        "empty": result.empty,
        "ruled_out": int(bound.ruled_out.sum()),
    }


def _batches(encoded: Sequence[np.ndarray]) -> Iterable[list[np.ndarray]]:
    """Runs of sequences of at most BATCH_RESIDUES residues, in order."""
    batch: list[np.ndarray] = []
    for tokens in encoded:
        if batch and sum(map(len, batch)) + len(tokens) > BATCH_RESIDUES:
            yield batch
            batch = []
        batch.append(tokens)
    yield batch
