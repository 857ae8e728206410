"""Worlds small enough to write down: every state, every probability, from the definitions by matrix exponentials."""

import dataclasses
import itertools

import scipy.linalg
import torch

from sedd.diffusion.graph import GRAPHS
from sedd.spec.diffusion import DiffusionSpec
from sedd.training.network import build_objective

SIGMAS = (1e-6, 1e-3, 0.1, 1.0, 5.0, 20.0)


def small_graph(name, n=4):
    """The named graph on n tokens; a mask, where there is one, is the last of them."""
    fields = {f.name for f in dataclasses.fields(GRAPHS[name])}
    return GRAPHS[name](n=n, **({"mask": n - 1} if "mask" in fields else {}))


def noise_named(name):
    """The schedule with the spec's defaults."""
    return build_objective(DiffusionSpec.model_validate({"noise": {"kind": name}})).noise


def curriculum_named(name, **given):
    """The curriculum with the spec's defaults for what is not given."""
    return build_objective(DiffusionSpec.model_validate({"curriculum": {"kind": name, **given}})).curriculum


def expm(graph, sigma_bar):
    """P = expm(sigma_bar Q), rows are origins."""
    return torch.from_numpy(scipy.linalg.expm(float(sigma_bar) * graph.rates().numpy()))


class World:
    """A joint distribution of `length` tokens and its exact diffusion."""

    def __init__(self, graph, length, seed=0, concentration=0.7):
        self.graph, self.length, self.n = graph, length, graph.n
        generator = torch.Generator().manual_seed(seed)
        clean = graph.clean_tokens(torch.device("cpu"))
        weights = (
            torch.rand((self.n,) * length, dtype=torch.float64, generator=generator) ** (1 / concentration)
            + 0.02
        )
        for axis in range(length):
            weights = weights * clean.view([-1 if a == axis else 1 for a in range(length)])
        self.p_0 = weights / weights.sum()
        self.states = torch.tensor(list(itertools.product(range(self.n), repeat=length)))

    def marginal(self, sigma_bar):
        """p_t as a tensor with one axis a token."""
        p, transition = self.p_0, expm(self.graph, sigma_bar)
        for axis in range(self.length):
            p = torch.tensordot(p, transition, dims=([axis], [0])).movedim(-1, axis)
        return p

    def log_score_table(self, sigma_bar):
        """ln p_t(x with y at i) / p_t(x) as [state, i, y]; 0 where x has no probability."""
        p = self.marginal(sigma_bar)
        rows = []
        for axis in range(self.length):
            changed = p.movedim(axis, -1).unsqueeze(axis).expand(*p.shape, self.n).reshape(-1, self.n)
            rows.append(changed)
        ratio = torch.stack(rows, 1) / p.reshape(-1, 1, 1)
        return torch.where(p.reshape(-1, 1, 1) > 0, ratio, 1.0).log()

    def index(self, x):
        """Number of the state x [..., length]."""
        base = self.n ** torch.arange(self.length - 1, -1, -1)
        return (x * base).sum(-1)

    def log_score(self, distort=0.0):
        """The exact score of packed sequences of this length, all at one noise level; `distort` makes it wrong."""
        generator = torch.Generator().manual_seed(9)
        error = distort * torch.randn(
            len(self.states), self.length, self.n, dtype=torch.float64, generator=generator
        )
        changes = torch.stack([self.index(self._changed(axis)) for axis in range(self.length)], 1)

        def log_score(x, sigma_bar):
            transition = torch.linalg.matrix_exp(sigma_bar.double()[:, None, None] * self.graph.rates())
            p = self.p_0.expand(len(sigma_bar), *self.p_0.shape)
            for axis in range(1, self.length + 1):
                p = torch.einsum("s...a,sab->s...b", p.movedim(axis, -1), transition).movedim(-1, axis)
            p = p.reshape(len(sigma_bar), -1)
            row = self.index(x.view(-1, self.length))
            own = p.gather(1, row[:, None])
            ratio = p.gather(1, changes[row].flatten(1)) / own
            log_ratio = torch.where(own > 0, ratio, 1.0).log().view(-1, self.length, self.n) + error[row]
            return log_ratio.view(-1, self.n)

        return log_score

    def _changed(self, axis):
        """Every state with each token at `axis`: [state, y, length]."""
        states = self.states[:, None].repeat(1, self.n, 1)
        states[:, :, axis] = torch.arange(self.n)
        return states

    def law(self, kernel, start):
        """One step of all tokens at once: kernel [state, i, y] applied to a distribution over states."""
        joint = start.clone()[:, None]
        for axis in range(self.length):
            joint = (joint[:, :, None] * kernel[:, axis][:, None, :]).reshape(len(self.states), -1)
        return joint.sum(0)

    def prior(self):
        """The distribution over states that the sampler starts from."""
        limit = expm(self.graph, 200.0)[0]
        p = torch.ones(1, dtype=torch.float64)
        for _ in range(self.length):
            p = (p[:, None] * limit).reshape(-1)
        return p


def chi_square_p(observed, expected):
    """p-value of counts against probabilities; rare cells are pooled."""
    import scipy.stats

    total = observed.sum()
    expected = expected * total
    rare = expected < 5
    assert observed[expected == 0].sum() == 0
    o = torch.cat([observed[~rare], observed[rare].sum()[None]]).double()
    e = torch.cat([expected[~rare], expected[rare].sum()[None]])
    keep = e > 1e-9
    if keep.sum() < 2:
        return 1.0
    o, e = o[keep], e[keep]
    return scipy.stats.chisquare(o.numpy(), (e * (o.sum() / e.sum())).numpy()).pvalue
