"""Spec of where metrics go in addition to metrics.jsonl."""

from typing import Literal

from sedd.yaml import StrictModel


class TrackingSpec(StrictModel):
    """Weights & Biases; keys and tokens never belong here: `wandb login` keeps them in your home."""

    wandb: Literal["online", "offline", "disabled"] = "offline"
    """Online needs a login, and internet on the compute nodes; without either the run continues offline."""
    project: str = "sedd"
    """W&B project."""
    entity: str | None = None
    """W&B user or team; absent: the login's default."""
    tags: tuple[str, ...] = ()
    """W&B tags."""
