"""One reverse step t -> s: the distribution of x_s given x_t and the score at t."""

from collections.abc import Callable

from torch import Tensor

from sedd.diffusion.noise import Noise
from sedd.diffusion.process import Graph, Levels, Rows, Tokens


def analytic(graph: Graph, noise: Noise, log_score: Rows, x: Tokens, t: Levels, s: Levels) -> Rows:
    """Tweedie's formula (Lou et al. 2024, section 4.2): exact for one token at any step width."""
    sigma_bar = noise.total(t)
    return graph.posterior(log_score, x, sigma_bar, sigma_bar - noise.total(s))


def euler(graph: Graph, noise: Noise, log_score: Rows, x: Tokens, t: Levels, s: Levels) -> Rows:
    """First order in t - s: each change comes at its reverse rate."""
    moves = graph.reverse_rates(log_score, x) * ((t - s) * noise.rate(t)).expand(x.shape).unsqueeze(-1)
    stay = (1 - moves.sum(-1, keepdim=True)).clamp_min(0.0)
    probabilities = moves.scatter(-1, x.long().unsqueeze(-1), stay)
    return probabilities / probabilities.sum(-1, keepdim=True)


Predictor = Callable[[Graph, Noise, Tensor, Tensor, Tensor, Tensor], Tensor]
PREDICTORS: dict[str, Predictor] = {"analytic": analytic, "euler": euler}
