"""Chapter of bench_finetune.py: families of alignments, split by similarity; a training set without their relatives."""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.data.records import read_records
from sedd.rundir.atomic import write_text

_LETTERS = "ACDEFGHIKLMNPQRSTVWY"
_K, _SHARED = 5, 5
_THRESHOLDS = tuple(t / 100 for t in range(30, 85, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Sequences of an alignment, on three sides between which no two are alike."""

    name: str
    sequences: tuple[str, ...]
    """Whole ones, without gaps, each once."""
    sides: tuple[str, ...]
    """Of each sequence: train, validation or test."""
    identity: float
    """Sequences on different sides share at most this share of the shorter one's aligned residues."""

    def of_side(self, *sides: str) -> list[str]:
        """The sequences of these sides."""
        return [text for text, side in zip(self.sequences, self.sides, strict=True) if side in sides]


def read_family(alignment: Path, *, seed: int = 0, limit: int | None = None) -> Family:
    """Read an a3m file (lower case: insertions) and split it: a fifth for the test, a seventh for validation."""
    rows: dict[str, str] = {}
    for record in read_records(alignment, allow_empty=True):
        text = "".join(letter for letter in record.text if letter.isalpha()).upper()
        rows.setdefault(text, "".join(letter for letter in record.text if not letter.islower()))
    texts = [text for text in rows if text][:limit]
    identity = identities([rows[text] for text in texts])
    threshold, groups = next(
        (t, g)
        for t in _THRESHOLDS
        if max(Counter(g := components(identity >= t)).values()) <= len(texts) / 2 or t == _THRESHOLDS[-1]
    )
    name = alignment.name.split(".")[0]
    return Family(
        name=name, sequences=tuple(texts), sides=tuple(sides(groups, seed=seed)), identity=threshold
    )


def identities(rows: Sequence[str]) -> NDArray[np.float32]:
    """[rows, rows]: equal residues in the alignment's columns, over the residues of the shorter of the two."""
    codes = np.array([[_LETTERS.find(letter) for letter in row] for row in rows])
    ones = (codes[..., None] == np.arange(len(_LETTERS))).reshape(len(rows), -1).astype(np.float32)
    lengths = ones.sum(1)
    return np.asarray(ones @ ones.T / np.maximum(1, np.minimum(lengths[:, None], lengths)), np.float32)


def components(is_alike: NDArray[np.bool_]) -> list[int]:
    """For each row the number of its component: those that chains of likeness connect."""
    found = np.full(len(is_alike), -1)
    for start in range(len(is_alike)):
        if found[start] >= 0:
            continue
        members = np.zeros(len(is_alike), bool)
        members[start] = True
        while (more := is_alike[members].any(0) | members).sum() > members.sum():
            members = more
        found[members] = start
    return [int(number) for number in found]


def sides(groups: Sequence[int], *, seed: int) -> Iterator[str]:
    """A side for each sequence, the same for all of a group."""
    sizes, total = Counter(groups), len(groups)
    order = np.random.default_rng(seed).permutation(sorted(sizes))
    left = {"test": total / 5, "validation": total / 7}
    side: dict[int, str] = {}
    for group in map(int, order):
        fitting = (name for name, room in left.items() if sizes[group] <= room + 0.02 * total)
        side[group] = next(fitting, "train")
        if side[group] in left:
            left[side[group]] -= sizes[group]
    return (side[group] for group in groups)


def write_fasta(path: Path, sequences: Iterable[str]) -> None:
    """Names are numbers."""
    write_text(path, "".join(f">{number}\n{text}\n" for number, text in enumerate(sequences)))


def write_sides(path: Path, is_held_out: Iterable[bool]) -> None:
    """A table of clusters for `sedd data build` with validation_fraction 0.5, names being numbers."""
    # These very names: the build splits by a hash of them, and of these two it puts one on either side.
    lines = (f"{'HELD_OUT' if held_out else 'training'}\t{n}\n" for n, held_out in enumerate(is_held_out))
    write_text(path, "".join(lines))


def without_relatives(
    proteins: Mapping[str, str], cluster_of: Mapping[str, str], families: Sequence[Family]
) -> tuple[list[str], int]:
    """Names of proteins of which no member of a family shares five words of five residues; and how many are left out.

    With a protein its whole cluster goes. Relatives so distant that they share no words stay.
    """
    members: dict[str, list[int]] = {}
    texts = [text for family in families for text in family.sequences]
    for number, text in enumerate(texts):
        for word in words(text):
            members.setdefault(word, []).append(number)
    related = set()
    for name, text in proteins.items():
        shared = Counter(number for word in words(text) for number in members.get(word, ()))
        if shared and max(shared.values()) >= _SHARED:
            related.add(cluster_of.get(name, name))
    kept = [name for name in proteins if cluster_of.get(name, name) not in related]
    return kept, len(proteins) - len(kept)


def words(text: str) -> set[str]:
    """Its stretches of five residues."""
    return {text[i : i + _K] for i in range(len(text) - _K + 1)}


def read_proteins(fasta: Path) -> dict[str, str]:
    """Accession (`A0A1` of `tr|A0A1|NAME`) → residues."""
    content = fasta.read_bytes()
    text = (gzip.decompress(content) if fasta.suffix == ".gz" else content).decode()
    records = text.split(">")[1:]
    found = {}
    for record in records:
        header, _, body = record.partition("\n")
        name = header.split()[0]
        found[name.split("|")[1] if "|" in name else name] = "".join(body.split())
    return found


def read_clusters(table: Path) -> dict[str, str]:
    """Member → representative."""
    pairs = (line.split() for line in table.read_text().splitlines())
    return {member: representative for representative, member in pairs}
