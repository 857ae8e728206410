"""Embeddings as files: Parquet, npz or safetensors, written part by part where the format allows it."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from sedd.data.alphabet import TOKENS
from sedd.inference.tables import pyarrow_modules, require_writer
from sedd.rundir.atomic import output_file, require_output

if TYPE_CHECKING:
    from sedd.inference.embed import Embedding

WITHOUT_PYARROW = ".npz or .safetensors"
Names = Sequence[str]
Proteins = Sequence[NDArray[np.uint8]]
Part: TypeAlias = "tuple[Names, Proteins, Embedding]"
"""Names and residues of proteins, and their embedding."""


def require_format(path: Path, *, force: bool) -> None:
    """Refuse, before the work, what could not be written. Raises: UsageError."""
    require_output(path, force=force, endings=tuple(WRITERS))
    require_writer(path, instead=WITHOUT_PYARROW)


def write_embeddings(path: Path, parts: Iterable[Part], *, pooled: bool) -> None:
    """Write all parts in order.

    Parquet has a row a protein (`name`, `residues`), or a row a residue (`name`, `position` from 1, `residue`), and a
    list column for each layer; it is written part by part. npz and safetensors hold an array for each layer, `lengths`
    (the rows of each protein) and the names, and are put together in memory.
    """
    with output_file(path) as temporary:
        WRITERS[path.suffix](temporary, parts, pooled)


def _write_parquet(path: Path, parts: Iterable[Part], pooled: bool) -> None:
    pyarrow, parquet = pyarrow_modules()
    writer = None
    try:
        for names, proteins, embedding in parts:
            columns = {**_labels(names, proteins, pooled)}
            for name, rows in embedding.items():
                values = pyarrow.array(np.ascontiguousarray(rows).reshape(-1))
                columns[name] = pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
            table = pyarrow.table(columns)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _labels(names: Names, proteins: Proteins, pooled: bool) -> dict[str, Any]:
    lengths = [len(tokens) for tokens in proteins]
    if pooled:
        return {"name": list(names), "residues": lengths}
    return {
        "name": [name for name, length in zip(names, lengths, strict=True) for _ in range(length)],
        "position": [place + 1 for length in lengths for place in range(length)],
        "residue": [TOKENS[token] for tokens in proteins for token in tokens],
    }


def _write_npz(path: Path, parts: Iterable[Part], pooled: bool) -> None:
    names, arrays = _joined(parts, pooled)
    with path.open("wb") as file:
        np.savez(file, names=np.array(names), **arrays)  # type: ignore[arg-type] # numpy's stub knows no mapping


def _write_safetensors(path: Path, parts: Iterable[Part], pooled: bool) -> None:
    names, arrays = _joined(parts, pooled)
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"names": json.dumps(names)}))


def _joined(parts: Iterable[Part], pooled: bool) -> tuple[list[str], dict[str, NDArray[Any]]]:
    names: list[str] = []
    lengths: list[int] = []
    layers: dict[str, list[NDArray[np.float32]]] = {}
    for some, proteins, embedding in parts:
        names += some
        lengths += [1 if pooled else len(tokens) for tokens in proteins]
        for name, rows in embedding.items():
            layers.setdefault(name, []).append(rows)
    return names, {
        "lengths": np.array(lengths),
        **{name: np.concatenate(rows) for name, rows in layers.items()},
    }


WRITERS: dict[str, Callable[[Path, Iterable[Part], bool], None]] = {
    ".parquet": _write_parquet,
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
}
"""By the suffix of the file."""
