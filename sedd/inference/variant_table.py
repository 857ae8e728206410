"""Tables of mutants, CSV or TSV: names such as `A24G:L30P`, or whole sequences as ProteinGym has them."""

import csv
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.complaints import clip
from sedd.data.alphabet import AMINO_ACIDS, TOKENS
from sedd.data.fasta import require_readable
from sedd.data.records import Record, read_records
from sedd.design.mutations import substitutions
from sedd.errors import DataError, UsageError, why_not_utf_8
from sedd.inference.variants import Variant, VariantTable, residues_of, scan, share_of
from sedd.spec.inference import ScoreSpec
from sedd.units import counted, decimal_comma_hint

MUTANT_COLUMNS = ("mutant", "mutants", "mutation", "mutations", "variant", "variants")
SEQUENCE_COLUMNS = ("mutated_sequence", "mutant_sequence", "sequence")
WILD_TYPE_COLUMNS = ("target_seq", "wild_type_sequence", "wildtype_sequence")
PROTEIN_COLUMNS = ("protein", "protein_name", "wild_type", "wildtype", "target")
"""Names of columns, in any case; the first that a table has is taken."""

_SUBSTITUTION = re.compile(r"(?:p\.)?([A-Za-z])(\d+)([A-Za-z])")
_BETWEEN = re.compile(r"[:;,/+\s]+")
_WILD_TYPE = ("", "wt", "_wt", "wildtype", "wild_type")
_SITES_THAT_TELL = 3
"""Sites that fit with one offset alone; fewer do so by chance in a short protein."""


def read_table(wanted: ScoreSpec) -> VariantTable:
    """The mutants that a spec asks for, or its share of them. Raises: DataError, as `read_variants`."""
    wild_types = [record for path in wanted.wild_types for record in read_records(path)]
    if wanted.mutants is None:
        return share_of(scan(wild_types, offset=wanted.offset), *wanted.share)
    return share_of(read_variants(wanted.mutants, wild_types, offset=wanted.offset), *wanted.share)


def read_variants(path: Path, wild_types: Sequence[Record], *, offset: int = 0) -> VariantTable:
    """Mutants of a CSV or TSV table: names such as `A24G` or `A24G:L30P`, or whole sequences as ProteinGym has them.

    A sequence, where there is one, is what counts; a name is read from it and the wild type. `offset` is what was
    added to a residue's place in the wild type (from 1) to get the number in the names.

    Raises:
        DataError: a row that does not fit its wild type, named by its line; or a table without such columns.
    """
    header, rows = _read_rows(path)
    reader = _RowReader(path, _columns_of(header, path), _by_name(wild_types), offset)
    if reader.columns.protein and not reader.columns.wild_type and len(reader.wild_types) == 1:
        place = header.index(reader.columns.protein)
        _require_one_protein(path, next(iter(reader.wild_types)), [(line, row[place]) for line, row in rows])
    try:
        variants = tuple(reader.read(line, dict(zip(header, row, strict=True))) for line, row in rows)
    except OtherResidueError as e:
        names = [row[header.index(reader.columns.mutant)] for _, row in rows] if reader.columns.mutant else []
        raise DataError(e.message, hint=_offset_hint(names, wild_types, offset)) from e
    if not variants:
        raise DataError(f"{path} has no row below its header")
    return VariantTable(
        variants,
        dict(zip(header, map(list, zip(*(row for _, row in rows), strict=True)), strict=True)),
        offset,
        source=str(path),
        lines=[line for line, _ in rows],
    )


def parse_variants(wild_type: Record, mutants: Sequence[str], *, offset: int = 0) -> VariantTable:
    """Mutants of one wild type from their names, or from sequences. Raises: DataError."""
    reader = _RowReader(None, _Columns("mutant", "sequence", None, None), {wild_type.name: wild_type}, offset)
    variants = []
    for number, text in enumerate(mutants):
        is_name = text.lower() in _WILD_TYPE or _SUBSTITUTION.fullmatch(re.split(_BETWEEN, text.strip())[0])
        row = {"mutant": text if is_name else "", "sequence": "" if is_name else text}
        variants.append(reader.read(number, row))
    if not variants:
        raise DataError("there is no mutant")
    return VariantTable(tuple(variants), {"mutant": [one.name for one in variants]}, offset)


def _by_name(wild_types: Sequence[Record]) -> dict[str, Record]:
    """Raises: DataError where two different ones have one name: rows could not tell them apart."""
    found: dict[str, Record] = {}
    for record in wild_types:
        if found.setdefault(record.name, record).text != record.text:
            raise DataError(
                f"two different wild types are called '{record.name}'",
                hint="the first word of a header is a protein's name",
            )
    return found


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with its line number."""
    require_readable(path)
    content = path.read_bytes()
    if found := why_not_utf_8(path, content):
        raise DataError(f"{path} is {found[0]}", hint=found[1] or "write the table as text: CSV or TSV")
    text = re.sub("\r\n?", "\n", content.decode("utf-8-sig"))
    first = text.partition("\n")[0]
    _require_separator(path, first, text)
    # Strict: else a quote that is never closed takes the rows behind it into its cell.
    lines = csv.reader(text.splitlines(), delimiter="\t" if "\t" in first else ",", strict=True)
    try:
        table = [(lines.line_num, [cell.strip() for cell in row]) for row in lines if any(row)]
    except csv.Error as e:
        raise DataError(f"{path}:{lines.line_num}: not a CSV or TSV table: {e}") from e
    if not table:
        raise DataError(f"{path} is empty")
    header = table[0][1]
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise DataError(
            f"{path}:{table[0][0]}: two columns are called '{clip(twice)}'",
            hint="rename one of them, or take it out",
        )
    for line, row in table[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{path}:{line}: {counted(len(row), 'cell')}, the header has {len(header)}",
                hint=_row_hint(row, header, "\t" if "\t" in first else ","),
            )
    return header, table[1:]


def _require_separator(path: Path, first: str, text: str) -> None:
    """Raise DataError for a FASTA file, and for a header whose columns neither commas nor tabs separate."""
    if first.startswith(">"):
        raise DataError(
            f"{path} is a FASTA file, not a table of mutants",
            hint="give wild types with --fasta, and mutants as a CSV or TSV with a column mutant (A24G)",
        )
    if "," not in first and "\t" not in first and (seen := _other_separator(first)):
        comma = next(filter(None, map(decimal_comma_hint, re.split(r"[;|\s\"]+", text))), None)
        raise DataError(
            f"{path}:1: columns are separated by {seen}: '{clip(first.strip())}'",
            hint="separate them by commas (CSV) or tabs (TSV)" + (f"; {comma}" if comma else ""),
        )


_SEPARATORS = {";": "semicolons", "|": "bars", "\t": "tabs", ",": "commas", " ": "spaces"}


def _other_separator(header: str) -> str | None:
    """What separates the columns of a header without commas and tabs, as a plural; None if it is one column."""
    for mark in (";", "|", " "):
        cells = [cell.strip().lower() for cell in header.split(mark)]
        known = (*MUTANT_COLUMNS, *SEQUENCE_COLUMNS)
        if len(cells) > 1 and (mark == ";" or any(cell.strip('"') in known for cell in cells)):
            return _SEPARATORS[mark]
    return None


def _row_hint(row: Sequence[str], header: Sequence[str], separator: str) -> str | None:
    """Why a row may have another number of cells than the header."""
    for mark, name in _SEPARATORS.items():
        if mark != separator and len(row) == 1 and len(row[0].split(mark)) == len(header):
            return f"columns are separated by {name} here, by {_SEPARATORS[separator]} in the header"
    if separator == "," and len(row) > len(header):
        pairs = (decimal_comma_hint(f"{one},{two}") for one, two in itertools.pairwise(row))
        return next((f"a number with a comma? {hint}" for hint in pairs if hint), None)
    return None


def _require_one_protein(path: Path, wild_type: str, cells: Sequence[tuple[int, str]]) -> None:
    """Raises: DataError where rows, by line and protein, are of several proteins: one wild type is not that of all.

    One protein may have any name. Cells of one letter, or a number, are none: a residue, or a target of regression.
    """
    named = [(line, text) for line, text in cells if len(text) > 1 and not _is_number(text)]
    names = {text.casefold() for _, text in named}
    if len(names) > 1:
        own = wild_type.casefold() if wild_type.casefold() in names else named[0][1].casefold()
        line, other = next((line, text) for line, text in named if text.casefold() != own)
        raise DataError(
            f"{path}:{line}: no wild type '{clip(other)}'; the FASTA file has {wild_type}",
            hint="give the wild types of all proteins, or one table for each protein",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Columns:
    mutant: str | None
    sequence: str | None
    wild_type: str | None
    protein: str | None


def _columns_of(header: Sequence[str], path: Path) -> _Columns:
    def find(names: tuple[str, ...]) -> str | None:
        lower = {cell.lower(): cell for cell in reversed(header)}
        return next((lower[name] for name in names if name in lower), None)

    found = _Columns(*map(find, (MUTANT_COLUMNS, SEQUENCE_COLUMNS, WILD_TYPE_COLUMNS, PROTEIN_COLUMNS)))
    if not (found.mutant or found.sequence):
        raise DataError(
            f"{path} has no column of mutants: seen {', '.join(header)}",
            hint=f"name it mutant (A24G or A24G:L30P) or mutated_sequence; also read: {', '.join(MUTANT_COLUMNS[1:])}",
        )
    return found


@dataclass(frozen=True, slots=True)
class _RowReader:
    path: Path | None
    """None: of a list in Python."""
    columns: _Columns
    wild_types: Mapping[str, Record]
    offset: int

    def read(self, line: int, row: Mapping[str, str]) -> Variant:
        where = f"{self.path}:{line}" if self.path else f"mutants[{line}]"
        name = row[self.columns.mutant] if self.columns.mutant else ""
        sequence = row[self.columns.sequence] if self.columns.sequence else ""
        protein, wild_type = self._wild_type(row, name, sequence, where)
        if sequence:
            mutant = residues_of(sequence, where)
            for token in set(mutant.tolist()) - set(wild_type.tolist()):
                _token(TOKENS[token], f"{where}: '{clip(sequence)}'")
            return Variant(
                protein=protein,
                name=name or substitutions(wild_type, mutant, self.offset),
                wild_type=wild_type,
                mutant=mutant,
            )
        mutant = _mutated(wild_type, name, self.offset, where)
        return Variant(protein=protein, name=name, wild_type=wild_type, mutant=mutant)

    def _wild_type(
        self, row: Mapping[str, str], name: str, sequence: str, where: str
    ) -> tuple[str, NDArray[np.uint8]]:
        protein = row[self.columns.protein] if self.columns.protein else ""
        if self.columns.wild_type:
            return protein, residues_of(row[self.columns.wild_type], where)
        if len(self.wild_types) == 1:
            (record,) = self.wild_types.values()
            return record.name, residues_of(record.text, record.where)
        if protein in self.wild_types:
            return protein, residues_of(self.wild_types[protein].text, self.wild_types[protein].where)
        if not self.wild_types and sequence and _SUBSTITUTION.fullmatch(name.split(":")[0]):
            return protein, _mutated(residues_of(sequence, where), name, self.offset, where, back=True)
        if not self.wild_types:
            raise UsageError(f"{where}: there is no wild type for this mutant", hint="give it with --fasta")
        few = ", ".join([*list(self.wild_types)[:5], *(["…"] if len(self.wild_types) > 5 else [])])
        if not protein:
            column = self.columns.protein
            raise DataError(
                f"{where}: the FASTA file has {len(self.wild_types)} wild types ({few}), and "
                + (
                    f"column {column} is empty here"
                    if column
                    else "no column of the table says which is meant"
                ),
                hint=f"name it in {'that column' if column else f'a column {PROTEIN_COLUMNS[0]}'}",
            )
        raise DataError(
            f"{where}: no wild type '{clip(protein)}'; the FASTA file has {few}",
            hint=f"column {self.columns.protein} holds the first word of a header of the FASTA file",
        )


def _mutated(
    tokens: NDArray[np.uint8], name: str, offset: int, where: str, *, back: bool = False
) -> NDArray[np.uint8]:
    """The sequence with the substitutions of a name made, or undone. Raises: DataError where they do not fit."""
    changed, places = tokens.copy(), set[int]()
    for part in [] if name.lower() in _WILD_TYPE else re.split(_BETWEEN, name.strip()):
        found = _SUBSTITUTION.fullmatch(part)
        if not found:
            raise DataError(
                f"{where}: '{part}' is not a substitution such as A24G",
                hint="for insertions and deletions give whole sequences, in a column mutated_sequence",
            )
        old, number, new = found[1].upper(), int(found[2]), found[3].upper()
        before, after = (new, old) if back else (old, new)
        place = number - 1 - offset
        seen = TOKENS[tokens[place]] if 0 <= place < len(tokens) else "nothing"
        if seen != before:
            there = "mutant" if back else "wild type"
            raise OtherResidueError(
                f"{where}: '{part}' names {before} at {number}, the {there} has {seen} there"
                f" ({len(tokens)} residues from {1 + offset} on)",
            )
        if place in places:
            raise DataError(f"{where}: '{clip(name)}' changes position {number} twice")
        places.add(place)
        changed[place] = _token(after, where)
    return changed


class OtherResidueError(DataError):
    """A name's letter is not that of the sequence."""


def _offset_hint(names: Sequence[str], wild_types: Sequence[Record], offset: int) -> str:
    """The only offset with which all names would fit, or what an offset is."""
    default = f"--offset is {offset}: what the numbers in names add to places in the sequence, from 1"
    sites = _sites(names)
    if len(wild_types) != 1 or not sites:
        return default
    text = wild_types[0].text.upper()
    fits = [{number - 1 - place for place, seen in enumerate(text) if seen == old} for old, number in sites]
    fitting = set.intersection(*fits)
    if len(fitting) != 1:
        return default
    (only,) = fitting
    if len(sites) < _SITES_THAT_TELL:
        few = "one site" if len(sites) == 1 else f"{len(sites)} sites"
        return f"--offset {only} would fit, perhaps by chance: the table names {few}"
    return f"with --offset {only} every row fits"


def _sites(names: Sequence[str]) -> set[tuple[str, int]]:
    """Residue and number of every substitution in the names; none where one of these is something else."""
    parts = [
        part for name in names if name.lower() not in _WILD_TYPE for part in re.split(_BETWEEN, name.strip())
    ]
    found = [each for part in parts if (each := _SUBSTITUTION.fullmatch(part)) and _is_amino_acid(each[3])]
    return {(each[1].upper(), int(each[2])) for each in found} if len(found) == len(parts) else set()


def _is_amino_acid(letter: str) -> bool:
    return letter.upper() in TOKENS and TOKENS.index(letter.upper()) in AMINO_ACIDS


def _token(letter: str, where: str) -> int:
    if not _is_amino_acid(letter):
        raise DataError(f"{where}: '{letter}' is none of the twenty amino acids")
    return TOKENS.index(letter)
