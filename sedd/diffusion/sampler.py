"""Samplers: from the prior back to clean tokens, for sequences of mixed length without padding."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sedd.diffusion.absorbing import Absorbing
from sedd.diffusion.bound import LogScore
from sedd.diffusion.draws import draw_change, uniform
from sedd.diffusion.infill import Start, Template, gibbs, sequence_of
from sedd.diffusion.noise import Noise, time_of
from sedd.diffusion.predictor import PREDICTORS, Predictor
from sedd.diffusion.process import Graph
from sedd.diffusion.remask import ORDERS, by_confidence, chance_to_remask, with_remasking
from sedd.diffusion.sharpen import Sharpening
from sedd.diffusion.times import T_MIN

Progress = Callable[[int, int], None]
"""Called with the number of steps done and the number of steps in all."""
Move = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x_t [tokens], t [], s [], uniforms [tokens]) -> x_s [tokens]."""
Replay = Callable[[Move], Move]
"""Gives a function that computes the same faster, called with tensors of the same shapes each time."""

_RARE = 1 / 16
"""Where it is rarer than this that no token changes in a step, the network is called without asking first."""


@torch.no_grad()
def sample(
    log_score: LogScore,
    lengths: Sequence[int],
    *,
    graph: Graph,
    noise: Noise,
    steps: int,
    generator: torch.Generator,
    device: torch.device | None = None,
    predictor: str = "analytic",
    temperature: float = 1.0,
    top_p: float = 1.0,
    allowed: Bool[Tensor, "n"] | None = None,
    template: Template | None = None,
    start: Start | None = None,
    remask: float = 0.0,
    order: str = "random",
    cached: bool = False,
    replay: Replay | None = None,
    progress: Progress | None = None,
) -> Int[Tensor, "tokens"]:
    """Draw sequences, packed end to end: sum(lengths) clean tokens.

    `log_score` is called with all of them, x [tokens], and sigma_bar [sequences]; it must know the lengths if it needs
    them. With `cached` (absorbing graph) it is spared where no token changes in a step, if that is likely enough to be
    worth the question; the score is then normalised first, as the true one is, and for a normalised score the samples
    are the same with and without. A step is a function of tensors that waits for no GPU: `replay` may record it.

    With `start` all steps lie between its level and none. `remask` (absorbing graph) is how often a token is masked
    again on average, and `order` one of `remask.ORDERS`, by which masks turn into residues.

    Raises:
        ValueError: no steps, no tokens, a template of another size, or what needs masks on another graph.
    """
    _require_possible(lengths, steps, graph, template, cached or remask > 0 or order != "random")
    device = device if device is not None else generator.device
    clean = graph.clean_tokens(device) if allowed is None else graph.clean_tokens(device) & allowed
    chain = _Chain(
        log_score=log_score,
        sequences=len(lengths),
        graph=graph,
        noise=noise,
        generator=generator,
        predictor=PREDICTORS[predictor],
        sharpening=Sharpening(temperature=temperature, top_p=top_p, allowed=clean),
        template=template,
        remask=remask,
        confidence=ORDERS[order],
        sequence=sequence_of(lengths, device),
        cached=cached,
        replay=replay,
    )
    first = 1.0 if start is None else _first_time(noise, start.share)
    times = torch.linspace(first, T_MIN, steps + 1, dtype=torch.float64, device=device)
    x = start.draw(graph, generator) if start else graph.sample_prior((sum(lengths),), generator, device)
    x = chain.walk(x, times, progress)
    if template is None or graph.settles:
        return x
    return gibbs(
        lambda tokens: chain.score(tokens, times[-1]), x, template.free, lengths, chain.sharpening, generator
    )


def _first_time(noise: Noise, share: float) -> float:
    """When so large a share of the tokens is hit."""
    return time_of(noise, -math.log1p(-share) if share < 1 else math.inf, earliest=T_MIN)


def _require_possible(
    lengths: Sequence[int], steps: int, graph: Graph, template: Template | None, needs_masks: bool
) -> None:
    if steps < 1 or sum(lengths) < 1 or min(lengths) < 0:
        raise ValueError(f"sampling needs steps and tokens; steps={steps}, lengths={list(lengths)[:5]}")
    if needs_masks and not graph.settles:
        raise ValueError(
            "only the absorbing graph has cached, remasking and ordered samplers: elsewhere any step may change a token"
        )
    if template is not None and template.tokens.numel() != sum(lengths):
        raise ValueError(f"template has {template.tokens.numel()} tokens, lengths sum to {sum(lengths)}")


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Chain:
    log_score: LogScore
    sequences: int
    graph: Graph
    noise: Noise
    generator: torch.Generator
    predictor: Predictor
    sharpening: Sharpening
    """Of the clean tokens."""
    template: Template | None
    remask: float
    confidence: Callable[[Tensor], Tensor] | None
    sequence: Tensor
    """The number of each token's sequence."""
    cached: bool
    replay: Replay | None

    @property
    def on_the_way(self) -> Sharpening:
        """Of the steps before the last: where tokens change more than once, any of them may be passed through."""
        if self.graph.settles:
            return self.sharpening
        return replace(self.sharpening, allowed=torch.ones_like(self.sharpening.allowed))

    def walk(self, x: Tensor, times: Tensor, progress: Progress | None) -> Tensor:
        """From noise at times[0], step by step, to clean tokens; given ones are put back before each step."""
        move = self.replay(self.move) if self.replay is not None else self.move
        may_rest = self._may_rest(times, x.numel())
        for done, (t, s) in enumerate(pairwise(times), start=1):
            x = self.step(self._with_given(x, t), t, s, move, may_rest[done - 1])
            if progress is not None:
                progress(done, len(times) - 1)
        x = self.denoise(self._with_given(x, times[-1]), times[-1])
        return x if self.template is None else self.template.onto(x)

    def _may_rest(self, times: Tensor, tokens: int) -> list[bool]:
        """For each step, whether it is worth asking if a token changes at all: known before the first one."""
        if not self.cached:
            return [False] * (len(times) - 1)
        free = tokens if self.template is None else int(self.template.free.sum())
        visible = torch.exp(-self.noise.total(times.cpu()))
        changed = free * visible.diff() / (1 - visible[0]) * (1 + 2 * self.remask)
        return [bool(rests) for rests in torch.exp(-changed) > _RARE]

    def _with_given(self, x: Tensor, t: Tensor) -> Tensor:
        """x with the template's given tokens, as noisy as the rest."""
        if self.template is None:
            return x
        return self.template.corrupted_onto(x, self.graph, self.noise.total(t), self.generator)

    def step(self, x: Tensor, t: Tensor, s: Tensor, move: Move, may_rest: bool) -> Tensor:
        """Draw x_s given x_t; with `may_rest` the network is spared if no token changes."""
        u = self._uniforms(x)
        if may_rest and torch.equal(self._moved(self._ignorant_score(x, t), x, t, s, u), x):
            return x
        return move(x, t, s, u)

    def move(self, x: Tensor, t: Tensor, s: Tensor, u: Tensor) -> Tensor:
        """x_s given x_t and uniforms, by the network."""
        return self._moved(self.score(x, t), x, t, s, u)

    def _moved(self, log_score: Tensor, x: Tensor, t: Tensor, s: Tensor, u: Tensor) -> Tensor:
        p_s = self.on_the_way.moves(self.predictor(self.graph, self.noise, log_score, x, t, s), x)
        if self.remask:
            sigma = chance_to_remask(self.remask, self.noise, t, s)
            p_s = with_remasking(p_s, x, self.mask, sigma, self.noise.total(t) - self.noise.total(s))
        if self.confidence is None:
            moved = draw_change(p_s, x, u)
        else:
            p = self.graph.log_conditional(log_score, x, self.noise.total(t)).exp() * self.sharpening.allowed
            confidence = self.confidence(p / p.sum(-1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny))
            moved = by_confidence(p_s, x, u, confidence, self.sequence, self.sequences, self.mask)
        return self.template.onto(moved) if self.remask and self.template is not None else moved

    @property
    def mask(self) -> int:
        """The token that hides a residue, where there is one."""
        assert isinstance(self.graph, Absorbing)
        return self.graph.mask

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """Take off all noise in one analytic step; a token that may not stay is drawn anew."""
        u = self._uniforms(x)
        if self.cached and torch.equal(self._cleaned(self._ignorant_score(x, t), x, t, u), x):
            return x
        return self._cleaned(self.score(x, t), x, t, u)

    def _cleaned(self, log_score: Tensor, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        sigma_bar = self.noise.total(t)
        probabilities = self.graph.posterior(log_score, x, sigma_bar, sigma_bar)
        return draw_change(self.sharpening.moves(probabilities, x) * self.sharpening.allowed, x, u)

    def _uniforms(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape)
        return uniform(shape, 1, self.generator, dtype=torch.float64, device=x.device).squeeze(-1)

    def _ignorant_score(self, x: Tensor, t: Tensor) -> Tensor:
        """A normalised score: all of them change the same tokens at the same uniforms, though into others."""
        scale = self.graph.log_score_scale(self.noise.total(t).expand(x.shape))
        return scale.unsqueeze(-1).expand(*x.shape, self.graph.n)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's log score in float64."""
        sigma_bar = self.noise.total(t)
        log_score = self.log_score(x, sigma_bar.expand(self.sequences)).double()
        return self.graph.log_score_of_mean(log_score, x, sigma_bar) if self.cached else log_score
