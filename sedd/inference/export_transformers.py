"""A trained network as a folder that `transformers.AutoModel` loads, with its own code and without this package."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sedd.data.alphabet import TOKENS
from sedd.diffusion.conditional import cleanest_level
from sedd.finetune.parent import lineage_in
from sedd.inference.export import averaged_or_raw, template, write_weights
from sedd.inference.find_network import CONFIG, WEIGHTS, require_new_export
from sedd.inference.model_card import facts_of
from sedd.rundir.atomic import write_text
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.network import build_objective
from sedd.yaml import parse_document, validate

CODE = "modeling_sedd.py"
CONDITIONS = "conditions."
"""Beginning of the names of weights that embed labels; row 0 of each stands for none."""
_BESIDE = "noise_level.leave.bias"
"""What labels are added to."""


def write_transformers_export(
    saved: Mapping[str, Any],
    folder: Path,
    *,
    raw: bool = False,
    force: bool = False,
    run: RunDir | None = None,
    license_name: str = "other",
) -> None:
    """Write config.json, weights, modeling_sedd.py, ESM-2's tokenizer for our alphabet, and a model card.

    Raises:
        UsageError: the folder holds something already. OSError: it cannot be written.
    """
    require_new_export(folder, force=force)
    experiment = validate(Experiment, parse_document(saved["spec"], name="the checkpoint's spec"))
    weights = without_conditions(averaged_or_raw(saved, experiment, raw=raw))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    write_weights(weights, folder / WEIGHTS)
    write_text(folder / CODE, template(f"{CODE}.txt"))
    write_text(folder / "vocab.txt", "\n".join(TOKENS) + "\n")
    for name, content in _tokenizer(longest=experiment.data.max_length).items():
        write_text(folder / name, json.dumps(content, indent=1) + "\n")
    facts = facts_of(saved, experiment, run, raw=raw)
    card = template("card.md.txt").format(
        run=saved["run"],
        folder=folder.name,
        license=license_name,
        facts=facts,
        longest=experiment.data.max_length,
        pipeline="pipeline_tag: fill-mask\n" if _fills_masks(experiment) else "",
    )
    write_text(folder / "README.md", card)
    write_text(folder / CONFIG, json.dumps(_config(saved, experiment), indent=1) + "\n")


def without_conditions(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network that is told no label: what it adds for none goes into a bias."""
    told = {name: weight for name, weight in weights.items() if name.startswith(CONDITIONS)}
    kept = {name: weight for name, weight in weights.items() if name not in told}
    if told:
        kept[_BESIDE] = kept[_BESIDE] + torch.stack([weight[0] for weight in told.values()]).sum(0)
    return kept


def _config(saved: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    model, noise = experiment.model, build_objective(experiment.diffusion).noise
    return {
        "model_type": "sedd",
        "architectures": ["SeddModel"],
        "auto_map": _auto_map(experiment),
        "hidden_size": model.hidden,
        "cond_size": model.cond,
        "num_hidden_layers": model.blocks,
        "num_attention_heads": model.heads,
        "token_shift": model.token_shift,
        "vocab_size": len(TOKENS),
        "graph": experiment.diffusion.graph,
        "parameterization": experiment.diffusion.parameterization,
        "sigma_min": cleanest_level(noise),
        "sigma_max": float(noise.total(torch.tensor(1.0, dtype=torch.float64))),
        "max_length": experiment.data.max_length,
        "torch_dtype": "float32",
        **{name: saved[name] for name in ("run", "step", "data_hash")},
        **({"fine_tuned_from": parent} if (parent := lineage_in(saved)) else {}),
    }


def _auto_map(experiment: Experiment) -> dict[str, str]:
    classes = {"AutoConfig": "SeddConfig", "AutoModel": "SeddModel"}
    if _fills_masks(experiment):
        classes["AutoModelForMaskedLM"] = "SeddForMaskedLM"
    return {auto: f"modeling_sedd.{own}" for auto, own in classes.items()}


def _fills_masks(experiment: Experiment) -> bool:
    """Whether the network was trained on `<mask>`."""
    return experiment.diffusion.graph == "absorbing"


_SPECIAL = {f"{name}_token": f"<{name}>" for name in ("cls", "pad", "eos", "unk", "mask")}


def _tokenizer(*, longest: int) -> dict[str, dict[str, Any]]:
    """Its files. Of proteins longer than the network was trained on transformers warns, or cuts them if told to."""
    settings = {
        "tokenizer_class": "EsmTokenizer",
        "model_max_length": longest + 2,
        **_SPECIAL,
    }  # and <cls>, <eos>
    return {"tokenizer_config.json": settings, "special_tokens_map.json": dict(_SPECIAL)}
