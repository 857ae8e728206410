"""Read what a checkpoint says of itself without torch, and without its tensors: for login nodes."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

from sedd.errors import CheckpointError, cannot_read


class _Ignored(dict[Any, Any]):
    """Stands for every class that the file names: tensors, their storages, ordered dicts. None of its code is run."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__()


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _Ignored

    def persistent_load(self, pid: Any) -> Any:
        return None


def read_facts(path: Path) -> dict[str, Any]:
    """The texts, numbers and lists of a checkpoint, as `torch.save` wrote it; in place of tensors empty dicts.

    Raises:
        CheckpointError: no such file, or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                facts = _Reader(file).load()
    except FileNotFoundError as e:
        raise CheckpointError(f"{path}: no such file") from e
    except OSError as e:
        raise cannot_read(path, e) from e
    except Exception as e:  # of bytes that are no pickle the unpickler raises whatever comes
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged") from e
    if not isinstance(facts, dict) or "spec" not in facts or "composition" not in facts:
        raise CheckpointError(f"{path} is not the checkpoint of a training")
    return facts
