"""Write a trained network as safetensors and config.json, and read it back to the bit."""

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
from pydantic import Field
from torch import Tensor

from sedd.data.alphabet import TOKENS
from sedd.errors import CheckpointError, SpecError, cannot_read
from sedd.finetune.adapters_file import without_paths
from sedd.finetune.lora import plain_weights, trained_weights
from sedd.finetune.parent import lineage_in, refuse_transformers_export, sha256_of
from sedd.inference.find_network import CONFIG, WEIGHTS, require_new_export
from sedd.inference.model_card import facts_of
from sedd.inference.weights import require_finite
from sedd.rundir.atomic import atomic_file, write_text
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.yaml import Document, StrictModel, parse_document, validate

FORMAT = 1
KEPT = ("run", "step", "data_hash", "length_quantiles", "composition")
"""What of a checkpoint's description goes into config.json as it is."""
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class ExportConfig(StrictModel):
    """All of config.json."""

    format: Literal[1]
    """Version of this format."""
    weights: Literal["ema", "raw"]
    """Averaged over training, or as trained."""
    sha256: str
    """Of model.safetensors."""
    run: str
    """`name/id` of the run."""
    step: _Count
    """Step of its checkpoint."""
    data_hash: str
    """Names the training data."""
    length_quantiles: tuple[_Count, ...] = Field(min_length=1001, max_length=1001)
    """Lengths in the training data at 0, 0.1, …, 100 %."""
    composition: tuple[_Count, ...] = Field(min_length=len(TOKENS), max_length=len(TOKENS))
    """How often each token occurs in the training data."""
    conditions: tuple[dict[str, Any], ...] | None = None
    """What it knows of labels: of each field the values, or how numbers are standardised."""
    spec: Experiment
    """The experiment, with the names of stores instead of their paths."""
    tokens: tuple[str, ...]
    """Token of each id."""
    parent: dict[str, Any] | None = None
    """Of a fine-tuned network: run, step and data of the one that it started from, whose own parent it names."""


def write_export(
    saved: Mapping[str, Any],
    folder: Path,
    *,
    raw: bool = False,
    force: bool = False,
    run: RunDir | None = None,
) -> None:
    """Write a checkpoint's EMA weights, or with `raw` those that were trained, and all that says what they are.

    `run` is the checkpoint's, for what the README says of its training. config.json is written last, and holds the
    weights' checksum: a folder without it is not whole. `force` replaces an export that is there.

    Raises:
        UsageError: the folder holds something already. OSError: it cannot be written.
    """
    require_new_export(folder, force=force)
    experiment = validate(Experiment, parse_document(saved["spec"], name="the checkpoint's spec"))
    weights = averaged_or_raw(saved, experiment, raw=raw)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    checksum = write_weights(weights, folder / WEIGHTS)
    config = {
        "format": FORMAT,
        "weights": "raw" if raw else "ema",
        "sha256": checksum,
        **{name: saved[name] for name in KEPT},
        **({"conditions": saved["conditions"]} if saved.get("conditions") else {}),
        "spec": without_paths(experiment).model_dump(mode="json"),
        "tokens": TOKENS,
        "parent": lineage_in(saved),
    }
    facts = facts_of(saved, experiment, run, raw=raw)
    write_text(folder / "README.md", template("README.md.txt").format(run=saved["run"], facts=facts))
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def averaged_or_raw(saved: Mapping[str, Any], experiment: Experiment, *, raw: bool) -> dict[str, Tensor]:
    """A checkpoint's weights, averaged over training or as trained, with its adapters merged into them.

    Raises:
        CheckpointError: one is not finite.
    """
    weights = plain_weights(trained_weights(saved, raw=raw), experiment.training.lora)
    require_finite(weights, f"the checkpoint of {saved['run']}, step {saved['step']},")
    return weights


def write_weights(weights: Mapping[str, Tensor], path: Path) -> str:
    """Write a safetensors file; returns its checksum. Raises: OSError: it cannot be written."""
    # Not `save_file`: its errors have no errno, and only the user could read the file that it makes.
    tensors = {name: weight.contiguous() for name, weight in weights.items()}
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def template(name: str) -> str:
    """A file of `exported/`: what is written into exports."""
    return (resources.files("sedd.inference") / "exported" / name).read_text(encoding="utf-8")


def read_export(folder: Path) -> tuple[ExportConfig, dict[str, Tensor]]:
    """config.json, and the weights by name.

    Raises:
        CheckpointError: not whole, damaged, of another format, or it cannot be read.
    """
    try:
        document = json.loads((folder / CONFIG).read_bytes())
        refuse_transformers_export(document, folder)
        seen = document.get("format")
        if seen != FORMAT:
            raise CheckpointError(f"{folder / CONFIG} is not of format {FORMAT}: seen {seen!r}")
        config = validate(ExportConfig, Document(name=str(folder / CONFIG), data=document, lines={}))
        if sha256_of(folder / WEIGHTS) != config.sha256:
            raise CheckpointError(f"{folder / WEIGHTS} is damaged: its checksum is not that of {CONFIG}")
        if config.tokens != TOKENS:
            raise CheckpointError(f"{folder / CONFIG}: its network has another alphabet")
        return config, safetensors.torch.load_file(folder / WEIGHTS)
    except SpecError as e:
        first = e.message.splitlines()[0]
        raise CheckpointError(f"{folder} is not an exported network, or is damaged: {first}") from e
    except OSError as e:
        raise cannot_read(folder, e) from e
    except (ValueError, AttributeError, RecursionError, safetensors.SafetensorError) as e:
        raise CheckpointError(
            f"{folder} is not an exported network, or is damaged ({type(e).__name__})"
        ) from e
