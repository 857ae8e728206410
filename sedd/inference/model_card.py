"""What an export's README says about the network: from its checkpoint, and from its run where that is at hand."""

import json
from collections.abc import Mapping
from typing import Any

from sedd.errors import RunError
from sedd.finetune.fitting import count, trained_shapes
from sedd.finetune.parent import lineage_in
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.read_usage import read_usage
from sedd.rundir.usage import usage_words
from sedd.spec.experiment import Experiment
from sedd.training.metrics import read_metrics
from sedd.units import counted

MISSING = "not known"


def facts_of(saved: Mapping[str, Any], experiment: Experiment, run: RunDir | None, *, raw: bool) -> str:
    """A Markdown table; what is not at hand is said to be not known. No path is in it."""
    model, training, process = experiment.model, experiment.training, experiment.diffusion
    manifest = _manifest(run)
    git = manifest.get("git") or {}
    rows = {
        "run": f"{saved['run']}, step {saved['step']:,} of {training.steps:,}",
        "weights": "as trained" if raw else "averaged over training (EMA)",
        "network": f"{counted(model.blocks, 'block')}, hidden {model.hidden}, {counted(model.heads, 'head')}"
        + (f", token shift {model.token_shift}" if model.token_shift else ""),
        "graph, noise, output": f"{process.graph}, {process.noise.kind}, {process.parameterization}",
        **_parent(saved, experiment),
        **({"labels": ", ".join(model.conditions.fields)} if model.conditions else {}),
        "training data (hash)": str(saved["data_hash"]),
        "residues seen": f"{saved['step'] * training.residues_per_step:,}",
        "longest protein": f"{experiment.data.max_length:,} residues",
        "likelihood bound of averaged weights" if raw else "likelihood bound": _bound(
            run, int(saved["step"])
        ),
        "code (commit)": str(git.get("commit") or MISSING) + (" with changes" if git.get("dirty") else ""),
        "used": _usage(run),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| about | |", "|---|---|", *lines])


def _parent(saved: Mapping[str, Any], experiment: Experiment) -> dict[str, str]:
    """Of a fine-tuned network: the ones that it comes from, and how."""
    names, lineage = [], lineage_in(saved)
    while lineage:
        kind = "averaged" if lineage["weights"] == "ema" else "raw"
        names.append(
            f"{lineage['run']}, step {lineage['step']:,} ({kind} weights, data {lineage['data_hash']})"
        )
        lineage = lineage["parent"]
    if not names:
        return {}
    lora, freeze = experiment.training.lora, experiment.training.freeze
    how = [f"adapters of rank {lora.rank} on {', '.join(lora.matrices)}, merged"] if lora else []
    how += [f"frozen: {', '.join(freeze)}"] if freeze else []
    trained = f"{count(trained_shapes(experiment)):,} parameters"
    return {"fine-tuned from": ", from ".join(names), "trained": "; ".join([trained, *how])}


def _manifest(run: RunDir | None) -> dict[str, Any]:
    try:
        return read_manifest(run) if run is not None else {}
    except RunError:
        return {}


def _bound(run: RunDir | None, step: int) -> str:
    """Of an evaluation of this step beside the run if there is one, with its error; else of the last validation."""
    if run is None:
        return MISSING
    if run.evaluation.is_file() and (found := json.loads(run.evaluation.read_bytes())).get("step") == step:
        return f"{found['nats_per_residue']:.4f} ± {found['standard_error']:.4f} nats a residue"
    rows = [row for row in read_metrics(run.metrics) if row["step"] <= step and "validation_bound" in row]
    if not rows:
        return MISSING
    at, bound = rows[-1]["step"], rows[-1]["validation_bound"]
    return f"{bound:.4f} nats a residue of the validation set, at step {at:,}"


def _usage(run: RunDir | None) -> str:
    """GPU-hours, energy and CO₂ of all attempts."""
    try:
        return usage_words(read_usage(run).within()) if run is not None else MISSING
    except RunError:
        return MISSING
