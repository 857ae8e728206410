"""The base of all specs: name, resources, retries."""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import BaseModel

from sedd.complaints import Key
from sedd.spec.resources import ResourcesSpec
from sedd.spec.retry import RetrySpec
from sedd.yaml import Spelling, StrictModel

Name = Annotated[
    str,
    Spelling(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "1 to 64 ASCII letters, digits, '.', '_' and '-', beginning with a letter or digit",
    ),
]
EVERY = "*"
"""In a pattern of `path_keys`: every element of a list."""


class TaskSpec(StrictModel):
    """One run, resolved; the subclasses in `tasks.TASKS` say what it does."""

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

    FILE_WORDS: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Patterns of words that name a file of the spec's folder, where there is one of that name."""

    def paths(self) -> dict[Key, Path]:
        """Every path that is named, by its key."""
        data = self.model_dump(mode="json")
        found = (place for pattern in path_keys(type(self)) for place in places(data, pattern))
        return {key: Path(holder[last]) for holder, last, key in found if isinstance(holder[last], str)}

    def file_words(self) -> tuple[Path, ...]:
        """Files that are named among the words of `FILE_WORDS`; a loaded spec has their whole paths."""
        data = self.model_dump(mode="json")
        words = (holder[last] for pattern in self.FILE_WORDS for holder, last, _ in places(data, pattern))
        return tuple(Path(word) for word in words if os.path.isabs(word) and os.path.isfile(word))

    def folders(self) -> tuple[Path, ...]:
        """Where the run reads or writes outside its own folder."""
        named = (*self.paths().values(), *self.file_words())
        return tuple(dict.fromkeys(path.parent for path in named))

    def hash(self) -> str:
        """Twelve hex digits that change with any field: the identity of what is asked for.

        Of a range that is asked for it is the range, not the shape that was picked from it.
        """
        asked = self.model_dump(mode="json")
        for field in self.resources.picked_fields:
            del asked["resources"][field]
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@functools.cache
def path_keys(task: type[TaskSpec]) -> tuple[tuple[str, ...], ...]:
    """Patterns of the keys that hold paths: made absolute, `~` and `$VARIABLES` expanded, when a spec is loaded."""
    return tuple(dict.fromkeys(_path_keys(task)))


def _path_keys(kind: Any) -> Iterator[tuple[str, ...]]:
    """Where paths stand within a field's type."""
    if kind is Path:
        yield ()
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield from ((name, *below) for below in _path_keys(field.annotation))
    else:
        each = (EVERY,) if get_origin(kind) is tuple else ()
        for argument in get_args(kind):
            # A validator among them takes something else too, such as a path in place of a section.
            written = getattr(argument, "json_schema_input_type", argument)
            yield from ((*each, *below) for below in _path_keys(written))


def places(data: Any, pattern: tuple[str, ...], above: Key = ()) -> Iterator[tuple[Any, Any, Key]]:
    """Where in a document what a pattern means stands: what holds it, its label there, and its key."""
    label, *rest = pattern
    is_list = label == EVERY
    if not isinstance(data, list if is_list else dict):
        return
    labels: Iterable[Any] = range(len(data)) if is_list else [label] if label in data else []
    for each in labels:
        if rest:
            yield from places(data[each], tuple(rest), (*above, each))
        else:
            yield data, each, (*above, each)
