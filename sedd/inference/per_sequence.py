"""The bound of every protein as a table: CSV, or Parquet through pyarrow."""

import csv
import io
from pathlib import Path
from typing import Any

from sedd.errors import UsageError
from sedd.inference.evaluation import Evaluation
from sedd.rundir.atomic import atomic_file, write_output

PARQUET = ".parquet"


def require_writer(path: Path) -> None:
    """Refuse, before the work, what could not be written. Raises: UsageError for Parquet without pyarrow."""
    if path.suffix == PARQUET:
        _pyarrow()


def write_table(path: Path, result: Evaluation) -> None:
    """Columns name, residues, nats_per_residue, standard_error; Parquet if the name ends so, else CSV.

    Raises:
        UsageError: Parquet without pyarrow.
    """
    columns = _columns(result)
    if path.suffix == PARQUET:
        pyarrow, parquet = _pyarrow()
        with atomic_file(path) as temporary:
            parquet.write_table(pyarrow.table(columns), temporary)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_output(path, text.getvalue())


def _columns(result: Evaluation) -> dict[str, list[Any]]:
    bound = result.bound
    return {
        "name": list(result.names),
        "residues": bound.residues.tolist(),
        "nats_per_residue": (bound.nats / bound.residues).tolist(),
        "standard_error": (bound.variance.sqrt() / bound.residues).tolist(),
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as e:
        raise UsageError(
            "Parquet is written by pyarrow, which is not installed",
            hint="pip install 'protein-sedd[parquet]', or .csv",
        ) from e
    return pyarrow, pyarrow.parquet
