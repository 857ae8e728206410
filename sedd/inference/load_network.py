"""Load a trained network from a checkpoint or an export, ready to evaluate and sample."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sedd.conditions.asked import WITHOUT, Asked, ask
from sedd.conditions.known import KnownField, beyond_training, parse_known
from sedd.data.files import file_checksum
from sedd.diffusion.bound import LogScore
from sedd.diffusion.conditional import hiding_tokens
from sedd.diffusion.guidance import guided
from sedd.diffusion.objective import Network, Objective
from sedd.errors import CheckpointError
from sedd.finetune.adapters_file import read_adapters
from sedd.finetune.adapters_folder import CONFIG as ADAPTERS
from sedd.finetune.adapters_folder import is_adapters
from sedd.finetune.lora import plain_weights, trained_weights
from sedd.inference.batch_size import batch_residues
from sedd.inference.conditionals import Denoiser
from sedd.inference.export import KEPT, read_export
from sedd.inference.find_network import CONFIG, find_network, no_checkpoint, untrained_text
from sedd.inference.weights import fitting_network, require_finite
from sedd.model.transformer import Transformer
from sedd.rundir.layout import RunDir
from sedd.spec.conditions import GuidanceOptions
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint_file import newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.network import build_objective
from sedd.training.precision import PRECISIONS, Precision, capability_of, choose_precision
from sedd.yaml import parse_document, validate


@dataclass(frozen=True, slots=True)
class Trained:
    """A network and all that its checkpoint says about it."""

    experiment: Experiment
    model: Transformer
    objective: Objective
    precision: Precision
    run: str
    """`name/id` of its run."""
    step: int
    length_quantiles: Tensor
    """int64 [1001]: lengths in the training data at 0, 0.1, …, 100 %."""
    composition: Tensor
    """int64 [33]: how often each token occurs in the training data."""
    conditions: tuple[KnownField, ...] = ()
    """The labels that it can be told."""
    asked: Asked = WITHOUT
    """Under which condition it is asked, and how strongly."""
    version: str = ""
    """Of an export or adapters, which may be written anew: tells weights of one run and step apart."""
    fixed_batch: int | None = None
    """Residues that go through the network at once; None: as many as fill the device."""

    def under(
        self,
        condition: Mapping[str, str | int | float],
        guidance: GuidanceOptions | None = None,
        *,
        notify: Callable[[str], None],
    ) -> "Trained":
        """This network under a condition, for whatever it is asked then; with `guidance` for its log score.

        Both take the place of what it is asked under already; without `guidance` that stays. `notify` hears of numbers
        that its training data does not reach.

        Raises:
            UsageError: a label that it does not know, or a guide that cannot be loaded.
        """
        kept = self.asked
        guidance = kept.guidance if guidance is None else guidance
        if (dict(condition), guidance) == (kept.condition, kept.guidance):
            return self
        asked = ask(self.conditions, condition, guidance, self.device)
        for remark in (
            beyond_training(self.conditions, condition) if dict(condition) != kept.condition else ()
        ):
            notify(remark)
        return dataclasses.replace(self, asked=asked)

    def log_score(self, cu_seqlens: Tensor, max_length: int) -> LogScore:
        """The log score for sequences packed as `cu_seqlens`: (x [tokens], sigma_bar [sequences]) → [tokens, 33].

        Under a condition it is guided, with the weight that was asked for.
        """
        score = self.objective.log_score(self.network(cu_seqlens, max_length), cu_seqlens)
        if self.asked.labels is not None:
            bare = dataclasses.replace(self, asked=WITHOUT)
            score = guided(score, bare.log_score(cu_seqlens, max_length), self.asked.weight)
        return self.asked.steered(score, cu_seqlens, self.objective.graph.n)

    def network(self, cu_seqlens: Tensor, max_length: int) -> Network:
        """The raw output for sequences packed as `cu_seqlens`: (x [tokens], sigma_bar [sequences]) → [tokens, 33]."""
        labels = self.asked.labels
        told = {} if labels is None else {"labels": labels.expand(cu_seqlens.numel() - 1, len(labels))}

        def network(x: Tensor, sigma_bar: Tensor) -> Tensor:
            with torch.no_grad(), self.precision.autocast(x.device):
                raw: Tensor = self.model(x, cu_seqlens, sigma_bar.float(), max_length=max_length, **told)
            return raw.float()

        return network

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def longest(self) -> int:
        """Residues of the longest sequence that the network was trained on."""
        return self.experiment.data.max_length

    @property
    def batch_residues(self) -> int:
        """Residues that go through the network at once."""
        if self.fixed_batch is not None:
            return self.fixed_batch
        return batch_residues(self.device, self.experiment.model.hidden)

    def denoiser(self) -> Denoiser:
        """What reading conditional distributions takes of this network: those under its condition, unguided."""
        plain = dataclasses.replace(self, asked=self.asked.unguided)
        return Denoiser(
            graph=self.objective.graph,
            noise=self.objective.noise,
            hiding=hiding_tokens(self.objective.graph, self.composition > 0),
            device=self.device,
            log_score=plain.log_score,
            log_score_as_if_hidden=lambda cu_seqlens, max_length: self.objective.log_score_as_if_hidden(
                self.network(cu_seqlens, max_length), cu_seqlens
            ),
        )


def find_trained(text: str, runs: Path, *, notify: Callable[[str], None]) -> Path:
    """A checkpoint file or an exported folder as named, or a run's newest whole checkpoint.

    `notify` hears of a newer one that is damaged: the result is not what the run ended with. So it does of a network
    of step 0, and of an older run of that name that is completed; of a sweep, which is its best run.

    Raises:
        UsageError: no such run or file, a spec, a plan, or a sweep whose best run is not known.
        CheckpointError: the run has no whole checkpoint yet.
    """
    found = find_network(text, runs, notify=notify)
    path = found if isinstance(found, Path) else newest_whole(found.checkpoints, notify=notify)
    if path is None:
        assert isinstance(found, RunDir)
        raise no_checkpoint(found)
    if untrained := untrained_text(path):
        notify(untrained)
    return path


def load_trained(path: Path, device: torch.device | None = None) -> Trained:
    """Read a checkpoint's EMA weights, or an export's weights, onto a device; without one onto this process's best.

    Precision is the spec's, where the device has it: what was trained in fp16 or bf16 runs in fp32 on a CPU.

    Raises:
        CheckpointError: not a checkpoint, damaged, not of the shape that its spec says, or with weights that are
            not finite.
    """
    device = device if device is not None else Ranks().device()
    said, experiment, weights = _read(path)
    # Fused where they work, unless whoever trained it would rather have none.
    kernels = "torch" if experiment.training.kernels == "torch" else None
    model = fitting_network(weights, experiment.model, str(path), kernels=kernels)
    require_finite(weights, str(path))
    capability = capability_of(device)
    asked = experiment.training.precision
    return Trained(
        experiment=experiment,
        model=model.to(device).eval().requires_grad_(False),
        objective=build_objective(experiment.diffusion),
        precision=PRECISIONS["fp32"] if capability is None else choose_precision(asked, capability),
        run=str(said["run"]),
        step=int(said["step"]),
        length_quantiles=torch.tensor(said["length_quantiles"]),
        composition=torch.tensor(said["composition"]),
        conditions=parse_known(said.get("conditions") or (), str(path)),
        version=_version(path),
    )


def _version(path: Path) -> str:
    """The checksum of what a folder says of itself, that of its weights included; a checkpoint is one for good."""
    if not path.is_dir():
        return ""
    return file_checksum(path / (ADAPTERS if is_adapters(path) else CONFIG))


def _read(path: Path) -> tuple[dict[str, Any], Experiment, dict[str, Tensor]]:
    """What an export or a checkpoint says of its network, the experiment, and the weights to use."""
    if is_adapters(path):
        return read_adapters(path, _plain_weights)
    if path.is_dir():
        config, weights = read_export(path)
        return config.model_dump(), config.spec, weights
    saved = read_checkpoint(path)
    try:
        experiment = validate(Experiment, parse_document(saved["spec"], name=str(path)))
        kept = {name: saved[name] for name in KEPT} | {"conditions": saved.get("conditions")}
        weights = plain_weights(trained_weights(saved, raw=False), experiment.training.lora)
        return kept, experiment, weights
    except (KeyError, TypeError) as e:
        raise CheckpointError(f"{path} is not the checkpoint of a training: {e}") from e


def _plain_weights(path: Path, raw: bool) -> Mapping[str, Tensor]:
    """The weights of a checkpoint or an export that adapters were trained on. Raises: CheckpointError."""
    if path.is_dir():
        return read_export(path)[1]
    saved = read_checkpoint(path)
    experiment = validate(Experiment, parse_document(saved["spec"], name=str(path)))
    return plain_weights(trained_weights(saved, raw=raw), experiment.training.lora)
