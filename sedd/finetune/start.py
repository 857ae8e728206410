"""Make a network ready to be fine-tuned: adapters, what is frozen, the parent's weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sedd.errors import CheckpointError, SpecError, cannot_read
from sedd.finetune.fitting import CONDITIONS, FREEZE_HINT, freezing_problem, is_trained, rate_scale
from sedd.finetune.lora import add_adapters, plain_weights, trained_weights
from sedd.finetune.parent import WEIGHTS, Parent, sha256_of
from sedd.model.transformer import Transformer
from sedd.spec.experiment import Experiment
from sedd.spec.finetune import InitSpec

ReadCheckpoint = Callable[[Path], Mapping[str, Any]]


def prepare(model: Transformer, experiment: Experiment) -> None:
    """Add adapters, freeze what does not learn, and note on each parameter its `rate_scale`. In place.

    Raises:
        SpecError: `training.freeze` matches nothing, or leaves nothing.
    """
    training = experiment.training
    if problem := freezing_problem(experiment):
        raise SpecError(problem, hint=FREEZE_HINT)
    if training.lora:
        add_adapters(model, training.lora)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name, training))
        if training.layer_decay != 1:
            parameter.rate_scale = rate_scale(name, experiment)  # type: ignore[attr-defined] # ours, for optimisers


@torch.no_grad()
def load_parent(
    model: Transformer,
    parent: Parent,
    init: InitSpec,
    *,
    read: ReadCheckpoint,
    copy: Callable[[nn.Parameter, Tensor], object] = nn.Parameter.copy_,
) -> Mapping[str, Any]:
    """Copy a parent's weights into a model, its adapters merged; returns what else its checkpoint holds.

    `read` reads a checkpoint; `copy` gives a parameter its values, where the model has not all of it.

    Raises:
        CheckpointError: damaged, or not of this network.
    """
    saved: Mapping[str, Any] = {} if parent.is_export else read(parent.path)
    weights = _export_weights(parent) if parent.is_export else _checkpoint_weights(saved, parent, init)
    own = {name: each for name, each in model.named_parameters() if ".lora_" not in name}
    if not any(name.startswith(CONDITIONS) for name in weights):
        own = {name: each for name, each in own.items() if not name.startswith(CONDITIONS)}
    if odd := sorted(set(own) ^ set(weights)):
        raise CheckpointError(f"{parent.path}: {odd[0]} is not in both its network and this spec's")
    for name, parameter in own.items():
        if parameter.shape != weights[name].shape:
            raise CheckpointError(
                f"{parent.path}: {name} is {list(weights[name].shape)}, this spec's {list(parameter.shape)}"
            )
        if not bool(weights[name].isfinite().all()):
            raise CheckpointError(f"{parent.path}: {name} has numbers that are not finite")
        copy(parameter, weights[name])
    return saved


def _checkpoint_weights(saved: Mapping[str, Any], parent: Parent, init: InitSpec) -> dict[str, Tensor]:
    return plain_weights(trained_weights(saved, raw=init.weights == "raw"), parent.experiment.training.lora)


def _export_weights(parent: Parent) -> dict[str, Tensor]:
    path = parent.path / WEIGHTS
    try:
        if sha256_of(path) != parent.sha256:
            raise CheckpointError(f"{path} is damaged: its checksum is not that of config.json")
        return safetensors.torch.load_file(path)
    except OSError as e:
        raise cannot_read(path, e) from e
    except safetensors.SafetensorError as e:
        raise CheckpointError(f"{path} is damaged: {e}") from e
