"""SEDD protein diffusion on old GPUs: one YAML spec in, a preemption-proof, monitored run out."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from sedd.inference.api import Network

__version__ = "0.1.0"  # the one place; pyproject.toml reads it


def load(network: "str | os.PathLike[str]", *, device: str | None = None) -> "Network":
    """A trained network, ready to be used: of a run (folder, id or name), a checkpoint file or an exported folder.

    `device` is one of torch's names; absent: a GPU if there is one. torch is imported now, and not by `import sedd`.

    Raises:
        UsageError: no such run or file. CheckpointError: not a checkpoint, or damaged.
    """
    from sedd.inference.api import open_network

    return open_network(network, device=device)
