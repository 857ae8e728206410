"""What the files of a trained network say of it, whichever kind they are of. Torch-free."""

import json
from pathlib import Path
from typing import Any

from sedd.finetune.adapters_folder import CONFIG as ADAPTERS_CONFIG
from sedd.finetune.adapters_folder import is_adapters
from sedd.finetune.checkpoint_facts import read_facts
from sedd.finetune.parent import CONFIG, find_parent
from sedd.yaml import parse_document


def read_network_facts(network: Path) -> dict[str, Any] | None:
    """Of a run's newest checkpoint, a checkpoint, an export or adapters; None for a run without a checkpoint.

    Raises:
        UsageError: nothing of the kind. CheckpointError: it cannot be read.
    """
    path = network if is_adapters(network) else find_parent(network)
    if path is None or not path.is_dir():
        return read_facts(path) if path else None
    config: dict[str, Any] = json.loads(
        (path / (ADAPTERS_CONFIG if is_adapters(path) else CONFIG)).read_bytes()
    )
    return config


def read_spec_of(network: Path) -> dict[str, Any] | None:
    """The resolved spec that a network was trained by; None where its files do not hold it.

    Raises:
        UsageError, CheckpointError: as `read_network_facts`.
    """
    spec = (read_network_facts(network) or {}).get("spec")
    found: dict[str, Any] | None = (
        parse_document(spec, name=str(network)).data if isinstance(spec, str) else spec
    )
    return found
