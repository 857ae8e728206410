"""Draw a curve in one line of text."""

import itertools
import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int) -> str:
    """At most `width` blocks, oldest first, each the mean of its share of `values`; lowest value, lowest block.

    Values that are no finite number are left out. Empty for fewer than two values.
    """
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2 or width < 1:
        return ""
    means = bin_means(finite, bins=min(width, len(finite)))
    low, high = min(means), max(means)
    span = high - low if 0 < high - low < math.inf else math.inf
    # Divided first: of tiny spans the inverse is infinite.
    return "".join(BLOCKS[round((mean - low) / span * (len(BLOCKS) - 1))] for mean in means)


def bin_means(values: Sequence[float], *, bins: int) -> list[float]:
    """The means of `bins` equal shares of at least as many values, in order."""
    edges = [len(values) * k // bins for k in range(bins + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
