"""Label tables: a TSV whose first column names sequences and whose others are labels, as columns to look names up in.

Names are matched as those of cluster tables are (`sedd.data.clusters`): the first word of the header, and then what
MMseqs2 makes of it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.conditions.label_fields import LabelColumn, LabelField
from sedd.data.clusters import mmseqs_name
from sedd.data.fasta import first_line, first_word, line_text, tsv_hint
from sedd.data.progress import Progress, ignore_progress
from sedd.errors import DataError, did_you_mean, latin_1_hint
from sedd.spec.conditions import FIELD_NAME
from sedd.units import decimal_comma_hint, format_share

_LINES = 1 << 16
_MOST_VALUES = 1_000_000
_HINT = "a label table is a TSV: a header (id<tab>ec<tab>temperature), then a line a protein"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFiles:
    """A label table in a build's folder, ready for look-ups by any of its processes."""

    folder: Path
    columns: tuple[LabelColumn, ...]


def require_label_table(
    source: Path, numbers: Sequence[str] = (), *, onto: tuple[LabelField, ...] | None = None
) -> None:
    """Raise DataError unless the header names fields, and those of `onto`: what is seen without reading the table."""
    _cells_of_header(first_line(source), source, numbers, onto)


def write_label_table(
    source: Path,
    folder: Path,
    numbers: Sequence[str] = (),
    *,
    onto: tuple[LabelField, ...] | None = None,
    progress: Progress = ignore_progress,
) -> TableFiles:
    """Turn a TSV into sorted hashes of names and a column a field; `numbers` names the fields that hold numbers.

    Of a table for a store that begins with another one, `onto` are that one's fields: their values keep their
    numbers, and new ones come behind. Holds all lines in memory: some 20 bytes a line and 4 a field.

    Raises:
        DataError: missing, empty, or a line that cannot be read; fields that are not those of `onto`.
    """
    try:
        with source.open("rb") as file:
            cells = _cells_of_header(file.readline(), source, numbers, onto)
            hashes, aliases = _read(file, source, cells, len(cells) + 1, progress)
    except OSError as e:
        raise DataError(f"{source} cannot be read: {e.strerror}") from e
    if not len(hashes):
        raise DataError(f"{source} has no line behind its header", hint=_HINT)
    columns = tuple(cell.column() for cell in cells)
    data = [np.concatenate(cell.pieces) for cell in cells]
    rows = np.concatenate([np.arange(len(hashes)), aliases[1]]).astype(np.uint32)
    keys = np.concatenate([hashes, aliases[0]])
    order = np.argsort(keys, kind="stable")  # whole names before aliases, and among equals the first line
    _require_agreement(source, keys[order], rows[order], order >= len(hashes), data)
    folder.mkdir()
    for column, values in zip(columns, data, strict=True):
        np.save(folder / column.file, values)
    np.save(folder / "rows.npy", rows[order])
    np.save(folder / "keys.npy", keys[order])
    with (folder / "hits").open("wb") as hits:
        os.posix_fallocate(hits.fileno(), 0, len(hashes))
    if onto is not None:  # in the order of the store that is there
        of = {column.name: column for column in columns}
        columns = tuple(of[field.name] for field in onto)
    return TableFiles(folder=folder, columns=columns)


class LabelTable:
    """A table by `write_label_table`, open for look-ups; all processes of a build share the pages of its files."""

    def __init__(self, files: TableFiles) -> None:
        self._keys = np.load(files.folder / "keys.npy", mmap_mode="r").view(np.ndarray)
        self._rows = np.load(files.folder / "rows.npy", mmap_mode="r").view(np.ndarray)
        self._hits = np.memmap(files.folder / "hits", np.uint8, "r+").view(np.ndarray)
        self._data = [
            np.load(files.folder / column.file, mmap_mode="r").view(np.ndarray) for column in files.columns
        ]
        self._absent = [np.nan if column.kind == "number" else -1 for column in files.columns]

    def labels(self, names: Sequence[bytes]) -> list[NDArray[Any]]:
        """For each field the labels of sequences of these names; what the table lacks is absent."""
        rows = np.full(len(names), -1, np.int64)
        self._look_up(names, np.arange(len(names)), rows)
        short = {
            i: name for i in np.flatnonzero(rows < 0).tolist() if (name := mmseqs_name(names[i])) != names[i]
        }
        self._look_up(list(short.values()), np.array(list(short), np.int64), rows)
        found = rows >= 0
        self._hits[rows[found]] = 1
        columns = []
        for data, absent in zip(self._data, self._absent, strict=True):
            column = np.full(len(names), absent, data.dtype)
            column[found] = data[rows[found]]
            columns.append(column)
        return columns

    def _look_up(self, names: Sequence[bytes], places: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        wanted = np.fromiter(map(xxhash.xxh3_64_intdigest, names), np.uint64, len(names))
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        here = self._keys[at] == wanted
        rows[places[here]] = self._rows[at[here]]

    def use(self) -> tuple[int, int]:
        """Lines of the table, and how many of them were the name of a sequence."""
        return len(self._hits), int(self._hits.sum(dtype=np.int64))


def table_use(source: Path, lines: int, found: int) -> list[str]:
    """What a reader should know of how a table fitted. Raises: DataError where it names no sequence."""
    if not found:
        raise DataError(
            f"{source} names none of the sequences",
            hint="its first column should hold the first words of their headers, or what MMseqs2 makes of them: "
            "W0FSK4 of >tr|W0FSK4|W0FSK4_9FLAV",
        )
    unused = lines - found
    if unused <= lines / 100:
        return []
    return [
        f"{unused:,} of {lines:,} ({format_share(unused, lines)}) lines of the label table name no sequence"
    ]


class _Cells:
    """The cells of one field, as they are read: `take` gives the number to keep of a cell's text."""

    def __init__(self, name: str, kind: str, values: tuple[str, ...] = ()) -> None:
        self.name, self.kind = name, kind
        self.codes = {value: number for number, value in enumerate(values)}
        self.pieces: list[NDArray[Any]] = []

    def column(self) -> LabelColumn:
        return LabelColumn(name=self.name, kind=self.kind, values=tuple(self.codes))

    def take(self, texts: Sequence[str], where: Callable[[int], str]) -> None:
        read = self._number if self.kind == "number" else self._code
        dtype = np.float32 if self.kind == "number" else np.int32
        try:
            self.pieces.append(np.fromiter(map(read, texts), dtype, len(texts)))
        except _BadCellError:
            number = next(n for n, text in enumerate(texts) if not self._is_good(text))
            raise DataError(
                f"{where(number)}: '{self.name}' is {texts[number][:40]!r}, not a finite number",
                hint=decimal_comma_hint(texts[number])
                or "leave the cell empty where there is none; a category is not named by --label-number",
            ) from None
        if len(self.codes) > _MOST_VALUES:
            raise DataError(
                f"{where(0)}: '{self.name}' has more than {_MOST_VALUES:,} different values",
                hint=f"a number? --label-number {self.name}",
            )

    def _code(self, text: str) -> int:
        return self.codes.setdefault(text, len(self.codes)) if text else -1

    def _is_good(self, text: str) -> bool:
        try:
            self._number(text)
        except _BadCellError:
            return False
        return True

    @staticmethod
    def _number(text: str) -> float:
        if not text:
            return float("nan")
        try:
            number = float(text)
        except ValueError:
            raise _BadCellError from None
        if not abs(number) < 3e38:  # float32; NaN too
            raise _BadCellError
        return number


class _BadCellError(Exception):
    """A text that is no number."""


def _cells_of_header(
    line: bytes, source: Path, numbers: Sequence[str], onto: tuple[LabelField, ...] | None
) -> list[_Cells]:
    """Cells for each field that the header names: those of `onto`, if it is given."""
    cells = [_cells_of(name, numbers, onto) for name in _header(line, source, numbers)]
    if onto is not None:
        _require_same_fields(source, cells, onto)
    return cells


def _cells_of(name: str, numbers: Sequence[str], onto: tuple[LabelField, ...] | None) -> _Cells:
    before = next((field for field in onto or () if field.name == name), None)
    kind = "number" if name in numbers else "category"
    return _Cells(name, kind, before.values if before is not None and kind == "category" else ())


def _header(line: bytes, source: Path, numbers: Sequence[str]) -> list[str]:
    """The fields' names: every column but the first."""
    if not line.strip():
        raise DataError(f"{source} is empty", hint=_HINT)
    names = _text(line, source, 1).split("\t")[1:]
    if not names:
        raise DataError(f"{source}:1: only one column: {line_text(line)}", hint=tsv_hint(line, _HINT))
    for name in names:
        if not FIELD_NAME.fits(name):
            raise DataError(
                f"{source}:1: a field is called {name[:40]!r}",
                hint=f"it must be {FIELD_NAME.allowed}; the first line is the header",
            )
    if len(set(names)) < len(names):
        raise DataError(f"{source}:1: two columns of one name: {', '.join(names)}")
    if strange := [name for name in numbers if name not in names]:
        raise DataError(
            f"{source} has no column '{strange[0]}' of numbers: it has {', '.join(names)}",
            hint=did_you_mean(strange[0], names),
        )
    return names


def _read(
    file: Any, source: Path, cells: list[_Cells], width: int, progress: Progress
) -> tuple[NDArray[np.uint64], tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """Hashes of the lines' names; and of the shorter names that MMseqs2 would give, with their lines."""
    hashes, aliases, alias_rows, number = [np.empty(0, np.uint64)], [], [], 0
    while lines := list(islice(file, _LINES)):
        progress(0)
        rows = [_text(line, source, number + n + 2).split("\t") for n, line in enumerate(lines)]
        for n, row in enumerate(rows):
            if len(row) != width or not row[0].strip():
                what = f"{len(row)} columns instead of {width}" if len(row) != width else "no name"
                raise DataError(
                    f"{source}:{number + n + 2}: {what}: {line_text(lines[n])}",
                    hint=tsv_hint(lines[n], _HINT),
                )
        words = [first_word(row[0].encode()) for row in rows]
        hashes.append(np.fromiter(map(xxhash.xxh3_64_intdigest, words), np.uint64, len(words)))
        for n, word in enumerate(words):
            if b"|" in word and (short := mmseqs_name(word)) != word:
                aliases.append(xxhash.xxh3_64_intdigest(short))
                alias_rows.append(number + n)
        for place, cell in enumerate(cells, start=1):
            cell.take([row[place].strip() for row in rows], partial(_where, source, number + 2))
        number += len(lines)
    return np.concatenate(hashes), (np.array(aliases, np.uint64), np.array(alias_rows, np.int64))


def _where(source: Path, first: int, number: int) -> str:
    return f"{source}:{first + number}"


def _text(line: bytes, source: Path, number: int) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as e:
        hint = latin_1_hint(source)
        raise DataError(f"{source}:{number}: not text (UTF-8): {line_text(line)}", hint=hint) from e


def _require_agreement(
    source: Path,
    keys: NDArray[np.uint64],
    rows: NDArray[np.uint32],
    is_alias: NDArray[np.bool_],
    data: list[NDArray[Any]],
) -> None:
    """Raise DataError where two lines give one name different labels. Of aliases the first line counts."""
    again = (keys[1:] == keys[:-1]) & ~is_alias[1:]  # a whole name stands before the aliases that equal it
    for place in np.flatnonzero(again):
        one, other = int(rows[place]), int(rows[place + 1])
        if any(not np.array_equal(c[one], c[other], equal_nan=c.dtype.kind == "f") for c in data):
            raise DataError(
                f"{source}:{other + 2}: names the sequence of line {one + 2} again, with other labels",
                hint="one line a sequence; the first column holds their names",
            )


def _require_same_fields(source: Path, cells: Sequence[_Cells], onto: tuple[LabelField, ...]) -> None:
    here, there = {(cell.name, cell.kind) for cell in cells}, {(field.name, field.kind) for field in onto}
    if here != there:
        listed = ", ".join(f"{name} ({kind})" for name, kind in sorted(there))
        raise DataError(
            f"{source} has other fields than the store that is added to: {listed}",
            hint="a table with the same columns; an empty cell where a label is missing",
        )
