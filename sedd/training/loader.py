"""Load batches to the device ahead of the loop; each is a function of the step alone."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from sedd.conditions.known import known_fields, label_reader
from sedd.data.batches import PackedBatch, longest_first, validation_batches
from sedd.data.mixture import training_batches
from sedd.data.store import TokenStore
from sedd.spec.experiment import Experiment
from sedd.spec.training import TrainingSpec
from sedd.training.distributed import Ranks

AHEAD = 4


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A packed micro-batch on the device."""

    number: int
    """Its place among the micro-batches of the whole run, over all ranks."""
    tokens: torch.Tensor
    """int64 [residues]"""
    cu_seqlens: torch.Tensor
    """int32 [sequences + 1]"""
    max_length: int
    labels: torch.Tensor | None = None
    """float32 [sequences, fields] of a network with conditions; NaN where there is no label."""

    @property
    def sequences(self) -> int:
        return self.cu_seqlens.numel() - 1


def to_device(batch: PackedBatch, number: int, device: torch.device) -> DeviceBatch:
    """Copy a batch to the device, from pinned memory and without waiting on a GPU."""
    tokens, cu_seqlens = torch.from_numpy(batch.tokens), torch.from_numpy(batch.cu_seqlens)
    if device.type == "cuda":
        tokens, cu_seqlens = tokens.pin_memory(), cu_seqlens.pin_memory()
    labels = None
    if batch.labels is not None:
        labels = torch.from_numpy(batch.labels)
        labels = labels.pin_memory() if device.type == "cuda" else labels
        labels = labels.to(device, non_blocking=True)
    return DeviceBatch(
        number,
        tokens.to(device, torch.int64, non_blocking=True),
        cu_seqlens.to(device, torch.int32, non_blocking=True),
        batch.max_length,
        labels,
    )


def micro_batch_numbers(step: int, spec: TrainingSpec, ranks: Ranks) -> range:
    """The micro-batches of this rank in the update that makes step `step` (counted from 1)."""
    first = (step - 1) * spec.micro_batches_per_step
    return range(first + ranks.rank, first + spec.micro_batches_per_step, ranks.size)


def training_feed(
    experiment: Experiment, stores: list[TokenStore], ranks: Ranks, device: torch.device, first_step: int
) -> Generator[list[DeviceBatch], None, None]:
    """This rank's micro-batches of each step from `first_step` to the last."""
    spec = experiment.training
    labels = label_reader(known_fields(experiment.model.conditions, stores))
    batches = training_batches(
        stores,
        experiment.data,
        residues=spec.micro_batch_residues,
        seed=experiment.seed,
        labels=labels,
    )
    return feed(batches.micro_batch, spec, ranks, device, first_step)


def validation_set(
    experiment: Experiment, stores: list[TokenStore], device: torch.device
) -> list[DeviceBatch]:
    """The fixed validation batches of the first store, on the device; with their labels where there are any."""
    spec, store = experiment.training, stores[0]
    batches = validation_batches(
        store,
        residues_total=spec.validation.residues,
        residues_per_batch=max(spec.micro_batch_residues, experiment.data.max_length),
        max_length=experiment.data.max_length,
        labels=label_reader(known_fields(experiment.model.conditions, stores)),
    )
    return [to_device(batch, number, device) for number, batch in enumerate(batches)]


def feed(
    build: Callable[[int], PackedBatch],
    spec: TrainingSpec,
    ranks: Ranks,
    device: torch.device,
    first_step: int,
) -> Generator[list[DeviceBatch], None, None]:
    """This rank's micro-batches of steps `first_step`, `first_step` + 1, … to the last."""
    numbers = (
        n for step in range(first_step, spec.steps + 1) for n in micro_batch_numbers(step, spec, ranks)
    )
    a_step = spec.micro_batches_per_step // ranks.size
    waiting: deque[Future[DeviceBatch]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
        try:
            for _ in range(first_step, spec.steps + 1):
                while len(waiting) < AHEAD + a_step and (number := next(numbers, None)) is not None:
                    waiting.append(
                        pool.submit(lambda n: to_device(longest_first(build(n)), n, device), number)
                    )
                yield [waiting.popleft().result() for _ in range(a_step)]
        finally:
            for future in waiting:
                future.cancel()
