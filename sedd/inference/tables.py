"""Tables as files: CSV, TSV, or Parquet through pyarrow."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sedd.errors import UsageError
from sedd.rundir.atomic import output_file, require_output, write_output

PARQUET = ".parquet"
SUFFIXES = (".csv", ".tsv", PARQUET, "")
"""Of a table's name; without one it is CSV."""


def require_table(path: Path | None, *, force: bool) -> None:
    """Refuse, before the work, a table that a user named and that could not be written; `-` is CSV on standard output.

    Raises:
        UsageError: as `require_output`.
    """
    require_output(path, force=force, endings=SUFFIXES, to_stdout=True)
    if path is not None:
        require_writer(path)


def require_writer(path: Path, *, instead: str = ".csv") -> None:
    """Refuse, before the work, what could not be written. Raises: UsageError for Parquet without pyarrow.

    `instead`: the endings that the command takes and that need no package.
    """
    if path.suffix == PARQUET:
        pyarrow_modules(instead=instead)


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of one length by name; Parquet or TSV if the file's name ends so, else CSV.

    Raises:
        UsageError: Parquet without pyarrow. SeddError: the file cannot be written.
    """
    if path.suffix == PARQUET:
        pyarrow, parquet = pyarrow_modules()
        with output_file(path) as temporary:
            parquet.write_table(pyarrow.table(dict(columns)), temporary)
        return
    write_output(path, csv_text(columns, delimiter="\t" if path.suffix == ".tsv" else ","))


def csv_text(columns: Mapping[str, Sequence[Any]], *, delimiter: str = ",") -> str:
    """Columns of one length as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def pyarrow_modules(*, instead: str = ".csv") -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises: UsageError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as e:
        raise UsageError(
            "Parquet is written by pyarrow, which is not installed",
            hint=f"pip install 'protein-sedd[parquet]', or a name that ends in {instead}",
        ) from e
    return pyarrow, pyarrow.parquet
