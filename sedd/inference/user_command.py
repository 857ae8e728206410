"""A program of the user's on sampled proteins, a folding tool for example, and what its table says."""

import csv
import errno
import io
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean, median, pstdev

import numpy as np

from sedd.charts import bar_panel, svg
from sedd.data.records import Record
from sedd.errors import DataError, MisfitError, RunError, did_you_mean, why_not_utf_8
from sedd.page import page, table
from sedd.spec.command import CommandSpec
from sedd.units import counted, decimal_comma_hint

ASK_EVERY_S = 0.5
LEAVE_WITHIN_S = 20.0
"""What a program gets after SIGTERM before it is killed."""
_LOWEST = 20
_UNFIT = (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR)
"""What keeps a program from being started, on every node."""
_BY_SHELL = {126: "a program or a file cannot be run", 127: "a program or a file was not found"}
"""What a shell's exit codes say."""


@dataclass(frozen=True, slots=True)
class Found:
    """A number for each protein that the program's table names."""

    column: str
    values: dict[str, float]
    missing: tuple[str, ...]
    """Proteins that the table does not name, or without a number there."""

    def document(self) -> dict[str, object]:
        """In a few numbers, for JSON."""
        numbers = list(self.values.values())
        return {
            "column": self.column,
            "proteins": len(numbers),
            "missing": len(self.missing),
            "mean": fmean(numbers),
            "median": median(numbers),
            "standard_deviation": pstdev(numbers),
            "lowest": min(numbers),
            "highest": max(numbers),
        }


def proteins_of(wanted: CommandSpec) -> Path:
    """The FASTA file: as named, or of a sampling run's folder. Raises: DataError."""
    inside = wanted.fasta / "samples" / "samples.fasta"
    path = inside if wanted.fasta.is_dir() else wanted.fasta
    if not path.is_file():
        raise DataError(
            f"{path} does not exist", hint="has the sampling finished? sedd submit --after waits for it"
        )
    return path


def run_program(
    words: Sequence[str], *, fasta: Path, out: Path, folder: Path, ask: Callable[[], None]
) -> None:
    """Run a program in `folder` until it ends; `ask` raises where it has to stop, and then the program is ended first.

    Raises:
        MisfitError: there is no such program or file, or it wrote no table.
        RunError: it failed.
    """
    named = [word.replace("{fasta}", str(fasta)).replace("{out}", str(out)) for word in words]
    out.unlink(missing_ok=True)
    try:
        program = subprocess.Popen(named, cwd=folder, start_new_session=True)
    except OSError as e:
        kind = MisfitError if e.errno in _UNFIT and e.filename == named[0] else RunError
        raise kind(f"cannot run {named[0]}: {e.strerror}", hint="is it in the job's PATH?") from e
    try:
        while program.poll() is None:
            ask()
            time.sleep(ASK_EVERY_S)
    finally:
        _end(program)
    if program.returncode in _BY_SHELL:
        raise MisfitError(
            f"{named[0]} ended with code {program.returncode}: {_BY_SHELL[program.returncode]}; "
            "the run's log names it",
            hint="a script is found by its name beside the spec, a program in the job's PATH",
        )
    if program.returncode:
        raise RunError(
            f"{named[0]} ended with code {program.returncode}", hint="its output is in the run's log"
        )
    if not out.is_file():
        raise MisfitError(
            f"{named[0]} wrote no {out.name}", hint="{out} in command.run names the file to write"
        )


def _end(program: "subprocess.Popen[bytes]") -> None:
    """End a program that still runs, and what it started."""
    if program.poll() is not None:
        return
    os.killpg(program.pid, signal.SIGTERM)
    try:
        program.wait(LEAVE_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def read_column(path: Path, wanted: CommandSpec, proteins: Sequence[Record]) -> Found:
    """The column's number of each protein; NaN and infinity are none.

    Raises:
        MisfitError: not a CSV, a column that is not there, or no number at all.
    """
    seen, rows = _read_rows(path)
    for name in (wanted.name_column, wanted.column):
        if name not in seen:
            near = did_you_mean(name, seen)
            raise MisfitError(
                f"{path} has no column '{name}': seen {', '.join(seen) or 'nothing'}{f'; {near}' if near else ''}",
                hint="the table is kept; correct command.column or command.name_column, and submit the spec again",
            )
    numbers: dict[str, float] = {}
    for row in rows:
        words, number = row[wanted.name_column].split(), _number(row[wanted.column])
        if words and number is not None:
            numbers[words[0]] = number
    values = {one.name: numbers[one.name] for one in proteins if one.name in numbers}
    if not values:
        commas = (decimal_comma_hint(row[wanted.column]) for row in rows)
        raise MisfitError(
            f"{path}: no row of column '{wanted.column}' has a number for a protein of the FASTA file",
            hint=next(filter(None, commas), None),
        )
    return Found(wanted.column, values, tuple(one.name for one in proteins if one.name not in values))


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The header and the rows; what a short row lacks is empty. Raises: MisfitError."""
    content = path.read_bytes()
    if found := why_not_utf_8(path, content):
        raise MisfitError(f"{path} is {found[0]}, not a CSV table", hint=found[1])
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), restval="")
        rows = list(reader)
        return list(reader.fieldnames or ()), rows
    except csv.Error as e:
        raise MisfitError(f"{path} is not a CSV table: {e}") from e


def _number(cell: str) -> float | None:
    """The finite number in a cell; None where there is none."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def render_found(found: Found, proteins: Sequence[Record]) -> str:
    """A page: a few numbers, a histogram, and the proteins from the highest number to the lowest."""
    numbers = np.array(list(found.values.values()))
    counts, edges = np.histogram(numbers, bins=12)
    labels = [f"{edge:.3g}" if k % 3 == 0 else "" for k, edge in enumerate(edges[:-1])]
    colours = {found.column: "#2b5d8a"}
    bars = bar_panel(
        f"{found.column}, proteins", labels, {found.column: counts.tolist()}, colours, box=(20, 40, 560, 200)
    )
    lengths = {one.name: len(one.text) for one in proteins}
    ordered = sorted(found.values, key=lambda name: -found.values[name])
    rows = [[name, str(lengths[name]), f"{found.values[name]:.4g}"] for name in ordered[:_LOWEST]]
    few = [
        [name, f"{value:.4g}" if isinstance(value, float) else str(value)]
        for name, value in found.document().items()
    ]
    return page(
        f"{found.column} of {counted(len(found.values), 'protein')}",
        [
            f"<h1>{escape(found.column)} of {counted(len(found.values), 'protein')}</h1>",
            table(["", ""], few, kind="numbers"),
            f"<figure>{svg(bars, width=600, height=260)}</figure>",
            f"<h2>The highest {len(rows)}</h2>",
            table(["protein", "residues", found.column], rows, kind="numbers"),
        ],
    )
