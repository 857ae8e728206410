"""Spec of where metrics go in addition to metrics.jsonl."""

from typing import Literal, Self

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

    def at_site(self, wandb: str | None) -> Self:
        """The same at a site whose profile names a mode of W&B: the site's counts, unless a spec has disabled it."""
        if wandb is None or self.wandb == "disabled":
            return self
        return self.model_copy(update={"wandb": wandb})
