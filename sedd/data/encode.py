"""Encode a block of FASTA records as tokens, and count what was dropped and altered."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.data.alphabet import ENCODING, NOT_A_RESIDUE, STOP, TOKENS, UNKNOWN_LETTER, WHITESPACE, X
from sedd.data.fasta import first_word
from sedd.errors import DataError

GAPS = bytes([TOKENS.index("."), TOKENS.index("-")])
_NUCLEOTIDES = [TOKENS.index(letter) for letter in "ACGTUN"]
_NUCLEOTIDE_SHARE = 0.95
_ENOUGH_RESIDUES = 40  # of a shorter peptide its letters may be these by chance
_CHECKED_BYTES = 1 << 16
_OF_WORDS = (2, 3, 4)
"""Letters; databanks print sequences in groups of 10, some programs each residue on its own."""
_PIR = re.compile(rb">(?:P1|F1|D[LC]|R[LC]|N[13]|XX);")
_TO_X = bytes(X if code in (STOP, UNKNOWN_LETTER) else code for code in range(256))

TALLY = {
    "records": "records read",
    "empty": "dropped: a header without sequence",
    "too_short": "dropped: shorter than the minimum",
    "too_long": "dropped: longer than the maximum",
    "too_unknown": "dropped: too many X",
    "beyond_limit": "dropped: beyond the limit",
    "duplicates": "dropped: the same sequence again",
    "not_sampled": "dropped: not in the sample",
    "letters_to_x": "letters outside the alphabet, now X",
    "stops_to_x": "stops (*) inside a sequence, now X",
    "stops_stripped": "stops (*) at the end, removed",
    "gaps_removed": "gaps (- and .), removed",
    "lines_of_words": "lines of words inside sequences, read as residues",
    "unclustered": "sequences that the cluster table lacks, split on their own",
}
"""What is counted on the way from records to sequences, and how it is told."""


@dataclass(slots=True)
class Tally:
    """Counts under the names of `TALLY`, and the first example of what needs one."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TALLY, 0))
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, count: int = 1, *, example: str | None = None) -> None:
        self.counts[name] += count
        if example is not None:
            self.examples.setdefault(name, example)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which sequences are kept; lengths in residues, `max_unknown` as a fraction of X."""

    min_length: int = 1
    max_length: int | None = None
    max_unknown: float | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Kept sequences of one block, token ids end to end; names only where they were asked for."""

    tokens: bytes
    names: list[bytes]
    """First words of the headers."""
    lengths: NDArray[np.int64]
    hashes: NDArray[np.uint64]


def encode_block(block: bytes, filters: Filters, tally: Tally, *, source: str, named: bool) -> Encoded:
    """Tokens of a block of whole records; names only if `named`.

    Raises:
        DataError: a character that no protein has.
    """
    tokens, lengths = _split_regular(block)
    if np.frombuffer(tokens, np.uint8).max(initial=0) >= GAPS[0]:
        sequences = _split_any(block, tally, source)
        tokens = b"".join(sequences)
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    names = _names(block) if named else []
    tally.add("records", len(lengths))
    kept = _kept(tokens, lengths, filters, tally)
    if not kept.all():
        tokens = b"".join(compress(_sequences(tokens, lengths), kept))
        lengths, names = lengths[kept], list(compress(names, kept))
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, _sequences(tokens, lengths)), np.uint64, len(lengths))
    return Encoded(tokens, names, lengths, hashes)


def _sequences(tokens: bytes, lengths: NDArray[np.int64]) -> Iterator[bytes]:
    """Each sequence of those that lie end to end. A stream's `read` is quicker here than a slice."""
    return map(io.BytesIO(tokens).read, lengths.tolist())


def _split_regular(block: bytes) -> tuple[bytes, NDArray[np.int64]]:
    """The codes of all records, end to end, and how many each has; right if there is nothing to mend.

    One pass over all records in place of a few calls for each: takes half the time of `_split_any`.
    """
    characters = np.frombuffer(block, np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    if not block.endswith(b"\n"):
        line_ends = np.append(line_ends, len(block))
    line_starts = np.concatenate([[0], line_ends[:-1] + 1])
    headers = np.flatnonzero(characters[line_starts] == ord(">"))  # numbers of lines
    after = np.append(headers[1:], len(line_ends))
    starts, stops = line_ends[headers], line_ends[after - 1]  # a body begins with the header's line end
    view = memoryview(block)
    bodies = b"".join([view[i:j] for i, j in zip(starts.tolist(), stops.tolist(), strict=True)])
    return bodies.translate(ENCODING, b"\n"), stops - starts - (after - 1 - headers)


def _split_any(block: bytes, tally: Tally, source: str) -> list[bytes]:
    """The tokens of each record, mended where that is needed."""
    bodies = [record.partition(b"\n")[2] for record in block[1:].split(b"\n>")]
    for body in bodies:
        if b" " in body or b"\t" in body:
            for line in lines_of_words(body):
                tally.add("lines_of_words", example=f"{line[:40]!r} in {source}")
    return _mend([body.translate(ENCODING, WHITESPACE) for body in bodies], block, tally, source)


def lines_of_words(body: bytes) -> list[str]:
    """Lines of a sequence that look like text: several words that are not groups of residues of one length."""
    found = []
    for line in body.splitlines():
        lengths = [len(word) for word in line.split()]
        is_grouped = len(set(lengths[:-1])) == 1 and lengths[0] >= lengths[-1] and lengths[0] not in _OF_WORDS
        if len(lengths) > 1 and not is_grouped:
            found.append(line.decode("utf-8", "replace").strip())
    return found


def _names(block: bytes) -> list[bytes]:
    return [first_word(record.partition(b"\n")[0]) for record in block[1:].split(b"\n>")]


def count_codes(codes: bytes) -> NDArray[np.int64]:
    """int64 [256]: how often each byte occurs. Counts pairs: half as many take half the time."""
    array = np.frombuffer(codes, np.uint8)
    even = len(array) & ~1
    if even < 1 << 16:
        return np.bincount(array, minlength=256)
    pairs = np.bincount(array[:even].view("<u2"), minlength=1 << 16).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts + np.bincount(array[even:], minlength=256)


def require_protein(block: bytes, source: str) -> None:
    """Raise DataError if a block of records is PIR, not FASTA, or nucleotides; its first 64 KiB tell."""
    if _PIR.match(block):
        shown = block.split(b"\n", 1)[0].strip().decode("utf-8", "replace")
        raise DataError(
            f"{source} is a PIR file, in which a line of text follows each header such as {shown[:40]!r}",
            hint="turn it into FASTA first: remove the line after each header",
        )
    bodies = b"".join(record.partition(b"\n")[2] for record in block[1:_CHECKED_BYTES].split(b"\n>"))
    codes = bodies.translate(ENCODING, WHITESPACE)
    if len(codes) < _ENOUGH_RESIDUES:
        return
    a, c, g, t, u, _ = shares = count_codes(codes)[_NUCLEOTIDES] / len(codes)
    if shares.sum() >= _NUCLEOTIDE_SHARE and min(a, c, g, t + u) > 0.02:
        raise DataError(
            f"{source} holds nucleotides, not proteins: {shares.sum():.0%} of its letters are A C G T U N",
            hint="translate it first",
        )


def _mend(sequences: list[bytes], block: bytes, tally: Tally, source: str) -> list[bytes]:
    """Strip final stops, remove gaps, turn what is left outside the alphabet into X."""
    counts = count_codes(b"".join(sequences))
    if counts[NOT_A_RESIDUE]:
        raise _strange_character(sequences, block, source)
    stripped = [sequence.rstrip(bytes([STOP])) for sequence in sequences]
    ends = sum(map(len, sequences)) - sum(map(len, stripped))
    tally.add("stops_stripped", ends)
    tally.add("stops_to_x", int(counts[STOP]) - ends)
    tally.add("letters_to_x", int(counts[UNKNOWN_LETTER]))
    tally.add("gaps_removed", int(counts[list(GAPS)].sum()))
    return [sequence.translate(_TO_X, GAPS) for sequence in stripped]


def _strange_character(sequences: list[bytes], block: bytes, source: str) -> DataError:
    number = next(i for i, s in enumerate(sequences) if NOT_A_RESIDUE in s)
    header, _, body = block[1:].split(b"\n>")[number].partition(b"\n")
    strange = next(byte for byte in body if ENCODING[byte] == NOT_A_RESIDUE and byte not in WHITESPACE)
    name = first_word(header)[:40].decode("utf-8", "replace")
    shown = repr(chr(strange)) if 32 < strange < 127 else f"byte 0x{strange:02x}"
    # A flipped bit in a gzip file is a letter first; the checksum that would tell comes at the file's end.
    hint = f"is the file damaged? gzip -t '{source}' tells" if source.endswith(".gz") else None
    return DataError(f"{source}: {shown} in the sequence of {name!r} is not an amino acid", hint=hint)


def _kept(tokens: bytes, lengths: NDArray[np.int64], filters: Filters, tally: Tally) -> NDArray[np.bool_]:
    longest = filters.max_length if filters.max_length is not None else np.iinfo(np.int64).max
    reasons = {
        "empty": lengths == 0,
        "too_short": (lengths > 0) & (lengths < filters.min_length),
        "too_long": lengths > longest,
    }
    kept: NDArray[np.bool_] = ~np.logical_or.reduce(list(reasons.values()))
    if filters.max_unknown is not None:
        unknown = np.fromiter((s.count(X) for s in _sequences(tokens, lengths)), np.int64, len(lengths))
        reasons["too_unknown"] = kept & (unknown > filters.max_unknown * lengths)
        kept &= ~reasons["too_unknown"]
    for reason, dropped in reasons.items():
        tally.add(reason, int(dropped.sum()))
    return kept
