"""Draw new proteins: of given or natural lengths, or around given residues."""

import contextlib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sedd.data.alphabet import RESIDUES, SIZE, TOKENS, decode
from sedd.design.given import Given, require_length
from sedd.design.redesigns import Redesign, columns
from sedd.design.templates import Frame
from sedd.diffusion.infill import Start, Template
from sedd.diffusion.sampler import Progress, sample
from sedd.errors import UsageError
from sedd.inference.keep import Arrays, Keep, at_once
from sedd.inference.load_network import Trained
from sedd.inference.pack import batches
from sedd.inference.redesign import NEW, Begin, redesign
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
    redesign: Redesign | None = None
    """What it is beside its parent, if it has one."""


def draw_samples(
    trained: Trained,
    wanted: SampleOptions,
    given: Given,
    progress: Progress,
    notify: Callable[[str], None],
    keep: Keep = at_once,
) -> list[Sample]:
    """As many proteins as are wanted, or draws of each template, or redesigns of each parent.

    `progress` is told the steps done, over all batches, and `notify` where there are fewer redesigns than are wanted.

    Raises:
        UsageError: longer than the network was trained on, or what the network's graph cannot do.
    """
    _require_masks(trained, wanted)
    require_length(wanted, given, trained.longest)
    if given.parents:
        assert wanted.redesign is not None
        complete = partial(infill, trained, how=wanted, progress=progress, keep=keep)
        found = redesign(trained, given.parents, wanted.redesign, wanted, complete, progress, notify)
        return [Sample(one.name, sequence, one) for one, sequence in found]
    if given.templates:
        frames = [
            template.frame(wanted.seed, number, draw)
            for number, template in enumerate(given.templates)
            for draw in range(wanted.count)
        ]
        sequences = infill(trained, frames, how=wanted, progress=progress, keep=keep)
        return [
            Sample(f"{frame.name}_{n % wanted.count}", s)
            for n, (frame, s) in enumerate(zip(frames, sequences, strict=True))
        ]
    lengths = draw_lengths(trained, wanted)
    sequences = generate(trained, lengths, wanted, progress, keep)
    return [Sample(f"sample_{n}", s) for n, s in enumerate(sequences)]


def _require_masks(trained: Trained, wanted: SampleOptions) -> None:
    """Refuse what only masks make possible. Raises: UsageError."""
    if trained.objective.graph.settles:
        return
    asked = {"remask": wanted.remask > 0, "order": wanted.order != "random"}
    if name := next((name for name, is_asked in asked.items() if is_asked), None):
        why = "every step may change every residue again" if name == "remask" else "no residue is hidden"
        raise UsageError(f"{name} needs the absorbing graph; on this network's, uniform, {why}")


def fasta_text(trained: Trained, wanted: SampleOptions, samples: Sequence[Sample]) -> str:
    """FASTA whose headers say where each protein comes from."""
    how = f"run={trained.run} step={trained.step} seed={wanted.seed} steps={wanted.steps}"
    how += f" predictor={wanted.predictor} omit={wanted.omit or '-'}"
    how += f" temperature={wanted.temperature:g}" if wanted.temperature != 1 else ""
    how += f" top_p={wanted.top_p:g}" if wanted.top_p != 1 else ""
    how += f" remask={wanted.remask:g}" if wanted.remask else ""
    how += f" order={wanted.order}" if wanted.order != "random" else ""
    how += f" {trained.asked.text}" if trained.asked.text else ""
    return "".join(
        f">{s.name} {how} length={len(s.sequence)}{_beside_parent(s)}\n{textwrap.fill(s.sequence, LINE)}\n"
        for s in samples
    )


def _beside_parent(sample: Sample) -> str:
    found = sample.redesign
    if found is None:
        return ""
    return f" mutations={found.mutations} identity={found.identity:.4f} score={found.score:.3f}"


def redesign_columns(samples: Sequence[Sample]) -> Mapping[str, Sequence[Any]]:
    """A table of those samples that are redesigns."""
    redesigns = [(s.redesign, s.sequence) for s in samples if s.redesign is not None]
    return columns([one for one, _ in redesigns], [sequence for _, sequence in redesigns])


def draw_lengths(trained: Trained, wanted: SampleOptions) -> list[int]:
    """Lengths drawn from those of the training data, or uniformly from the wanted range."""
    source, count = generator(torch.device("cpu"), wanted.seed, SAMPLING), (wanted.count,)
    if wanted.length_range is None:
        draws = torch.randint(len(trained.length_quantiles), count, generator=source)
        return [int(length) for length in trained.length_quantiles[draws]]
    shortest, longest = wanted.length_range
    return [int(length) for length in torch.randint(shortest, longest + 1, count, generator=source)]


def generate(
    trained: Trained, lengths: Sequence[int], how: SampleOptions, progress: Progress, keep: Keep = at_once
) -> Iterator[str]:
    """Sequences of the given lengths, in order, batch by batch."""
    parts = list(batches(lengths, trained.batch_residues))

    def compute(number: int) -> Arrays:
        first, stop = parts[number]
        show = _part_of(progress, number, len(parts))
        show(0, how.steps)
        return _arrays_of(_sample(trained, lengths[first:stop], how, number, None, show))

    for drawn in keep("samples", len(parts), compute):
        yield from _sequences_of(drawn)


def infill(
    trained: Trained,
    frames: Sequence[Frame],
    begin: Begin = NEW,
    *,
    how: SampleOptions,
    progress: Progress,
    keep: Keep = at_once,
) -> Iterator[str]:
    """Each template with its free positions drawn; given residues never change, if they are held."""
    lengths = [len(frame.tokens) for frame in frames]
    parts = list(batches(lengths, trained.batch_residues))

    def compute(number: int) -> Arrays:
        first, stop = parts[number]
        given = frames[first:stop]
        template = Template(
            torch.from_numpy(np.concatenate([f.tokens for f in given])).long(),
            torch.from_numpy(np.concatenate([f.free for f in given])),
        )
        show = _part_of(progress, number, len(parts))
        show(0, how.steps)
        return _arrays_of(_sample(trained, lengths[first:stop], how, number, template, show, begin))

    name = "-".join(("samples", *map(str, begin.counters)))
    for drawn in keep(name, len(parts), compute):
        yield from _sequences_of(drawn)


def _arrays_of(sequences: Iterable[str]) -> Arrays:
    return {"sequences": np.array(list(sequences), dtype=np.str_)}


def _sequences_of(drawn: Arrays) -> list[str]:
    return [str(sequence) for sequence in drawn["sequences"]]


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
    begin: Begin = NEW,
) -> Iterable[str]:
    device = trained.device
    edges = np.concatenate([[0], np.cumsum(lengths)])
    cu_seqlens = torch.tensor(edges, dtype=torch.int32, device=device)
    given = template and Template(template.tokens.to(device), template.free.to(device))
    start = Start(given.tokens, given.free, begin.share) if given is not None and begin.share < 1 else None
    with _current(device):
        tokens = sample(
            trained.log_score(cu_seqlens, max(lengths)),
            lengths,
            graph=trained.objective.graph,
            noise=trained.objective.noise,
            steps=how.steps,
            generator=generator(device, how.seed, SAMPLING, *begin.counters, batch),
            predictor=how.predictor,
            temperature=how.temperature,
            top_p=how.top_p,
            allowed=_allowed(trained, how.omit).to(device),
            template=given if begin.is_held else None,
            start=start,
            remask=how.remask,
            order=how.order,
            cached=trained.objective.graph.settles,
            replay=Replayed if _records(trained) and how.steps >= _WORTH_RECORDING else None,
            progress=progress,
        )
    drawn = tokens.cpu().numpy()
    return [decode(drawn[first:stop]) for first, stop in pairwise(edges)]


def _current(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The device as the thread's current one: a CUDA graph that is recorded while another card is holds nothing."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _records(trained: Trained) -> bool:
    """Whether steps are recorded as CUDA graphs: where the card is fast, unless the spec of its training forbids it."""
    training = trained.experiment.training
    return (
        is_worth_recording(trained.device)
        and trained.asked.classifier is None  # nobody knows what a guide does
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
