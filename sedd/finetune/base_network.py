"""Where the network lies that a folder of adapters was trained on. Torch-free: preflight asks, too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sedd.errors import CheckpointError
from sedd.finetune.adapters_folder import BASE, read_config
from sedd.finetune.parent import find_parent
from sedd.rundir.find import runs_root


def find_base(folder: Path, runs: Path | None = None) -> Path:
    """The checkpoint or export of the base: `base` in the folder, else the parent's run below `runs`, at its step.

    Raises:
        CheckpointError: it is at none of these places.
    """
    parent, runs = read_config(folder)["parent"], runs if runs is not None else runs_root()
    beside = folder / BASE
    if beside.exists() and (found := find_parent(beside)) is not None:
        return found
    saved = saved_base(parent, runs)
    if saved.is_file():
        return saved
    missing = (
        f"{folder} holds adapters alone, and their base is not there: {parent['run']}, step {parent['step']}"
    )
    if saved.parent.is_dir():
        raise CheckpointError(
            f"{missing}: its run keeps that step no longer",
            hint="`sedd export` of the fine-tuned run, without --adapters, writes the whole network",
        )
    raise CheckpointError(
        missing,
        hint=f"link its checkpoint or export as {beside}, or set SEDD_RUNS to the folder that holds {parent['run']}",
    )


def saved_base(parent: Mapping[str, Any], runs: Path) -> Path:
    """The checkpoint that a network was fine-tuned from, whether it is still there or not."""
    return runs / str(parent["run"]) / "checkpoints" / f"step-{int(parent['step']):08}.pt"
