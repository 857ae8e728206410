"""A chapter of the data benchmarks: FASTA as large as wanted, with the lengths and the composition of a real file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import igzip
from numpy.typing import NDArray

LINE = 60
_SHORTEST = 20  # residues: shorter random ones would repeat
_AT_ONCE = 20_000
_HEADERS = (
    b">UniRef50_A0A%08d Uncharacterized protein n=1 Tax=Woesearchaeota archaeon TaxID=2026803 RepID=A0A%08d_9ARCH",
    b">UniRef50_UPI%08d hypothetical protein n=1 Tax=unclassified Streptomyces TaxID=2593676 RepID=UPI%08d",
    b">UniRef50_R%08d Iron-sulfur cluster binding protein n=27 Tax=Bacteria TaxID=2 RepID=R%08d_9FIRM",
)


@dataclass(frozen=True)
class Likeness:
    """What is taken from a real file: the lengths of its proteins, times `scale`, and how often each letter occurs."""

    lengths: NDArray[np.int64]
    letters: NDArray[np.uint8]
    """65,536 letters, so that a random 16-bit number draws one."""

    @classmethod
    def of(cls, real: Path, *, scale: float = 1.0) -> "Likeness":
        """Of a FASTA file, plain or gzip."""
        opened = igzip.open if real.suffix == ".gz" else open
        with opened(real, "rb") as file:
            bodies = [
                record.partition(b"\n")[2].replace(b"\n", b"") for record in file.read().split(b">")[1:]
            ]
        lengths = np.array([len(body) for body in bodies])
        letters = np.sort(np.frombuffer(b"".join(bodies), np.uint8))
        return cls(
            np.maximum((lengths * scale).astype(np.int64), _SHORTEST),
            letters[np.linspace(0, len(letters) - 1, 1 << 16).astype(np.int64)],
        )


def write_synthetic_fasta(
    path: Path, like: Likeness, *, size_bytes: int | None = None, sequences: int | None = None, first: int = 0
) -> None:
    """Random proteins, all different, in lines of 60: at least `size_bytes`, or this many; numbered from `first` on."""
    with path.open("wb") as file:
        for number, count in _pieces(sequences):
            if size_bytes is not None and file.tell() >= size_bytes:
                return
            file.write(_records(like, first + number, count))


def write_synthetic_clusters(path: Path, *, sequences: int, size: int = 3) -> None:
    """A cluster table of the proteins that `write_synthetic_fasta` numbers from 0 on, `size` of them a cluster."""
    with path.open("wb") as file:
        for first, count in _pieces(sequences):
            name = _header(first).split(b" ", 1)[0][1:]
            numbers = range(first, first + count)
            file.write(b"".join(b"C%d\t%b\n" % (i // size, name % i) for i in numbers))


def _header(first: int) -> bytes:
    return _HEADERS[first // _AT_ONCE % len(_HEADERS)]


def _pieces(sequences: int | None) -> Iterator[tuple[int, int]]:
    number = 0
    while sequences is None or number < sequences:
        count = _AT_ONCE if sequences is None else min(_AT_ONCE, sequences - number)
        yield number, count
        number += count


def _records(like: Likeness, first: int, count: int) -> bytes:
    """Records `first` onwards: residues everywhere, then line ends and headers over them."""
    draw = np.random.Generator(np.random.SFC64(first))
    header = _header(first)
    headers = np.frombuffer(b"".join(header % (i, i) + b"\n" for i in range(first, first + count)), np.uint8)
    headers = headers.reshape(count, -1)
    lengths = like.lengths[draw.integers(0, len(like.lengths), count)]
    lines = -(-lengths // LINE)
    ends = np.cumsum(headers.shape[1] + lengths + lines)
    starts = np.concatenate([[0], ends[:-1]])
    text = like.letters[draw.integers(0, 1 << 16, int(ends[-1]), np.uint16)]
    line = np.arange(lines.sum()) - np.repeat(np.cumsum(lines) - lines, lines)
    line_ends = np.repeat(starts + headers.shape[1] + LINE, lines) + line * (LINE + 1)
    text[np.minimum(line_ends, np.repeat(ends - 1, lines))] = ord("\n")
    text[starts[:, None] + np.arange(headers.shape[1])] = headers
    return text.tobytes()
