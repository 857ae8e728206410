"""Exports and checkpoints that are not what they should be: one error that names the tensor, and no proteins."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sedd.errors import CheckpointError
from sedd.inference.export import read_export, write_export
from sedd.inference.load_network import load_trained
from sedd.model.transformer import Transformer
from sedd.rundir.layout import create_run
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved
from tests.tiny import tiny_spec

CPU = torch.device("cpu")


def checkpoint_of(experiment: Experiment) -> dict[str, Any]:
    """What a training would have saved."""
    torch.manual_seed(0)
    weights = Transformer(experiment.model).state_dict()
    return {
        "format": 1,
        "run": "tiny/1",
        "step": 7,
        "spec": dump_resolved(experiment),
        "data_hash": "00ff",
        "length_quantiles": list(range(1, 1002)),
        "composition": [5] * 33,
        "model": weights,
        "ema": {"averages": {name: weight + 1 for name, weight in weights.items()}},
    }


@pytest.fixture
def saved() -> dict[str, Any]:
    return checkpoint_of(tiny_spec(Path("/home/somebody/secret place/my.store")))


@pytest.fixture
def exported(saved: dict[str, Any], tmp_path: Path) -> Path:
    write_export(saved, tmp_path / "network")
    return tmp_path / "network"


def change(folder: Path, weights: dict[str, torch.Tensor] | None = None, **config: Any) -> None:
    """Give an export other weights, with their checksum, or other words about them."""
    if weights is not None:
        safetensors.torch.save_file(weights, folder / "model.safetensors")
        config["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    old = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(old | config))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def test_what_was_exported_is_read(exported: Path, saved: dict[str, Any]) -> None:
    trained = load_trained(exported, CPU)
    assert (trained.run, trained.step) == ("tiny/1", 7)
    state = trained.model.state_dict()
    assert all(torch.equal(state[name], mean) for name, mean in saved["ema"]["averages"].items())


def test_the_bound_of_an_export_is_that_of_its_own_step_though_the_run_goes_on(
    saved: dict[str, Any], tmp_path: Path
) -> None:
    """A row that a kill had cut short was called a bug, and a later validation passed for that of the network."""
    run = create_run(tmp_path, "tiny", "20261122-100000-aaaa1111", saved["spec"])
    run.manifest.write_text("{}")
    step = saved["step"]
    rows = [{"step": at, "validation_bound": bound} for at, bound in ((step, 2.5), (step + 1, 1.5))]
    run.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"step": 99, "val')
    run.evaluation.write_text(json.dumps({"step": step + 1, "nats_per_residue": 1.4, "standard_error": 0.1}))
    write_export(saved, tmp_path / "out", run=run)
    (bound,) = [
        line for line in (tmp_path / "out/README.md").read_text().splitlines() if "likelihood bound" in line
    ]
    assert bound == f"| likelihood bound | 2.5000 nats a residue of the validation set, at step {step:,} |"
    write_export(saved, tmp_path / "raw", run=run, raw=True)
    assert "| likelihood bound of averaged weights | 2.5000" in (tmp_path / "raw/README.md").read_text()


def test_an_export_says_nothing_of_the_machine_that_made_it(tmp_path: Path) -> None:
    experiment = tiny_spec(Path("/home/somebody/secret place/my.store"))
    place = {"stores": ["/home/somebody/other.store"]}
    data = experiment.data.model_dump() | {"mixture": place, "stage": "/scratch/somebody"}
    experiment = Experiment.model_validate(experiment.model_dump() | {"data": data})
    write_export(checkpoint_of(experiment), tmp_path / "network")
    text = (tmp_path / "network" / "config.json").read_text()
    assert "somebody" not in text
    assert read_export(tmp_path / "network")[0].spec.data.stores == (Path("my.store"), Path("other.store"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("raw", [False, True])
def test_weights_that_are_not_finite_are_not_exported(
    saved: dict[str, Any], tmp_path: Path, value: float, raw: bool
) -> None:
    group = saved["model"] if raw else saved["ema"]["averages"]
    group["final.output.weight"][3, 2] = value
    with pytest.raises(CheckpointError, match=r"not finite: 1 of 528 in final\.output\.weight"):
        write_export(saved, tmp_path / "network", raw=raw)
    assert not (tmp_path / "network").exists()


def test_weights_that_are_not_finite_are_not_used(
    exported: Path, saved: dict[str, Any], tmp_path: Path
) -> None:
    weights = weights_of(exported)
    weights["embedding.weight"][0, 0] = float("nan")
    change(exported, weights)
    saved["ema"]["averages"]["embedding.weight"][0, 0] = float("nan")
    torch.save(saved, tmp_path / "mine.pt")
    for path in (exported, tmp_path / "mine.pt"):
        with pytest.raises(CheckpointError, match=r"not finite: 1 of 528 in embedding\.weight"):
            load_trained(path, CPU)


DAMAGE = {
    "missing": (lambda w: w.pop("embedding.weight"), "has no tensor embedding.weight"),
    "extra": (lambda w: w.update({"blocks.0.zzz": torch.zeros(1)}), "has a tensor blocks.0.zzz"),
    "shape": (
        lambda w: w.update({"embedding.weight": torch.zeros(32, 16)}),
        r"tensor embedding.weight has shape \[32, 16\], a network of its spec \[33, 16\]",
    ),
    "numbers": (
        lambda w: w.update({"embedding.weight": w["embedding.weight"].half()}),
        "tensor embedding.weight has numbers torch.float16, a network of its spec torch.float32",
    ),
    "whole numbers": (lambda w: w.update({"embedding.weight": w["embedding.weight"].int()}), "torch.int32"),
    "none": (lambda w: w.clear(), "has no tensor"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_tensor_that_does_not_belong_is_named(exported: Path, name: str) -> None:
    damage, told = DAMAGE[name]
    weights = weights_of(exported)
    damage(weights)
    change(exported, weights)
    with pytest.raises(CheckpointError, match=told):
        load_trained(exported, CPU)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"blocks": 10**12}, "blocks"),
        ({"hidden": 16 * 10**8}, "no memory holds|embedding.weight"),
        ({"hidden": 16 * 10**14}, "no memory holds"),
        ({"cond": 10**9}, "noise_level"),
        ({"hidden": 16 * 10**400}, "no memory holds"),
    ],
)
def test_a_spec_of_a_network_of_no_size_costs_no_memory(
    exported: Path, model: dict[str, int], told: str
) -> None:
    spec = json.loads((exported / "config.json").read_text())["spec"]
    change(exported, spec=spec | {"model": spec["model"] | model})
    with pytest.raises(CheckpointError, match=told):
        load_trained(exported, CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("length_quantiles", [1, 2]),
        ("length_quantiles", "many"),
        ("length_quantiles", [1] * 1000 + [10**30]),
        ("composition", [-1] * 33),
        ("composition", None),
        ("step", "seven"),
        ("spec", {"name": "x"}),
        ("sha256", 5),
        ("surplus", 5),
    ],
)
def test_a_word_about_the_network_that_makes_no_sense_is_named(
    exported: Path, field: str, value: Any
) -> None:
    change(exported, **{field: value})
    with pytest.raises(CheckpointError, match=field):
        load_trained(exported, CPU)


def test_a_checkpoint_of_something_else_is_refused(saved: dict[str, Any], tmp_path: Path) -> None:
    for missing in ("model", "ema", "spec", "run", "composition"):
        torch.save({k: v for k, v in saved.items() if k != missing}, tmp_path / "mine.pt")
        with pytest.raises(CheckpointError, match=rf"not the checkpoint of a training: '{missing}'"):
            load_trained(tmp_path / "mine.pt", CPU)
