"""A folder of adapters alone, as `sedd export --adapters` writes it. Torch-free: preflight and submission ask, too."""

import json
from pathlib import Path
from typing import Any

from sedd.errors import CheckpointError, UsageError, cannot_read

CONFIG, WEIGHTS, BASE = "adapters.json", "adapters.safetensors", "base"
"""The files of a folder of adapters, and what a user may put beside them: its base, or a link to it."""


def is_adapters(path: Path) -> bool:
    """Whether a folder holds adapters alone."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def require_new_adapters(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds something; with `force` only one that holds no adapters. Raises: UsageError."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"cannot write {folder}: it already exists and holds no adapters", hint="name a new folder"
        )
    if not force:
        raise UsageError(f"cannot write {folder}: it already exists", hint="--force replaces it")


def read_config(folder: Path) -> dict[str, Any]:
    """What the adapters' folder says of them. Raises: CheckpointError."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
        return config | {"spec": config["spec"], "parent": dict(config["parent"])}
    except OSError as e:
        raise cannot_read(folder / CONFIG, e) from e
    except (ValueError, KeyError, TypeError) as e:
        raise CheckpointError(
            f"{folder / CONFIG} does not describe its adapters", hint="sedd export RUN --adapters -o FOLDER"
        ) from e
