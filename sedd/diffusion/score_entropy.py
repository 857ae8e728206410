"""The score entropy loss (Lou et al. 2024, arXiv 2310.16834, definition 3.1 and theorem 3.4)."""

from jaxtyping import Float, Int
from torch import Tensor

from sedd.diffusion.process import Graph


def score_entropy(
    log_score: Float[Tensor, "*batch n"],
    x_t: Int[Tensor, "*batch"],
    x_0: Int[Tensor, "*batch"],
    sigma_bar: Float[Tensor, "*#batch"],
    graph: Graph,
) -> Float[Tensor, "*batch"]:
    """Denoising score entropy per token, in nats per unit of sigma_bar; zero where the score is the ratio r.

    Multiplied by d sigma_bar / dt and integrated over t it bounds the negative log-likelihood.
    """
    # In double: at small sigma_bar ratios of a million meet scores that differ from them in the sixth digit.
    nats = graph.score_entropy(log_score.double(), x_t, x_0, sigma_bar.double())
    return nats.to(log_score.dtype)
