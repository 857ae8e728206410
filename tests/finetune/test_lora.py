"""Adapters: W + alpha / rank B A, merged to the bit, alone in a small file; and the names that preflight knows."""

import errno
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch

from sedd.errors import CheckpointError, SpecError, UsageError
from sedd.finetune.adapters_file import weights_hash, write_adapters
from sedd.finetune.checkpoint_facts import read_facts
from sedd.finetune.fitting import adapter_shapes, freezing_problem, parameter_shapes, rate_scale
from sedd.finetune.lora import plain_weights, trained_weights
from sedd.finetune.parent import read_parent
from sedd.finetune.start import prepare
from sedd.inference.export import read_export, write_export
from sedd.inference.load_network import load_trained
from sedd.model.size import parameter_count
from sedd.model.transformer import Transformer
from sedd.spec.experiment import Experiment
from sedd.spec.finetune import LoraSpec
from sedd.spec.load import dump_resolved, load_request
from sedd.training.checkpoint_file import read_checkpoint, write_checkpoint
from tests.inference.networks import CPU, write_small_checkpoint
from tests.tiny import tiny_spec

LORA = {"rank": 3, "alpha": 6.0, "matrices": ["qkv", "down", "modulation"]}


def spec_of(**training: Any) -> Experiment:
    return tiny_spec(Path("/nowhere/secret/family.store"), init="/nowhere/secret/parent", **training)


def adapted(experiment: Experiment) -> Transformer:
    """A network with adapters that change it."""
    torch.manual_seed(0)
    model = Transformer(experiment.model)
    prepare(model, experiment)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return model


def output(model: Transformer) -> torch.Tensor:
    tokens = torch.arange(4, 24).reshape(2, 10)
    return model.eval().forward_padded(tokens, torch.tensor([0.3, 2.0]))


@pytest.fixture
def lora_checkpoint(tmp_path: Path) -> Path:
    experiment = spec_of(lora=LORA)
    model = adapted(experiment)
    means = {n: p.detach() * 0.9 for n, p in model.named_parameters() if p.requires_grad}
    lineage = {
        "run": "base/1",
        "step": 9,
        "sha256": "ab",
        "weights": "ema",
        "data_hash": "cd",
        "parent": None,
    }
    saved = {
        "format": 1,
        "run": "tiny/lora",
        "step": 7,
        "spec": dump_resolved(experiment),
        "data_hash": "00ff",
        "length_quantiles": list(range(1, 1002)),
        "composition": [5] * 33,
        "parent": lineage | {"spec": dump_resolved(experiment)},
        "model": model.state_dict(),
        "ema": {"averages": means},
    }
    write_checkpoint(tmp_path, 7, saved)
    return tmp_path / "step-00000007.pt"


def test_an_adapted_network_is_the_merged_one_to_the_bit() -> None:
    experiment = spec_of(lora=LORA)
    model, lora = adapted(experiment), experiment.training.lora
    weights = model.state_dict()
    merged = plain_weights(weights, lora)
    by_definition = weights["blocks.0.qkv.weight"] + 2 * (
        weights["blocks.0.qkv.lora_b"] @ weights["blocks.0.qkv.lora_a"]
    )
    assert torch.equal(merged["blocks.0.qkv.weight"], by_definition)
    plain = Transformer(experiment.model)
    plain.load_state_dict(merged)
    assert torch.equal(output(plain), output(model))
    assert not torch.equal(weights["blocks.0.qkv.weight"], by_definition)


def test_new_adapters_change_nothing_and_only_they_learn() -> None:
    experiment = spec_of(lora=LORA)
    torch.manual_seed(1)
    model = Transformer(experiment.model)
    torch.nn.init.normal_(model.final.output.weight)
    before = output(model)
    prepare(model, experiment)
    assert torch.equal(output(model), before)
    output(model).square().sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learning == {f"blocks.0.{m}.lora_{x}" for m in LORA["matrices"] for x in "ab"}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_of_adapters_is_that_of_the_merged_matrix_through_them(checkpointing: bool) -> None:
    experiment = spec_of(lora=LORA)
    model = adapted(experiment).train()
    model.dropout, model.activation_checkpointing = 0.0, checkpointing
    plain = Transformer(experiment.model).train()
    plain.load_state_dict(plain_weights(model.state_dict(), experiment.training.lora))
    plain.dropout = 0.0
    tokens = torch.arange(4, 24).reshape(2, 10)
    for each in (model, plain):
        each.forward_padded(tokens, torch.tensor([0.3, 2.0])).square().sum().backward()
    layer, whole = model.blocks[0].down, plain.blocks[0].down.weight.grad
    torch.testing.assert_close(layer.lora_a.grad, 2 * layer.lora_b.detach().T @ whole)
    torch.testing.assert_close(layer.lora_b.grad, 2 * whole @ layer.lora_a.detach().T)


def test_a_lora_checkpoint_is_loaded_and_exported_merged(lora_checkpoint: Path, tmp_path: Path) -> None:
    saved = read_checkpoint(lora_checkpoint)
    experiment = spec_of(lora=LORA)
    wanted = plain_weights(saved["model"] | saved["ema"]["averages"], experiment.training.lora)
    trained = load_trained(lora_checkpoint, CPU)
    assert all(torch.equal(trained.model.state_dict()[name], each) for name, each in wanted.items())
    write_export(saved, tmp_path / "export")
    config, weights = read_export(tmp_path / "export")
    assert all(torch.equal(weights[name], each) for name, each in wanted.items())
    assert config.parent is not None
    assert (config.parent["run"], config.parent["step"]) == ("base/1", 9)
    again = load_trained(tmp_path / "export", CPU)
    assert torch.equal(output(again.model), output(trained.model))
    texts = (tmp_path / "export" / "config.json").read_text() + (
        tmp_path / "export" / "README.md"
    ).read_text()
    assert "nowhere" not in texts
    assert "base/1, step 9" in texts


def test_adapters_alone_are_small_and_their_readme_puts_them_back(
    lora_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, experiment = (
        read_checkpoint(lora_checkpoint),
        spec_of(lora=LORA | {"alpha": 7.0}),
    )  # 7 / 3 has no end
    bytes_ = write_adapters(saved, experiment, tmp_path / "alone", raw=False, force=False)
    assert bytes_ < 5000 + 4 * sum(a.numel() for n, a in saved["model"].items() if "lora" in n)
    base = {name: each for name, each in saved["model"].items() if ".lora_" not in name}
    config = json.loads((tmp_path / "alone" / "adapters.json").read_text())
    assert config["base_sha256"] == weights_hash(base)
    assert config["parent"]["run"] == "base/1"
    safetensors.torch.save_file(base, tmp_path / "alone" / "model.safetensors")
    code = (tmp_path / "alone" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "alone")
    names: dict[str, Any] = {}
    exec(code, names)
    wanted = plain_weights(trained_weights(saved, raw=False), experiment.training.lora)
    assert all(torch.equal(names["weights"][name], each) for name, each in wanted.items())
    with pytest.raises(UsageError, match="it already exists"):
        write_adapters(saved, experiment, tmp_path / "alone", raw=False, force=False)
    with pytest.raises(UsageError, match="no adapters"):
        write_adapters(saved, tiny_spec(tmp_path), tmp_path / "other", raw=False, force=False)


def test_adapters_of_another_step_or_a_half_written_folder_are_not_taken_for_those_described(
    lora_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, experiment, folder = read_checkpoint(lora_checkpoint), spec_of(lora=LORA), tmp_path / "alone"
    write_adapters(saved, experiment, folder, raw=False, force=False)
    plain = {name: each for name, each in saved["model"].items() if ".lora_" not in name}
    spec = dump_resolved(tiny_spec(Path("/nowhere/base.store")))
    write_export({**saved, "model": plain, "ema": {"averages": {}}, "spec": spec}, folder / "base")
    wanted = plain_weights(trained_weights(saved, raw=False), experiment.training.lora)
    loaded = load_trained(folder, CPU).model.state_dict()
    assert all(torch.equal(loaded[name], each) for name, each in wanted.items())

    write_adapters(saved, experiment, tmp_path / "raw", raw=True, force=False)
    (folder / "adapters.safetensors").write_bytes((tmp_path / "raw/adapters.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is not the file that adapters"):
        load_trained(folder, CPU)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sedd.finetune.adapters_file.write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_adapters(saved, experiment, tmp_path / "raw", raw=False, force=True)
    assert not (tmp_path / "raw/adapters.json").exists(), "what it says is of the adapters before"


def test_a_checkpoint_describes_itself_without_torch(lora_checkpoint: Path, tmp_path: Path) -> None:
    facts, saved = read_facts(lora_checkpoint), read_checkpoint(lora_checkpoint)
    for key in ("run", "step", "spec", "data_hash", "composition", "parent", "format"):
        assert facts[key] == saved[key]
    (tmp_path / "no.pt").write_bytes(b"PK not a zip")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_parent(tmp_path / "no.pt")


def test_what_a_checkpoint_names_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"spec": Trap(), "composition": []}, tmp_path / "trap.pt")
    read_facts(tmp_path / "trap.pt")
    assert not (tmp_path / "run").exists()


def test_an_export_is_a_parent_too(tmp_path: Path) -> None:
    saved = read_checkpoint(write_small_checkpoint(tmp_path / "small.pt"))
    write_export(saved, tmp_path / "export")
    parent = read_parent(tmp_path / "export")
    assert (parent.run, parent.step, parent.tokens, parent.weights) == (saved["run"], 4, 33, "ema")
    assert parent.is_export


ALL = {"matrices": get_args(get_args(LoraSpec.model_fields["matrices"].annotation)[0])}


@pytest.mark.parametrize("lora", [None, LORA, ALL])
def test_names_and_shapes_are_known_without_torch(lora: dict[str, Any] | None) -> None:
    experiment = spec_of(lora=lora)
    model = Transformer(experiment.model)
    prepare(model, experiment)
    seen = {name: tuple(each.shape) for name, each in model.named_parameters()}
    shapes = parameter_shapes(experiment.model)
    assert {**shapes, **adapter_shapes(experiment)} == seen
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == parameter_count(experiment.model)


def test_rates_fall_with_depth() -> None:
    experiment = spec_of(layer_decay=0.5)
    deep = experiment.model_copy(update={"model": experiment.model.model_copy(update={"blocks": 3})})
    names = ("final.output.weight", "blocks.2.up.bias", "blocks.0.qkv.weight", "embedding.weight")
    assert [rate_scale(name, deep) for name in names] == [1, 0.5, 0.125, 0.0625]


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"freeze": ["block.*"]}, "no parameter's name matches 'block.*'"),
        ({"freeze": ["*"]}, "leaves nothing to train"),
        ({"freeze": ["blocks.*"], "optimizer": "muon"}, "no matrix of a block"),
        ({"freeze": ["blocks.*.lora_a"], "lora": LORA}, None),
    ],
)
def test_patterns_that_freeze_nothing_or_everything_are_told(
    training: dict[str, Any], words: str | None
) -> None:
    problem = freezing_problem(spec_of(**training))
    assert (words is None and problem is None) or words in str(problem)
    if words:
        with pytest.raises(SpecError, match="freeze"):
            prepare(Transformer(spec_of().model), spec_of(**training))


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"lora": {"rank": 2}, "init": None}, "name it"),
        ({"lora": {"rank": 2}, "optimizer": "muon"}, "adamw"),
        ({"init": {"network": "x", "optimizer": True}}, "weights: raw"),
        ({"init": {"network": "x", "optimizer": True, "weights": "raw"}, "freeze": ["*"]}, "moments of all"),
    ],
)
def test_what_does_not_go_together_is_refused(training: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_spec(Path("/nowhere"), **{"init": "/nowhere/parent"} | training)


def test_the_parents_path_is_taken_from_the_specs_folder(tmp_path: Path) -> None:
    text = "name: a\ndata: {store: s}\ntraining: {steps: 3, init: %s}\n"
    for written in ("../parents/one", "{network: ../parents/one, validation: v.store}"):
        (tmp_path / "spec.yaml").write_text(text % written)
        (experiment,) = load_request(tmp_path / "spec.yaml").experiments
        assert isinstance(experiment, Experiment)
        assert experiment.training.init is not None
        assert experiment.training.init.network == tmp_path.parent / "parents/one"
    assert experiment.training.init.validation == tmp_path / "v.store"
