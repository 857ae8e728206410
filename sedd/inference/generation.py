"""Draw new proteins: of given or natural lengths, or around given residues."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from sedd.data.alphabet import RESIDUES, SIZE, TOKENS, decode
from sedd.diffusion.infill import Template
from sedd.diffusion.sampler import Progress, sample
from sedd.errors import UsageError
from sedd.inference.batch_size import batch_residues
from sedd.inference.batches import batches
from sedd.inference.frames import Frame
from sedd.inference.load_network import Trained
from sedd.model.cuda_graph import Replayed, is_worth_recording
from sedd.spec.inference import SampleOptions
from sedd.training.seeds import SAMPLING, generator

_WORTH_RECORDING = 8
"""Steps from which recording one, which takes as long as three, pays."""
LINE = 60
"""Residues a line of FASTA."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A drawn protein."""

    name: str
    sequence: str


def draw_samples(
    trained: Trained, wanted: SampleOptions, frames: Sequence[Frame], progress: Progress
) -> list[Sample]:
    """As many proteins as are wanted, or draws of each template; `progress` is told the steps done, over all batches.

    Raises:
        UsageError: longer than the network was trained on.
    """
    if frames:
        drawn = [frame for frame in frames for _ in range(wanted.count)]
        sequences = infill(trained, drawn, wanted, progress)
        return [
            Sample(f"{frame.name}_{n % wanted.count}", s)
            for n, (frame, s) in enumerate(zip(drawn, sequences, strict=True))
        ]
    lengths = draw_lengths(trained, wanted)
    return [Sample(f"sample_{n}", s) for n, s in enumerate(generate(trained, lengths, wanted, progress))]


def fasta_text(trained: Trained, wanted: SampleOptions, samples: Sequence[Sample]) -> str:
    """FASTA whose headers say where each protein comes from."""
    how = f"run={trained.run} step={trained.step} seed={wanted.seed} steps={wanted.steps} {wanted.predictor}"
    return "".join(
        f">{s.name} {how} length={len(s.sequence)}\n{textwrap.fill(s.sequence, LINE)}\n" for s in samples
    )


def draw_lengths(trained: Trained, wanted: SampleOptions) -> list[int]:
    """Lengths drawn from those of the training data, or uniformly from the wanted range."""
    source, count = generator(torch.device("cpu"), wanted.seed, SAMPLING), (wanted.count,)
    if wanted.length_range is None:
        draws = torch.randint(len(trained.length_quantiles), count, generator=source)
        return [int(length) for length in trained.length_quantiles[draws]]
    shortest, longest = wanted.length_range
    return [int(length) for length in torch.randint(shortest, longest + 1, count, generator=source)]


def generate(
    trained: Trained, lengths: Sequence[int], how: SampleOptions, progress: Progress
) -> Iterator[str]:
    """Sequences of the given lengths, in order, batch by batch."""
    parts = list(batches(lengths, batch_residues(trained.device, trained.experiment.model.hidden)))
    for number, (first, stop) in enumerate(parts):
        show = _part_of(progress, number, len(parts))
        yield from _sample(trained, lengths[first:stop], how, number, None, show)


def infill(
    trained: Trained, frames: Sequence[Frame], how: SampleOptions, progress: Progress
) -> Iterator[str]:
    """Each template with its free positions drawn; given residues never change."""
    lengths = [len(frame.tokens) for frame in frames]
    parts = list(batches(lengths, batch_residues(trained.device, trained.experiment.model.hidden)))
    for number, (first, stop) in enumerate(parts):
        given = frames[first:stop]
        template = Template(
            torch.from_numpy(np.concatenate([f.tokens for f in given])).long(),
            torch.from_numpy(np.concatenate([f.free for f in given])),
        )
        show = _part_of(progress, number, len(parts))
        yield from _sample(trained, lengths[first:stop], how, number, template, show)


def _part_of(progress: Progress, number: int, batches: int) -> Progress:
    """The progress of all batches, from that of one."""
    return lambda done, of: progress(number * of + done, batches * of)


def _sample(
    trained: Trained,
    lengths: Sequence[int],
    how: SampleOptions,
    batch: int,
    template: Template | None,
    progress: Progress,
) -> Iterable[str]:
    longest = trained.longest
    if max(lengths) > longest:
        raise UsageError(f"the network was trained on at most {longest} residues; asked for {max(lengths)}")
    device = trained.device
    edges = np.concatenate([[0], np.cumsum(lengths)])
    cu_seqlens = torch.tensor(edges, dtype=torch.int32, device=device)
    tokens = sample(
        trained.log_score(cu_seqlens, max(lengths)),
        lengths,
        graph=trained.objective.graph,
        noise=trained.objective.noise,
        steps=how.steps,
        generator=generator(device, how.seed, SAMPLING, 1, batch),
        predictor=how.predictor,
        temperature=how.temperature,
        top_p=how.top_p,
        allowed=_allowed(trained, how.omit).to(device),
        template=template and Template(template.tokens.to(device), template.free.to(device)),
        cached=trained.objective.graph.settles,
        replay=Replayed if _records(trained) and how.steps >= _WORTH_RECORDING else None,
        progress=progress,
    )
    drawn = tokens.cpu().numpy()
    return [decode(drawn[first:stop]) for first, stop in pairwise(edges)]


def _records(trained: Trained) -> bool:
    """Whether steps are recorded as CUDA graphs: where the card is fast, unless whoever trained it would have none."""
    training = trained.experiment.training
    return (
        is_worth_recording(trained.device)
        and training.cuda_graphs is not False
        and training.kernels != "torch"
    )


def _allowed(trained: Trained, omit: str) -> torch.Tensor:
    """Tokens that occur in the training data, less the omitted; the mask and the specials never do.

    Raises:
        UsageError: none is left.
    """
    residues = torch.tensor([n in RESIDUES and TOKENS[n] not in omit for n in range(SIZE)])
    allowed = residues & (trained.composition > 0)
    if not allowed.any():
        raise UsageError(f"without {omit} no letter of the training data is left to draw")
    return allowed
