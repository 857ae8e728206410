"""Every choice that a spec offers, against the registry that stands beside its classes."""

import dataclasses
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from sedd.complaints import inner_models
from sedd.diffusion.curriculum import CURRICULA, GROWTHS
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.guidance import CHANGES
from sedd.diffusion.noise import NOISES
from sedd.diffusion.objective import Estimator
from sedd.diffusion.parameterization import PARAMETERIZATIONS
from sedd.diffusion.predictor import PREDICTORS
from sedd.diffusion.remask import ORDERS
from sedd.inference.embedding_file import WRITERS
from sedd.inference.export import ExportConfig
from sedd.job.tasks import WORK
from sedd.model.attention import IMPLEMENTATIONS
from sedd.model.block_ops import KERNELS
from sedd.model.label_embedding import LABEL_EMBEDDINGS
from sedd.spec.diffusion import DiffusionSpec
from sedd.spec.tasks import TASKS
from sedd.training.optimizers import OPTIMIZERS
from sedd.training.precision import PRECISIONS
from sedd.training.reduction.ordered import REDUCTIONS
from sedd.training.schedule import SCHEDULES
from sedd.training.sharding.shards import SHARDS
from tests.spec.test_experiment import all_models

REGISTRIES: dict[str, Mapping[str, Any] | Set[str]] = {
    "ConditionsSpec.fields": LABEL_EMBEDDINGS,
    "GuidanceOptions.guide_changes": CHANGES,
    "DiffusionSpec.graph": GRAPHS,
    "DiffusionSpec.noise": NOISES,
    "DiffusionSpec.parameterization": PARAMETERIZATIONS,
    "DiffusionSpec.estimator": set(get_args(Estimator)),
    "DiffusionSpec.curriculum": CURRICULA,
    "SigmaCurriculumSpec.growth": GROWTHS,
    "TrainingSpec.optimizer": OPTIMIZERS,
    "TrainingSpec.reduction": REDUCTIONS,
    "TrainingSpec.schedule": SCHEDULES,
    "TrainingSpec.shard": SHARDS.keys() | {"none"},
    "TrainingSpec.precision": PRECISIONS.keys() | {"auto"},
    "InitSpec.weights": set(
        get_args(ExportConfig.model_fields["weights"].annotation)
    ),  # of a checkpoint, as exports
    "TrainingSpec.attention": IMPLEMENTATIONS.keys() | {"auto"},
    "TrainingSpec.kernels": KERNELS.keys() | {"auto"},
    "SampleOptions.predictor": PREDICTORS,
    "SampleOptions.order": ORDERS,
    "EvaluateSpec.per_sequence": {"csv", "parquet"},  # the ending of the file, by which its writer is chosen
    "EmbedOptions.pooling": {"mean", "none"},  # a mean over the residues, or every residue
    "EmbedSpec.format": {suffix.removeprefix(".") for suffix in WRITERS},
    "ScoreSpec.format": {"csv", "parquet"},  # the same
    "TrackingSpec.wandb": {"online", "offline", "disabled"},  # what wandb itself takes as its mode
}
"""Field → what there is to choose from. A field without a registry would take a name that does nothing."""


def choices() -> Iterator[tuple[str, set[str]]]:
    """Fields of specs that take one of several names, or a section of one of several kinds, with the names."""
    for model in {m for task in TASKS.values() for m in all_models(task)}:
        for name, field in model.model_fields.items():
            owner = next(m for m in reversed(model.__mro__) if name in getattr(m, "__annotations__", {}))
            names = set(literals(field.annotation)) or {
                kind.model_fields["kind"].default
                for kind in inner_models(field.annotation)
                if "kind" in kind.model_fields
            }
            if len(names) > 1:
                yield f"{owner.__name__}.{name}", names


def literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from (word for word in get_args(annotation) if isinstance(word, str))
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from literals(part)


def test_every_choice_has_a_registry():
    assert {field for field, _ in choices()} == set(REGISTRIES)


@pytest.mark.parametrize("field", REGISTRIES)
def test_a_spec_offers_what_there_is(field: str):
    for name, offered in choices():
        if name == field:
            assert offered == set(REGISTRIES[field])


def test_every_task_has_its_work():
    assert set(WORK) == set(TASKS)


@pytest.mark.parametrize("section", ["noise", "curriculum"])
def test_the_fields_of_a_kind_are_its_class_s_arguments_and_their_defaults_stand_in_the_spec(section: str):
    registry = REGISTRIES[f"DiffusionSpec.{section}"]
    assert isinstance(registry, Mapping)
    kinds = list(inner_models(DiffusionSpec.model_fields[section].annotation))
    assert {kind.model_fields["kind"].default for kind in kinds} == set(registry)
    for kind in kinds:
        arguments = dataclasses.fields(registry[kind.model_fields["kind"].default])
        assert {argument.name for argument in arguments} == set(kind.model_fields) - {"kind"}
        assert all(argument.default is dataclasses.MISSING for argument in arguments)


def test_every_kind_of_noise_says_where_it_ends():
    for kind in inner_models(DiffusionSpec.model_fields["noise"].annotation):
        assert isinstance(kind, type(BaseModel))
        assert kind().total_at_end > 0  # type: ignore[attr-defined] # each kind's
