"""The likelihood bound of given proteins under a trained network."""

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sedd.data.alphabet import GAP_LETTERS, X
from sedd.data.records import Record, count_final_stops, residues_of
from sedd.diffusion.bound import RULED_OUT
from sedd.diffusion.likelihood import Bound, join_bounds, likelihood_bound
from sedd.errors import DataError
from sedd.inference.few_draws import bound_remark, is_hardly_known
from sedd.inference.keep import Arrays, Keep, at_once
from sedd.inference.load_network import Trained
from sedd.inference.pack import batches, pack
from sedd.spec.inference import EvaluateOptions
from sedd.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Proteins:
    """What a file holds, as a network takes it: each different sequence once."""

    names: tuple[str, ...]
    """Of every record that holds residues, in the order of the file."""
    distinct: tuple[NDArray[np.uint8], ...]
    """The different sequences, in an order that does not depend on that of the file."""
    which: NDArray[np.int64]
    """For each record its sequence among `distinct`."""
    cut: int
    """Proteins longer than the network was trained on, of which the beginning is taken."""
    gaps: int
    """Gaps (- and .) that were removed, as from training data."""
    letters_to_x: int
    """Letters outside the alphabet that were read as X."""
    stops_to_x: int
    """Stops (*) inside proteins, read as X."""
    stops_stripped: int
    """Stops at the end of proteins, removed."""
    empty: int
    """Records without residues, which were left out."""
    words: tuple[str, ...]
    """Lines that look like text, but were read as residues."""

    def remarks(self, *, longest: int) -> list[str]:
        """What was altered or left out; `longest` is the network's, in residues."""
        remarks = []
        if self.cut:
            remarks.append(
                f"{counted(self.cut, 'protein')} cut to the first {longest} residues: training saw no more"
            )
        altered = (
            (self.gaps, "gap", "removed"),
            (self.letters_to_x, "letter", "outside the alphabet read as X"),
            (self.stops_to_x, "stop", "(*) inside read as X"),
            (self.stops_stripped, "stop", "(*) at the end removed"),
        )
        parts = [f"{counted(count, what)} {fate}" for count, what, fate in altered if count]
        if parts:
            remarks.append(", ".join(parts))
        if self.empty:
            remarks.append(f"{counted(self.empty, 'record')} without residues left out")
        if self.words:
            remarks.append(
                f"{counted(len(self.words), 'line')} of words read as residues, the first: {self.words[0][:40]!r}"
            )
        return remarks

    @property
    def copies(self) -> NDArray[np.int64]:
        """How often each of `distinct` occurs."""
        return np.bincount(self.which, minlength=len(self.distinct))

    def keys(self, device: torch.device) -> torch.Tensor:
        """A number of each of `distinct` that follows from its residues alone: int64 [distinct]."""
        digests = [hashlib.blake2b(tokens.tobytes(), digest_size=8).digest() for tokens in self.distinct]
        numbers = [int.from_bytes(digest, "little", signed=True) for digest in digests]
        return torch.tensor(numbers, dtype=torch.int64, device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The bound of every different protein of a file."""

    proteins: Proteins
    bound: Bound
    """Of `proteins.distinct`, each counted as often as it occurs."""

    def __repr__(self) -> str:  # as a notebook shows it: without the tensors
        bound = self.bound
        proteins = counted(len(self.proteins.names), "protein")
        return (
            f"<Evaluation of {proteins}: {bound.nats_per_residue:.4f} ± {bound.standard_error:.4f} nats a residue, "
            f"perplexity {bound.perplexity:.2f}: .columns()>"
        )

    def columns(self) -> dict[str, list[Any]]:
        """A row for each protein as it was given, copies too: its name, residues, nats_per_residue, standard_error."""
        return per_sequence(self)

    def as_given(self) -> "Evaluation":
        """The same with `bound` and `proteins.distinct` in the order in which the proteins were given first."""
        order = list(dict.fromkeys(self.proteins.which.tolist()))
        places, one = np.argsort(order), self.bound
        proteins = replace(
            self.proteins,
            distinct=tuple(self.proteins.distinct[place] for place in order),
            which=places[self.proteins.which],
        )
        bound = Bound(
            estimates=one.estimates[:, order],
            residues=one.residues[order],
            ruled_out=one.ruled_out[order],
            copies=None if one.copies is None else one.copies[order],
        )
        return Evaluation(proteins=proteins, bound=bound)

    def remarks(self, *, longest: int) -> list[str]:
        """What was altered or left out on the way to the bound, and whether its error is hardly known.

        `longest` is the network's, in residues.
        """
        remarks = self.proteins.remarks(longest=longest)
        if count := int(self.bound.ruled_out.sum()):
            remarks.append(
                f"{counted(count, 'time')} the network gave a residue no chance ({RULED_OUT} or less) in the last "
                f"step: each counts {-math.log(RULED_OUT):.1f} nats, where the true bound is larger or infinite"
            )
        sets, distinct = self.bound.estimates.shape
        if is_hardly_known(sets, distinct):
            remarks.append(bound_remark(sets, distinct))
        return remarks


def read_proteins(records: Iterable[Record], *, longest: int) -> Proteins:
    """Proteins as training data holds them, cut to `longest` residues.

    Raises:
        DataError: no protein, or a letter that is none. Records without residues are left out, as by a build.
    """
    names, encoded, cut, gaps, letters_to_x, stops_to_x, stops_stripped, empty = [], [], 0, 0, 0, 0, 0, 0
    words: list[str] = []
    for record in records:
        residues = residues_of(record)
        if not len(residues):
            empty += 1
            continue
        words += record.words
        names.append(record.name)
        encoded.append(residues[:longest])
        cut += len(residues) > longest
        gaps += sum(record.text.count(gap) for gap in GAP_LETTERS)
        inside = record.text.count("*") - (at_end := count_final_stops(record))
        stops_to_x, stops_stripped = stops_to_x + inside, stops_stripped + at_end
        letters_to_x += int((residues == X).sum()) - record.text.upper().count("X") - inside
    if not encoded:
        who = "the only record is" if empty == 1 else f"all {empty} records are"
        raise DataError("there is no protein to evaluate" + (f": {who} empty" if empty else ""))
    texts = [tokens.tobytes() for tokens in encoded]
    ordered = sorted(set(texts), key=lambda text: (len(text), text))
    place = {text: number for number, text in enumerate(ordered)}
    return Proteins(
        names=tuple(names),
        distinct=tuple(np.frombuffer(text, np.uint8) for text in ordered),
        which=np.array([place[text] for text in texts]),
        cut=cut,
        gaps=gaps,
        letters_to_x=letters_to_x,
        stops_to_x=stops_to_x,
        stops_stripped=stops_stripped,
        empty=empty,
        words=tuple(words),
    )


def evaluate(
    trained: Trained,
    proteins: Proteins,
    *,
    how: EvaluateOptions,
    progress: Callable[[int], None],
    keep: Keep = at_once,
    name: str = "bound",
) -> Evaluation:
    """Estimate the bound of each protein with `how.draws` noise levels; `progress` is told the proteins done.

    Noise follows from a protein's residues: neither its place in the file nor its neighbours change its bound, copies
    have the same, and two networks are compared on the same noise.
    """
    keys, lengths = proteins.keys(trained.device), [len(tokens) for tokens in proteins.distinct]
    parts = list(batches(lengths, trained.batch_residues))

    def compute(number: int) -> Arrays:
        first, stop = parts[number]
        progress(int(proteins.copies[:first].sum()))
        tokens, borders, longest = pack(proteins.distinct[first:stop], trained.device)
        bound = likelihood_bound(
            trained.log_score(borders, longest),
            tokens,
            borders,
            graph=trained.objective.graph,
            noise=trained.objective.noise,
            draws=how.draws,
            seed=how.seed,
            keys=keys[first:stop],
        )
        return arrays_of(bound)

    bounds = [bound_of(arrays) for arrays in keep(name, len(parts), compute)]
    progress(len(proteins.names))
    return Evaluation(proteins=proteins, bound=join_bounds(bounds, torch.from_numpy(proteins.copies)))


def arrays_of(bound: Bound) -> Arrays:
    """Estimates, residues and what was ruled out, of a bound without copies."""
    fields = {"estimates": bound.estimates, "residues": bound.residues, "ruled_out": bound.ruled_out}
    return {name: values.cpu().numpy() for name, values in fields.items()}


def bound_of(arrays: Arrays) -> Bound:
    """The bound whose arrays these are, on the CPU."""
    return Bound(**{name: torch.from_numpy(values) for name, values in arrays.items()})


def per_sequence(result: Evaluation) -> dict[str, list[Any]]:
    """A row for each record of the file, as columns."""
    bound, which = result.bound, torch.from_numpy(result.proteins.which).to(result.bound.residues.device)
    return {
        "name": list(result.proteins.names),
        "residues": bound.residues[which].tolist(),
        "nats_per_residue": (bound.nats / bound.residues)[which].tolist(),
        "standard_error": (bound.variance.sqrt() / bound.residues)[which].tolist(),
    }


def summary(trained: Trained, how: EvaluateOptions, result: Evaluation) -> dict[str, Any]:
    """All proteins in a few numbers, for JSON."""
    bound = result.bound
    return {
        "run": trained.run,
        "step": trained.step,
        "sequences": len(result.proteins.names),
        "residues": bound.total_residues,
        "nats_per_residue": bound.nats_per_residue,
        "standard_error": bound.standard_error,
        "perplexity": bound.perplexity,
        "bits_per_residue": bound.bits_per_residue,
        **({"condition": how.condition} if how.condition else {}),
        "draws": how.draws,
        "seed": how.seed,
        "cut": result.proteins.cut,
        "gaps": result.proteins.gaps,
        "letters_to_x": result.proteins.letters_to_x,
        "stops_to_x": result.proteins.stops_to_x,
        "stops_stripped": result.proteins.stops_stripped,
        "empty": result.proteins.empty,
        "ruled_out": int(bound.ruled_out.sum()),
    }
