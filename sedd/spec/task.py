"""The base of all specs: name, resources, retries."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import StringConstraints

from sedd.spec.resources import ResourcesSpec
from sedd.spec.retry import RetrySpec
from sedd.yaml import StrictModel

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
EVERY = "*"
"""In a path's place within `PATHS`: every element of a list."""


class TaskSpec(StrictModel):
    """One run, resolved; the subclasses in `tasks.TASKS` say what it does."""

    PATHS: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Keys that hold paths: made absolute, with `~` and `$VARIABLES` expanded, when a spec is loaded."""

    task: str
    """What the run does: train, data, evaluate, sample, score, …"""
    name: Name
    """Letters, digits, `.`, `_`, `-`; names the run's folder, job and W&B group."""
    resources: ResourcesSpec = ResourcesSpec()
    """What one attempt asks of the cluster."""
    retry: RetrySpec = RetrySpec()
    """How often to start again."""

    @property
    def steps(self) -> int | None:
        """Steps of the whole run; None: it counts something else, and its heartbeat says how much there is."""
        return None

    def folders(self) -> tuple[Path, ...]:
        """What the run reads or writes outside its own folder."""
        return ()

    def hash(self) -> str:
        """Twelve hex digits that change with any field: the identity of what is asked for."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
