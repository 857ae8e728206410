"""The 33 tokens of ESM-2 in its order, so that ESM tools read our ids, and a table that encodes text."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from sedd.errors import DataError

TOKENS = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
"""Token of each id: 0..3 special, 4..28 letters, 29 `.`, 30 `-`, 31 unused, 32 the absorbing state."""

SIZE = len(TOKENS)
GAP_LETTERS = "-."
"""Of alignments: tokens of ESM-2, no residues."""
MASK = TOKENS.index("<mask>")
X = TOKENS.index("X")
AMINO_ACIDS = frozenset(TOKENS.index(letter) for letter in "ACDEFGHIKLMNPQRSTVWY")
RESIDUES = frozenset(range(TOKENS.index("L"), TOKENS.index("O") + 1))
"""Ids that a stored sequence may hold: the twenty, and X B U Z O."""

ALPHABET_HASH = hashlib.sha256("\n".join(TOKENS).encode()).hexdigest()[:16]

# Codes of characters that need a decision, above every token id.
STOP = 40
UNKNOWN_LETTER = 41
NOT_A_RESIDUE = 42
WHITESPACE = b" \t\r\n\v\f"


def _encoding_table() -> bytes:
    table = bytearray([NOT_A_RESIDUE] * 256)
    for code in (*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)):
        table[code] = UNKNOWN_LETTER
    for token_id, token in enumerate(TOKENS):
        if len(token) == 1:
            table[ord(token)] = table[ord(token.lower())] = token_id
    table[ord("*")] = STOP
    return bytes(table)


ENCODING = _encoding_table()
"""For `bytes.translate`: character → token id, or one of the codes above."""

_DECODING = np.array(TOKENS, dtype=object)


def encode(sequence: str) -> NDArray[np.uint8]:
    """Token ids of one sequence, a character each; letters outside the alphabet become X, a final `*` goes.

    Raises:
        DataError: a character that is neither a letter, `.`, `-` nor whitespace.
    """
    codes = sequence.encode("utf-8").translate(ENCODING, WHITESPACE).rstrip(bytes([STOP]))
    tokens = np.frombuffer(codes, np.uint8).copy()
    if (tokens == NOT_A_RESIDUE).any():
        strange = next(
            c for c in sequence if not (c.isascii() and (c.isalpha() or c in ".-*" or c.isspace()))
        )
        raise DataError(f"{strange!r} in {sequence[:30]!r} is not an amino acid")
    tokens[tokens >= STOP] = X
    return tokens


def decode(tokens: NDArray[np.integer]) -> str:
    """Letters of token ids; special tokens are written out, as in `MK<mask>V`."""
    return "".join(_DECODING[np.asarray(tokens, dtype=np.int64)])
