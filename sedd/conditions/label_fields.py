"""The labels of a store as its manifest tells them: fields, values, counts; and the columns in which they lie."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.units import counted, format_share

DTYPES = {"category": "<i4", "number": "<f4"}
"""By kind: a category's number, -1 where there is none; a number, NaN where there is none."""
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumn:
    """One field of labels: a file in every split's folder with one element a sequence."""

    name: str
    kind: str
    """`category` or `number`."""
    values: tuple[str, ...] = ()
    """Of a category: number k in the column stands for values[k]. Of a number: none."""

    @property
    def file(self) -> str:
        return label_file(self.name)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(DTYPES[self.kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelField(LabelColumn):
    """One field of labels in a manifest."""

    counts: dict[str, tuple[int, ...]]
    """By split: how many sequences have each value; empty for numbers."""
    missing: dict[str, int]
    """By split: sequences without this label."""
    missing_share: dict[str, float]
    """The same as a share of the split's sequences."""
    statistics: dict[str, float]
    """Of a number, over the labelled training sequences: mean, std, min, max; empty for categories."""
    checksums: dict[str, str]
    """By split: of the column's file, as of the other files."""

    @property
    def column(self) -> LabelColumn:
        return LabelColumn(name=self.name, kind=self.kind, values=self.values)


def label_file(name: str) -> str:
    """Name of a field's file in a split's folder."""
    return f"label-{name}.npy"


def parse_label_field(entry: dict[str, Any]) -> LabelField:
    """A field from a manifest. Raises: KeyError, TypeError, ValueError for one that is none."""
    counts = {split: tuple(numbers) for split, numbers in entry["counts"].items()}
    field = LabelField(**{**entry, "values": tuple(entry["values"]), "counts": counts})
    if field.kind not in DTYPES or "/" in field.name:
        raise ValueError(f"{field.name!r} of kind {field.kind!r} is not a field of labels")
    return field


def describe_column(
    column: LabelColumn, by_split: dict[str, NDArray[np.generic]], checksums: dict[str, str]
) -> LabelField:
    """A field of the manifest from the columns of its splits."""
    missing = {split: sum(int(is_missing(p).sum()) for p in pieces(c)) for split, c in by_split.items()}
    return LabelField(
        name=column.name,
        kind=column.kind,
        values=column.values,
        counts={s: _counts(c, len(column.values)) for s, c in by_split.items()} if column.values else {},
        missing=missing,
        missing_share={split: n / max(len(by_split[split]), 1) for split, n in missing.items()},
        statistics=_statistics(by_split["train"]) if column.kind == "number" else {},
        checksums=checksums,
    )


def is_missing(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a column has no label."""
    missing: NDArray[np.bool_] = np.isnan(column) if column.dtype.kind == "f" else column < 0
    return missing


def pieces(column: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A column, some at a time: a mapped one need not be in memory."""
    return (column[first : first + _AT_ONCE] for first in range(0, len(column), _AT_ONCE))


def _counts(column: NDArray[Any], values: int) -> tuple[int, ...]:
    counts = np.zeros(values + 1, np.int64)
    for piece in pieces(column):
        counts += np.bincount(piece.astype(np.int64) + 1, minlength=values + 1)
    return tuple(counts[1:].tolist())


def _statistics(column: NDArray[Any]) -> dict[str, float]:
    known = [piece[~is_missing(piece)].astype(np.float64) for piece in pieces(column)]
    count = sum(map(len, known))
    if not count:
        return {}
    mean = sum(float(piece.sum()) for piece in known) / count
    variance = sum(float(((piece - mean) ** 2).sum()) for piece in known) / count
    ends = {
        "min": min(float(p.min()) for p in known if len(p)),
        "max": max(float(p.max()) for p in known if len(p)),
    }
    return {"mean": mean, "std": math.sqrt(variance), **ends}


def label_files(
    fields: tuple[LabelField, ...], split: str, sequences: int
) -> dict[str, tuple[str, str, int]]:
    """File of a split's folder → checksum, dtype, elements."""
    return {f.file: (f.checksums[split], DTYPES[f.kind], sequences) for f in fields}


def label_notes(fields: tuple[LabelField, ...], *, sequences: int) -> list[str]:
    """What a reader of the labels should know; `sequences` are those of the training split."""
    return [
        f"{missing:,} of the {sequences:,} training sequences ({format_share(missing, sequences)}) have no "
        f"label '{field.name}'"
        for field in fields
        if (missing := field.missing["train"]) > sequences / 2
    ]


def describe(field: LabelField) -> str:
    """What a field holds, in a few words."""
    if field.kind == "number":
        words = "{mean:.4g} ± {std:.3g}, {min:.4g} to {max:.4g}"
        return words.format(**field.statistics) if field.statistics else "none"
    counts = field.counts["train"]
    if not counts:
        return "none"
    most = max(range(len(counts)), key=counts.__getitem__)
    return f"{counted(len(field.values), 'value')}, most often {field.values[most]} ({counts[most]:,})"


def label_problem(field: LabelField, split: str, column: NDArray[Any]) -> str | None:
    """What of a column the manifest does not say; None where it fits."""
    if field.kind == "category" and any(int(p.max(initial=-1)) >= len(field.values) for p in pieces(column)):
        return f"{split}/{field.file}: holds a number that stands for no value"
    if sum(int(is_missing(piece).sum()) for piece in pieces(column)) != field.missing[split]:
        return f"{split}/{field.file}: another number of labels than the manifest says"
    return None
