"""Spec of where metrics go in addition to metrics.jsonl."""

from typing import Literal

from sedd.yaml import StrictModel


class TrackingSpec(StrictModel):
    """Weights & Biases, and other trackers' files. Keys never belong here: `wandb login` keeps them in your home."""

    wandb: Literal["online", "offline", "disabled"] = "offline"
    """Online needs a login, and internet on the compute nodes; without either the run continues offline."""
    files: tuple[Literal["tensorboard"], ...] = ()
    """Trackers whose files lie in the run folder and need neither internet nor a login; `[tensorboard]` needs the
    extra of that name."""
    project: str = "sedd"
    """W&B project."""
    entity: str | None = None
    """W&B user or team; absent: the login's default."""
    tags: tuple[str, ...] = ()
    """W&B tags."""
