"""Turn the network's raw output [tokens, n] into a log score, by `score` or `subs`."""

from collections.abc import Callable

from torch import Tensor

from sedd.diffusion.process import Graph, Levels, Rows, Tokens


def log_score_from_score(raw: Rows, x: Tokens, sigma_bar: Levels, graph: Graph) -> Rows:
    """`score` (SEDD): raw output plus the graph's scale is the log score; the current token's own is 0.

    With the scale, a raw output of 0 is a sensible guess at every noise level: on the absorbing graph that each
    residue is equally likely, on the uniform graph that every ratio is 1.
    """
    scale = graph.log_score_scale(sigma_bar.expand(x.shape))
    return (raw + scale.unsqueeze(-1)).scatter(-1, x.long().unsqueeze(-1), 0.0)


def log_score_from_mean(raw: Rows, x: Tokens, sigma_bar: Levels, graph: Graph) -> Rows:
    """`subs`: softmax(raw) is the clean token's distribution given the rest (MDLM, arXiv 2406.07524)."""
    return graph.log_score_of_mean(raw, x, sigma_bar)


Parameterization = Callable[[Tensor, Tensor, Tensor, Graph], Tensor]
"""(raw output, x, sigma_bar per token, graph) -> log score."""

PARAMETERIZATIONS: dict[str, Parameterization] = {"score": log_score_from_score, "subs": log_score_from_mean}
