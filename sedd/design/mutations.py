"""What differs between a protein and another one of its length, by name."""

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import TOKENS


def substitutions(wild_type: NDArray[np.uint8], mutant: NDArray[np.uint8], offset: int = 0) -> str:
    """`A24G:L30P`, counted from 1 + offset; nothing for proteins of two lengths."""
    if len(wild_type) != len(mutant):
        return ""
    places = np.flatnonzero(wild_type != mutant)
    return ":".join(f"{TOKENS[wild_type[p]]}{p + 1 + offset}{TOKENS[mutant[p]]}" for p in places)
