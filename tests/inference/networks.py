"""Checkpoints of small networks with weights by chance: what they say is nonsense, and not constant."""

import json
from pathlib import Path
from typing import Any

import torch

from sedd.inference.load_network import Trained, load_trained
from sedd.model.transformer import Transformer
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved

MAX_LENGTH = 64
CPU = torch.device("cpu")


def write_small_checkpoint(
    path: Path, *, graph: str = "absorbing", parameterization: str = "score", seed: int = 0, **model: Any
) -> Path:
    """A checkpoint file as training writes one, made in milliseconds."""
    experiment = Experiment.model_validate(
        {
            "name": "small",
            "data": {"store": "/nowhere/small.store", "max_length": MAX_LENGTH},
            "model": {"hidden": 16, "cond": 8, "blocks": 2, "heads": 2, **model},
            "diffusion": {"graph": graph, "parameterization": parameterization},
            "training": {"steps": 4, "residues_per_step": 512, "residues_per_gpu": 512},
        }
    )
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(value.shape, generator=generator) * 0.3 + (1.0 if "norm" in name else 0.0)
        for name, value in Transformer(experiment.model).state_dict().items()
    }
    composition = torch.zeros(33, dtype=torch.int64)
    composition[4:24] = 1000
    torch.save(
        {
            "format": 1,
            "run": "small/20261122-100000-aaaa1111",
            "step": 4,
            "spec": dump_resolved(experiment),
            "data_hash": "0" * 32,
            "length_quantiles": [20] * 500 + [MAX_LENGTH] * 501,
            "composition": composition.tolist(),
            "model": weights,
            "ema": {"averages": {}},
        },
        path,
    )
    return path


def small_network(folder: Path, **kind: Any) -> Trained:
    return load_trained(write_small_checkpoint(folder / "small.pt", **kind), CPU)


def write_adapters_folder(folder: Path, run: str = "family/one") -> Path:
    """As far as login nodes read it: what it says of itself, and no weights."""
    folder.mkdir()
    (folder / "adapters.safetensors").touch()
    parent = {"run": "base/one", "step": 3}
    (folder / "adapters.json").write_text(json.dumps({"run": run, "step": 4, "spec": {}, "parent": parent}))
    return folder
