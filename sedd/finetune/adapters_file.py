"""Adapters alone as a small file, without the network that they change."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from sedd.errors import CheckpointError, UsageError, cannot_read
from sedd.finetune.adapters_folder import CONFIG, WEIGHTS, read_config, require_new_adapters
from sedd.finetune.base_network import find_base
from sedd.finetune.fitting import CONDITIONS
from sedd.finetune.lora import plain_weights, scale_of, trained_weights
from sedd.finetune.parent import lineage_in, sha256_of
from sedd.rundir.atomic import atomic_file, write_text
from sedd.spec.experiment import Experiment
from sedd.yaml import Document, validate

KEPT = ("data_hash", "length_quantiles", "composition")
"""What of a checkpoint's description goes into adapters.json as it is."""


def write_adapters(
    saved: Mapping[str, Any], experiment: Experiment, folder: Path, *, raw: bool, force: bool
) -> int:
    """Write adapters.safetensors, adapters.json and a README; returns the bytes of the first.

    adapters.json is written last, and holds the checksum of the adapters: a folder without it is not whole.

    Raises:
        UsageError: the checkpoint has no adapters, or the folder holds something. CheckpointError: not finite.
    """
    lora = experiment.training.lora
    if lora is None:
        raise UsageError(f"{saved['run']} was trained without training.lora: it has no adapters")
    require_new_adapters(folder, force=force)
    weights = trained_weights(saved, raw=raw)
    adapters = {
        n: each.contiguous() for n, each in weights.items() if ".lora_" in n or n.startswith(CONDITIONS)
    }
    if odd := next((name for name, each in adapters.items() if not bool(each.isfinite().all())), None):
        raise CheckpointError(f"{saved['run']}: {odd} has numbers that are not finite")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    content = safetensors.torch.save(adapters, metadata={"format": "pt"})
    with atomic_file(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    config = {
        "format": 1,
        "run": saved["run"],
        "step": saved["step"],
        "weights": "raw" if raw else "ema",
        "rank": lora.rank,
        "alpha": lora.alpha,
        "sha256": hashlib.sha256(content).hexdigest(),
        "base_sha256": weights_hash(weights),
        "parent": lineage_in(saved),
        **{name: saved[name] for name in KEPT},
        "conditions": saved.get("conditions"),
        "spec": without_paths(experiment).model_dump(mode="json"),
    }
    write_text(folder / "README.md", _README.format(run=saved["run"], scale=scale_of(lora)))
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")
    return len(content)


def read_adapters(
    folder: Path, weights_of: Callable[[Path, bool], Mapping[str, Tensor]]
) -> tuple[dict[str, Any], Experiment, dict[str, Tensor]]:
    """adapters.json, the experiment, and the weights of the base with the adapters merged into them.

    `weights_of` reads the plain weights of a checkpoint or an export, with True those of a checkpoint as trained.

    Raises:
        CheckpointError: the base is not found or is another network, or the adapters cannot be read.
    """
    config, base = read_config(folder), find_base(folder)
    experiment = validate(Experiment, Document(name=str(folder / CONFIG), data=config["spec"], lines={}))
    try:
        # Older versions wrote no checksum of the adapters themselves.
        if config.get("sha256") not in (None, sha256_of(folder / WEIGHTS)):
            raise CheckpointError(
                f"{folder / WEIGHTS} is not the file that {CONFIG} describes: its checksum is another one",
                hint=f"export them again: sedd export {config['run']} --adapters -o FOLDER",
            )
        adapters = safetensors.torch.load_file(folder / WEIGHTS)
    except OSError as e:
        raise cannot_read(folder / WEIGHTS, e) from e
    except safetensors.SafetensorError as e:
        raise CheckpointError(f"{folder / WEIGHTS} is damaged: {e}") from e
    weights = dict(weights_of(base, config["parent"].get("weights") == "raw")) | adapters
    if weights_hash(weights) != config.get("base_sha256"):
        raise CheckpointError(
            f"{base} is not the network that the adapters in {folder} were trained on",
            hint=f"that is {config['parent']['run']}, step {config['parent']['step']}",
        )
    return config, experiment, plain_weights(weights, experiment.training.lora)


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Of a network's weights without adapters: their names, shapes and bits."""
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if ".lora_" not in name):
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {list(weight.shape)} {weight.dtype}\0".encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def without_paths(experiment: Experiment) -> Experiment:
    """The experiment as another machine may know it: where stores lay is nobody's business."""
    data = experiment.data
    mixture = data.mixture and data.mixture.model_copy(
        update={"stores": tuple(Path(store.name) for store in data.mixture.stores)}
    )
    bare = data.model_copy(update={"store": Path(data.store.name), "mixture": mixture, "stage": None})
    init = experiment.training.init
    bare_init = init and init.model_copy(update={"network": Path(init.network.name), "validation": None})
    training = experiment.training.model_copy(update={"init": bare_init})
    return experiment.model_copy(update={"data": bare, "training": training})


_README = """# Adapters of {run}

Low-rank adapters (LoRA, Hu et al. 2021) of a SEDD protein network, without that network: adapters.json names it, by
run, step and the checksum of its weights. With these, each layer's weight is `W + {scale} * B @ A`:

```python
from safetensors.torch import load_file

weights, adapters = load_file("model.safetensors"), load_file("adapters.safetensors")
for name in [name for name in adapters if name.endswith(".lora_a")]:
    layer = name.removesuffix(".lora_a")
    weights[layer + ".weight"] += {scale} * (adapters[layer + ".lora_b"] @ adapters[name])
weights |= {{name: each for name, each in adapters.items() if ".lora_" not in name}}  # of labels, if there are any
```

`model.safetensors` is what `sedd export` writes of the parent. `sedd export RUN` of the fine-tuned run itself writes
the merged network. `sedd` itself takes this folder as any network, where it finds the base: as `base` in this folder
(a link to its checkpoint or export), else as the run of that name in the folder of runs.
"""
