"""Read the older `.pt` format: a list of `{"protein_seq", "prot_tokens", "length"}`."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sedd.errors import DataError

_RECORDS = 512


def is_older_file(path: Path) -> bool:
    """Whether the name and the content are those of `torch.save`."""
    with path.open("rb") as file:
        return path.suffix in (".pt", ".pth") and file.read(2) in (b"PK", b"\x80\x02")


def read_older_blocks(path: Path) -> Iterator[bytes]:
    """Its sequences as blocks of FASTA records, named by their number from 0. The whole file is held in memory.

    Raises:
        DataError: not such a list.
    """
    entries = _load(path)
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path} holds no list of sequences")
    for first in range(0, len(entries), _RECORDS):
        numbered = enumerate(entries[first : first + _RECORDS], start=first)
        yield b"".join(_record(path, number, entry) for number, entry in numbered)


def _load(path: Path) -> Any:
    import torch  # only this format needs it

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as e:
        reason = str(e).splitlines()[0][:100] if str(e) else type(e).__name__
        raise DataError(f"{path} is not a list of sequences by torch.save, or is damaged: {reason}") from e


def _record(path: Path, number: int, entry: Any) -> bytes:
    sequence = entry.get("protein_seq") if isinstance(entry, dict) else None
    if not isinstance(sequence, str):
        raise DataError(f"{path}: entry {number} has no string 'protein_seq'")
    return b">%d\n%b\n" % (number, sequence.encode("utf-8"))
