"""Adapters alone as a small file, without the network that they change."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from sedd.errors import CheckpointError, UsageError
from sedd.finetune.fitting import CONDITIONS
from sedd.finetune.lora import scale_of, trained_weights
from sedd.finetune.parent import lineage_in
from sedd.rundir.atomic import atomic_file, write_text
from sedd.spec.experiment import Experiment

WEIGHTS, CONFIG = "adapters.safetensors", "adapters.json"


def write_adapters(
    saved: Mapping[str, Any], experiment: Experiment, folder: Path, *, raw: bool, force: bool
) -> int:
    """Write adapters.safetensors, adapters.json and a README; returns the bytes of the first.

    Raises:
        UsageError: the checkpoint has no adapters, or the folder holds something. CheckpointError: not finite.
    """
    lora = experiment.training.lora
    if lora is None:
        raise UsageError(f"{saved['run']} was trained without training.lora: it has no adapters")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not (folder / CONFIG).is_file():
            raise UsageError(
                f"cannot write {folder}: it already exists and holds no adapters", hint="name a new folder"
            )
        if not force:
            raise UsageError(f"cannot write {folder}: it already exists", hint="--force replaces it")
    weights = trained_weights(saved, raw=raw)
    adapters = {
        n: each.contiguous() for n, each in weights.items() if ".lora_" in n or n.startswith(CONDITIONS)
    }
    if odd := next((name for name, each in adapters.items() if not bool(each.isfinite().all())), None):
        raise CheckpointError(f"{saved['run']}: {odd} has numbers that are not finite")
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(safetensors.torch.save(adapters, metadata={"format": "pt"}))
    config = {
        "format": 1,
        "run": saved["run"],
        "step": saved["step"],
        "weights": "raw" if raw else "ema",
        "rank": lora.rank,
        "alpha": lora.alpha,
        "base_sha256": weights_hash(weights),
        "parent": lineage_in(saved),
    }
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    write_text(folder / "README.md", _README.format(run=saved["run"], scale=scale_of(lora)))
    return (folder / WEIGHTS).stat().st_size


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Of a network's weights without adapters: their names, shapes and bits."""
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if ".lora_" not in name):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {list(weight.shape)} {weight.dtype}\0".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


_README = """# Adapters of {run}

Low-rank adapters (LoRA, Hu et al. 2021) of a SEDD protein network, without that network: adapters.json names it, by
run, step and the checksum of its weights. With these, each layer's weight is `W + {scale:g} * B @ A`:

```python
from safetensors.torch import load_file

weights, adapters = load_file("model.safetensors"), load_file("adapters.safetensors")
for name in [name for name in adapters if name.endswith(".lora_a")]:
    layer = name.removesuffix(".lora_a")
    weights[layer + ".weight"] += {scale:g} * (adapters[layer + ".lora_b"] @ adapters[name])
weights |= {{name: each for name, each in adapters.items() if ".lora_" not in name}}  # of labels, if there are any
```

`model.safetensors` is what `sedd export` writes of the parent. `sedd export RUN` of the fine-tuned run itself writes
the merged network.
"""
