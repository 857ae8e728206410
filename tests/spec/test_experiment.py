"""The experiment as a whole: its identity, its fields, its schema."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from sedd.complaints import inner_models
from sedd.spec.data import DataSpec
from sedd.spec.experiment import Experiment
from sedd.spec.load import FILES
from sedd.yaml import described_fields

LEAST: dict[str, Any] = {"name": "a", "data": {"store": "/s"}, "training": {"steps": 10}}

CHANGES: dict[str, Any] = {
    "name": "b",
    "seed": 1,
    "data.store": "/t",
    "data.max_length": 100,
    "data.stage": "/local",
    "training.cuda_graphs": True,
    "model.hidden": 1024,
    "model.cond": 8,
    "model.blocks": 2,
    "model.heads": 4,
    "model.dropout": 0.2,
    "model.token_shift": 4,
    "diffusion.graph": "uniform",
    "diffusion.noise": {"kind": "geometric"},
    "diffusion.noise.epsilon": 0.5,
    "diffusion.parameterization": "subs",
    "diffusion.estimator": "counts",
    "diffusion.time_power": 2.0,
    "diffusion.curriculum": {"kind": "sigma_scale", "preschool_steps": 1},
    "training.steps": 11,
    "training.residues_per_step": 65536,
    "training.residues_per_gpu": 65536,
    "training.optimizer": "muon",
    "training.learning_rate": 1.0,
    "training.warmup_steps": 1,
    "training.schedule": "constant",
    "training.reduction": "ordered",
    "training.rewarm": [{"from_step": 5, "steps": 2}],
    "training.freeze": ["embedding.*"],
    "training.layer_decay": 0.5,
    "training.weight_decay": 0.5,
    "training.beta1": 0.5,
    "training.beta2": 0.5,
    "training.clip_norm": 0.5,
    "training.ema_decay": 0.5,
    "training.precision": "fp32",
    "training.attention": "efficient",
    "training.kernels": "torch",
    "training.compile": True,
    "training.activation_checkpointing": True,
    "training.shard": "optimizer",
    "training.max_bad_steps": 1,
    "training.log_every_steps": 1,
    "training.validation.every_steps": 1,
    "training.validation.residues": 1,
    "training.checkpoint.every_steps": 1,
    "training.checkpoint.overhead": 0.1,
    "training.checkpoint.keep": 1,
    "training.checkpoint.local_every": "9s",
    "training.checkpoint.keep_every_steps": 1,
    "resources.nodes": 2,
    "resources.spare_nodes": 1,
    "resources.gpus": "1-4",
    "resources.gpus_per_node": 2,
    "resources.processes_per_node": 2,
    "resources.cpus_per_process": 2,
    "resources.memory": "1GiB",
    "resources.walltime": "1h",
    "resources.walltimes": "1h-24h",
    "resources.repick": True,
    "retry.crashes": 2,
    "retry.node_faults": 2,
    "retry.without_progress": 2,
    "retry.hang_after": None,
    "retry.standby": False,
    "retry.exclude_slow": True,
    "tracking.wandb": "online",
    "tracking.files": ["tensorboard"],
    "tracking.project": "p",
    "tracking.entity": "e",
    "tracking.tags": ["t"],
}
"""Each field of an experiment, and a value that is not its default."""


NEEDS: dict[str, dict[str, Any]] = {
    "training.rewarm": {"warmup_steps": 1},
    "training.freeze": {"init": "/runs/parent"},
    "resources.spare_nodes": {"nodes": 2},
    "resources.repick": {"gpus": "1-4"},
}
"""Fields of the same section without which another one makes no sense."""


def least(dotted: str) -> Experiment:
    section = dotted.partition(".")[0]
    return Experiment.model_validate(
        LEAST | ({section: LEAST.get(section, {}) | NEEDS[dotted]} if dotted in NEEDS else {})
    )


def changed(dotted: str, value: Any) -> Experiment:
    data: dict[str, Any] = least(dotted).model_dump(mode="json")
    section = data
    *path, last = dotted.split(".")
    for part in path:
        section = section[part]
    section[last] = value
    return Experiment.model_validate(data)


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields that hold no section; for a union of kinds, the union and its default's fields."""
    for name, field in model.model_fields.items():
        if name == "task":  # chooses the model itself
            continue
        inner = list(inner_models(field.annotation))
        if len(inner) != 1 or field.default == ():
            yield prefix + name
        if inner and field.default not in (None, ()):
            yield from (f for f in leaves(inner[0], f"{prefix}{name}.") if not f.endswith(".kind"))


def test_the_table_of_changes_is_complete():
    assert set(CHANGES) == set(leaves(Experiment))


@pytest.mark.parametrize("dotted", CHANGES)
def test_the_hash_changes_with_each_field(dotted: str):
    assert changed(dotted, CHANGES[dotted]).hash() != least(dotted).hash()


def test_the_hash_is_the_same_for_the_same_experiment_however_written():
    reordered = dict(reversed(LEAST.items())) | {
        "seed": 0,
        "resources": {"walltime": "1d", "memory": "32768MiB"},
    }
    assert Experiment.model_validate(reordered).hash() == Experiment.model_validate(LEAST).hash()


def test_an_experiment_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Experiment.model_validate(LEAST).seed = 3  # type: ignore[misc] # the point of the test


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"shard": "full", "reduction": "ordered"}, "ordered"),
        ({"shard": "full", "compile": True}, "compile"),
        ({"shard": "full", "cuda_graphs": True}, "cuda_graphs"),
        ({"kernels": "fused", "compile": True}, "compile"),
    ],
)
def test_what_does_not_go_together_is_refused(training: dict[str, object], told: str):
    with pytest.raises(ValidationError, match=told):
        Experiment.model_validate(LEAST | {"training": {"steps": 1} | training})


def test_removed_fields_that_did_nothing_are_read_as_if_they_were_absent():
    removed = {"layer_dropout": 0.0, "query_key_norm": False, "value_residual": False, "token_shift": False}
    assert Experiment.model_validate(LEAST | {"model": removed}).hash() == least("seed").hash()


@pytest.mark.parametrize(
    "field", [{"layer_dropout": 0.1}, {"query_key_norm": True}, {"value_residual": True}]
)
def test_a_removed_field_that_did_something_is_refused(field: dict[str, object]):
    with pytest.raises(ValidationError, match=f"{next(iter(field))}\n.*not permitted"):
        Experiment.model_validate(LEAST | {"model": field})


def test_a_network_has_columns_enough_for_its_token_shift():
    shift = {"hidden": 64, "heads": 1, "token_shift": 8}
    assert Experiment.model_validate(LEAST | {"model": shift}).model.token_shift == 8
    with pytest.raises(ValidationError, match="at most 8"):
        Experiment.model_validate(LEAST | {"model": shift | {"token_shift": 9}})


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", ".a", "-a", "a" * 65, "ä"])
def test_names_that_no_folder_should_have_are_refused(name: str):
    with pytest.raises(ValidationError, match="name"):
        changed("name", name)


@pytest.mark.parametrize(
    ("resources", "ranks"),
    [
        ({"gpus_per_node": 4, "nodes": 2}, 8),
        ({"gpus_per_node": 0}, 1),
        ({"gpus_per_node": 0, "processes_per_node": 2, "nodes": 2}, 4),
        ({}, 1),
    ],
)
def test_ranks(resources: dict[str, int], ranks: int):
    data = LEAST | {"resources": resources, "training": {"steps": 1, "residues_per_gpu": 16384}}
    assert Experiment.model_validate(data).resources.ranks == ranks


def all_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in inner_models(field.annotation):
            yield from all_models(inner)


def test_every_field_has_a_docstring():
    bare = [
        f"{m.__name__}.{n}"
        for file in FILES.values()
        for m in all_models(file)
        for n, f in described_fields(m).items()
        if not f.description
    ]
    assert bare == []


def test_all_kinds_of_a_union_have_one_name_each():
    for model in all_models(Experiment):
        if "kind" in model.model_fields:
            assert get_args(model.model_fields["kind"].annotation) == (model.model_fields["kind"].default,)


@pytest.mark.parametrize(
    ("stores", "told"), [(["a", "b/../a"], "would count double"), (["b", "x"], "by itself")]
)
def test_no_store_of_a_mixture_counts_double(stores: list[str], told: str) -> None:
    with pytest.raises(ValidationError, match=rf"mixture\.stores names .* twice.*{told}"):
        DataSpec.model_validate({"store": "x", "mixture": {"stores": stores}})
    assert len(DataSpec.model_validate({"store": "x", "mixture": {"stores": ["a", "b"]}}).stores) == 3
