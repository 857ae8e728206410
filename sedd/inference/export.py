"""A trained network for other programs: safetensors and config.json, which read back to the bit."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from sedd.data.alphabet import TOKENS
from sedd.errors import CheckpointError, UsageError
from sedd.rundir.atomic import atomic_file, write_text
from sedd.spec.experiment import Experiment
from sedd.yaml import parse_document, validate

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
KEPT = ("run", "step", "data_hash", "length_quantiles", "composition")
"""What of a checkpoint's description goes into config.json as it is."""


def is_export(path: Path) -> bool:
    """Whether a folder looks like one of ours."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def write_export(saved: Mapping[str, Any], folder: Path, *, raw: bool = False) -> None:
    """Write a checkpoint's EMA weights, or with `raw` those that were trained, and all that says what they are.

    config.json is written last, and holds the weights' checksum: a folder without it is not whole.

    Raises:
        UsageError: the folder holds something already. CheckpointError, OSError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty", hint="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = saved["model"] if raw else saved["model"] | saved["ema"]["averages"]
    with atomic_file(folder / WEIGHTS) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as umask says; safetensors makes a file that nobody else may read
        try:
            safetensors.torch.save_file({name: w.contiguous() for name, w in weights.items()}, temporary)
        except safetensors.SafetensorError as e:  # its words for a full disk
            raise CheckpointError(f"cannot write {folder / WEIGHTS}: {e}") from e
        temporary.chmod(mode)
        checksum = _sha256(temporary)
    experiment = validate(Experiment, parse_document(saved["spec"], name="the checkpoint's spec"))
    config = {
        "format": FORMAT,
        "weights": "raw" if raw else "ema",
        "sha256": checksum,
        **{name: saved[name] for name in KEPT},
        "spec": experiment.model_dump(mode="json"),
        "tokens": TOKENS,
    }
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def read_export(folder: Path) -> tuple[dict[str, Any], Experiment, dict[str, Tensor]]:
    """config.json, the experiment in it, and the weights by name.

    Raises:
        CheckpointError: not whole, damaged, or of another format.
    """
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        if config.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder / CONFIG} is not of format {FORMAT}: seen {config.get('format')!r}"
            )
        experiment = Experiment.model_validate(config["spec"])
        if _sha256(folder / WEIGHTS) != config["sha256"]:
            raise CheckpointError(f"{folder / WEIGHTS} is damaged: its checksum is not that of {CONFIG}")
        return config, experiment, safetensors.torch.load_file(folder / WEIGHTS)
    except (ValueError, KeyError, AttributeError, OSError, safetensors.SafetensorError) as e:
        raise CheckpointError(
            f"{folder} is not an exported network, or is damaged ({type(e).__name__})"
        ) from e


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
