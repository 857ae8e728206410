"""What a plan has become: which run folders are its stages. A file that says so; the runs themselves say all else.

runs/<plan>/plan-<id>/plan.json     one a submission that changed anything; the newest is the plan
                      plan.yaml     the file as it was written
             best/                  links to the best of several trainings
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.errors import RunError
from sedd.home import expand_home
from sedd.rundir.atomic import write_text
from sedd.rundir.layout import RunDir
from sedd.rundir.owner import is_own, other_owner_of
from sedd.rundir.shared_folder import make_shared

PREFIX = "plan-"
_FILE = "plan.json"
_OWNER_WRITES = 0o755
"""Mode of a file that only its owner may write, also by a group's umask of 002."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One stage.

    Attributes:
        waits: needed stage to how it is waited for: afterok, afterany, on_failure.
        by_point: those of the needed stages of which point i alone is waited for.
    """

    name: str
    task: str
    runs: tuple[RunDir, ...]
    waits: Mapping[str, str]
    by_point: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """A plan; a stage stands behind all that it needs."""

    name: str
    folder: Path
    stages: tuple[StageRecord, ...]

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def runs(self) -> tuple[RunDir, ...]:
        """All runs, those first for which others wait; each once."""
        return tuple(dict.fromkeys(run for stage in self.stages for run in stage.runs))

    def needs_of(self, run: RunDir) -> list[tuple[RunDir, str]]:
        """The runs that a run waits for, and how."""
        by_name = {stage.name: stage.runs for stage in self.stages}
        found: list[tuple[RunDir, str]] = []
        for stage in self.stages:
            for number in [n for n, own in enumerate(stage.runs) if own == run]:
                for name, wait in stage.waits.items():
                    runs = by_name[name]
                    fed = runs[number : number + 1] if name in stage.by_point else runs
                    found += [(need, wait) for need in fed]
        return found

    def is_in_vain(self, run: RunDir, failed: Collection[RunDir]) -> bool:
        """Whether a run waits for the success of one that has failed, or that itself waits in vain."""
        return any(
            wait == "afterok" and (need in failed or self.is_in_vain(need, failed))
            for need, wait in self.needs_of(run)
        )


def write_plan(record: PlanRecord, source: str) -> None:
    """Write a plan's folder. Raises: RunError."""
    stages = [
        {
            "name": stage.name,
            "task": stage.task,
            "runs": [str(run.path) for run in stage.runs],
            "waits": dict(stage.waits),
            "by_point": list(stage.by_point),
        }
        for stage in record.stages
    ]
    try:
        make_shared(record.folder.parent)
        record.folder.mkdir(exist_ok=True)
        write_text(record.folder / "plan.yaml", source)
        file = record.folder / _FILE
        write_text(file, json.dumps({"name": record.name, "stages": stages}, indent=1) + "\n")
        file.chmod(file.stat().st_mode & _OWNER_WRITES)  # `find_own_plan` goes by that
    except OSError as e:
        raise RunError(f"cannot write {record.folder}: {e.strerror or e}") from e


def read_plan(folder: Path) -> PlanRecord:
    """The plan in a folder. Raises: RunError when it is none, or damaged."""
    try:
        data = json.loads((folder / _FILE).read_bytes())
        stages = tuple(_stage(stage) for stage in data["stages"])
        return PlanRecord(name=str(data["name"]), folder=folder, stages=stages)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise RunError(f"cannot read {folder / _FILE}: {e}") from e


def plain_name(text: str) -> str:
    """What a user typed for a run, sweep or plan without what a shell or a habit adds: `mine/`, `./mine` are `mine`."""
    return str(Path(text)) if text else text


def find_plan(text: str, root: Path) -> PlanRecord | None:
    """The plan that an id, a name or a folder of one of these names; None: it names no plan.

    Of a name the newest, of this user where they have one of that name.
    """
    if not text:
        return None
    text = plain_name(text)
    path = expand_home(text).absolute()
    by_id = [path, *(folder / path.name for folder in sorted(root.glob("*")))]
    if path.name.startswith(PREFIX) and (found := [each for each in by_id if os.path.exists(each / _FILE)]):
        return read_plan(found[0])
    for of_name in dict.fromkeys((path, root / text)):
        if folders := sorted(found.parent for found in of_name.glob(f"{PREFIX}*/{_FILE}")):
            return read_plan(next(filter(is_own, reversed(folders)), folders[-1]))
    return None


def find_own_plan(name: str, root: Path) -> PlanRecord | None:
    """The newest plan of a name that this user may change; None where there is none."""
    plan = find_plan(name, root)
    return None if plan is None or other_owner_of(plan.folder, plan.folder / _FILE) else plan


def find_plans(texts: Iterable[str], root: Path) -> list[PlanRecord]:
    """The plans among what some texts name, each once, however it is named. Raises: RunError for a damaged one."""
    first: dict[str, PlanRecord] = {}
    for text in texts:
        if plan := find_plan(text, root):
            first.setdefault(os.path.realpath(plan.folder), plan)
    return list(first.values())


def list_plans(root: Path) -> list[PlanRecord]:
    """The newest record of every plan of each user, oldest first; damaged ones are passed over."""
    newest: dict[tuple[Path, int], Path] = {}
    for found in sorted(root.glob(f"*/{PREFIX}*/{_FILE}")):
        with contextlib.suppress(OSError):
            newest[found.parents[1], found.parent.stat().st_uid] = found.parent
    records = []
    for folder in newest.values():
        try:
            records.append(read_plan(folder))
        except RunError:
            continue
    return sorted(records, key=lambda record: record.id)


def _stage(data: Any) -> StageRecord:
    return StageRecord(
        name=str(data["name"]),
        task=str(data["task"]),
        runs=tuple(RunDir(Path(path)) for path in data["runs"]),
        waits=dict(data["waits"]),
        by_point=tuple(data["by_point"]),
    )
