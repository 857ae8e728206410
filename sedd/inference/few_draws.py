"""Standard errors from so few draws that they are hardly known themselves."""

from sedd.units import counted

_FEW = 3
"""Differences that tell an error: with as many it is known to about 40 %, 1 / sqrt(2 x 3)."""


def is_hardly_known(sets: int, sequences: int = 1) -> bool:
    """Whether an error from this many sets of draws of each sequence may be several times too small.

    A single set gives no error at all.
    """
    return sets > 1 and (sets - 1) * sequences < _FEW


def bound_remark(sets: int, sequences: int) -> str:
    """Of a bound whose error is hardly known; one line."""
    return (
        f"± comes from {sets} sets of draws of {counted(sequences, 'protein')}, too few to know it: the error may be "
        "several times larger; 16 draws or more make 4 sets"
    )


def score_remark(method: str, sets: int) -> str:
    """Of scores whose errors are hardly known, each by itself; one line."""
    what, more = (
        ("sets of draws", "16 draws or more make 4 sets") if method == "bound" else ("draws", "draw more")
    )
    few = f"each error comes from {sets} {what}, too few to know it"
    return f"{method}: {few}: some are several times too small; {more}"
