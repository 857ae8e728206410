"""Find the run folders that a user's text names; each by its real path, whatever links lead there.

Jobs name their run by its real path, in their command lines and in notes: by another one a run that trains would pass
for one of which nothing lives.
"""

import contextlib
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sedd.config.user_config import config_file, config_path, read_user_config
from sedd.errors import UsageError, did_you_mean
from sedd.home import expand_home
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, has_run_files, is_run, read_manifest
from sedd.rundir.owner import newest_of
from sedd.rundir.plan_record import PlanRecord, find_plan, plain_name


def runs_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Where runs live: `$SEDD_RUNS`, else the user's own `runs:`, else `./runs`.

    Raises:
        SpecError: the user's configuration has mistakes.
        UsageError: what is named is not a folder, or one that this user may not read.
    """
    root, origin = _named_root(environment)
    if os.path.exists(root) and not os.path.isdir(root):
        raise UsageError(
            f"{root} is not a folder, so no runs are in it", hint=f"{origin or './runs'} names it"
        )
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it is made when the first run is
        try:
            os.scandir(root).close()
            os.stat(f"{root}/.")  # a folder may be listed whose files may not be reached
        except PermissionError as e:
            raise UsageError(
                f"the folder of runs, {root}, cannot be read: {e.strerror}",
                hint=(f"{origin} names it; " if origin else "") + "set SEDD_RUNS to one that you may read",
            ) from e
    return root


def describe_root(root: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Which setting names the folder of runs, and whether it exists; empty for a folder that none of them names."""
    chosen, origin = _named_root(environment)
    if root != chosen:
        return ""
    lack = "" if root.exists() else ", which does not exist"
    if origin:
        return f"{origin} names {root}{lack}"
    another = f"$SEDD_RUNS, or `runs:` in {config_file(environment)}, names another folder"
    return f"runs are looked for in ./runs of the current folder{lack}; {another}"


def find_missing_root(root: Path, environment: Mapping[str, str] = os.environ) -> str | None:
    """That the folder of runs does not exist, and which setting names it, in words; None where it does."""
    return describe_root(root, environment) or None if not root.exists() else None


def _named_root(environment: Mapping[str, str]) -> tuple[Path, str | None]:
    """The folder of runs, and the setting that names it; None for `./runs`."""
    if chosen := environment.get("SEDD_RUNS"):
        path = expand_home(chosen)
        relative = "" if path.is_absolute() else ", relative to the current folder,"
        return path.absolute(), f"$SEDD_RUNS{relative}"
    config = read_user_config(environment)
    if config and config.runs:
        return config_path(config.runs, environment), f"`runs:` in {config_file(environment)}"
    return Path("runs").absolute(), None


def typed_name(run: RunDir, environment: Mapping[str, str] = os.environ) -> str:
    """What to type for a run in a command: its id, or its path where the folder of runs has no run of that id, or
    another one.
    """
    return _typed_folder(run.path, run.id, run.path, environment)


def typed_plan(record: PlanRecord, environment: Mapping[str, str] = os.environ) -> str:
    """As `typed_name`, of a plan: its name, or the folder of that name."""
    return _typed_folder(record.folder, record.name, record.folder.parent, environment)


def typed_sweep(run: RunDir, sweep: str, environment: Mapping[str, str] = os.environ) -> str:
    """As `typed_name`, of the sweep that a run is a point of: its id, or a path that ends in it."""
    return _typed_folder(run.path, sweep, run.path.parent / sweep, environment)


def _typed_folder(inside: Path, name: str, path: Path, environment: Mapping[str, str]) -> str:
    """`name` where `inside` is a folder two levels below the folder of runs, else `path`."""
    with contextlib.suppress(UsageError):
        root = os.path.realpath(_named_root(environment)[0])
        if os.path.dirname(os.path.dirname(os.path.realpath(inside))) == root:
            return shlex.quote(name)
    return shlex.quote(str(path))


def refuse_spec(path: Path) -> None:
    """Refuse a spec where a run, or its network, is asked for. Raises: UsageError."""
    if path.suffix in (".yaml", ".yml") and path.is_file():
        raise UsageError(
            f"{path} is a spec, not a run",
            hint="name a run, by the `name:` in the spec or by its id",
        )


def list_runs(root: Path) -> list[RunDir]:
    """Every run below the root, oldest first; none where the folder does not exist."""
    return sorted(dict.fromkeys(_scan(root)), key=lambda run: run.id)


def list_runs_of_name(folder: Path) -> list[RunDir]:
    """The runs in `runs/<name>`, oldest first."""
    return sorted(filter(is_run, map(RunDir, _folders(folder))), key=lambda run: run.id)


def find_run(text: str, root: Path) -> RunDir:
    """A run folder, run id (or its unique beginning), `name/id`, job id or run name.

    A name, and `runs/<name>`, mean its newest run, of this user where they have one of that name. A slash at the end,
    as a shell completes it, and `./` in front change nothing: what is no path here may be a name.

    Raises:
        UsageError: nothing, or more than one thing, answers to `text`.
    """
    text = _required(text)
    folder = RunDir(expand_home(text).absolute())
    if is_run(folder):
        return RunDir(folder.path.resolve())
    if inside := list_runs_of_name(folder.path):
        return newest_of(inside)
    if is_run(below := RunDir(root / text)):  # name/id, as messages have it
        return RunDir(below.path.resolve())
    if linked := list_runs_of_name(root / text):
        return newest_of(linked)
    runs = list_runs(root)
    if named := [run for run in runs if run.name == text]:
        return newest_of(named)
    if exact := [run for run in runs if run.id == text]:
        return exact[0]
    # Before beginnings of ids, which are dates: 202611 may be a job.
    is_job = text.replace("_", "").isdigit() or ":" in text  # SLURM's 12_3, or host:pid:start of a local one
    if is_job and (found := [run for run in runs if text in _job_ids(run)]):
        return found[-1]
    begun = [run for run in runs if run.id.startswith(text)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        many = f"'{text}' is the beginning of {len(begun)} run ids"
        raise UsageError(many, hint=f"the newest is {begun[-1].id}")
    if os.sep in text or folder.path.is_file() or folder.manifest.exists():
        raise _no_run_at(folder.path)
    raise UsageError(f"no run '{text}' in {root}", hint=_hint(text, runs, root))


def find_runs(text: str, root: Path) -> list[RunDir]:
    """As `find_run`; a plan, a sweep's id or folder, a name whose newest run is a point of one, a job array: all runs.

    Raises:
        UsageError, RunError: as `find_run` and `read_manifest`.
    """
    text = _required(text)
    if plan := find_plan(text, root):
        return [run for run in plan.runs if run.manifest.exists()]
    path = expand_home(text).absolute()
    if path.name.startswith("sweep-"):
        named = [path, *(name / path.name for name in _folders(root))]
        folder = next(filter(os.path.isdir, named), path)
        if points := _points(folder.parent, path.name):
            return points
    if text.isdigit() and (tasks := [run for run in list_runs(root) if _is_task_of(run, text)]):
        return tasks
    found = find_run(text, root)
    sweep = read_manifest(found).get("sweep")
    is_all = is_name_of(text, found) or is_name_of(str(root / text), found)
    return _points(found.path.parent, sweep) if sweep and is_all else [found]


def is_name_of(text: str, run: RunDir) -> bool:
    """Whether a text is a run's name, or the folder of that name by whatever links, and not the run itself."""
    folder = os.path.realpath(expand_home(text))
    return plain_name(text) == run.name or folder == os.path.realpath(run.path.parent)


def _required(text: str) -> str:
    """The plain name. An empty one, as of an unset variable, would be the beginning of every id."""
    if not text.strip():
        raise UsageError("the name of a run is empty", hint="`sedd status --all` lists the runs")
    return plain_name(text)


def each_once(runs: Iterable[RunDir]) -> list[RunDir]:
    """The runs in their order, each once, however the path to its folder is written."""
    first: dict[str, RunDir] = {}
    for run in runs:
        first.setdefault(os.path.realpath(run.path), run)
    return list(first.values())


def _points(folder: Path, sweep: str) -> list[RunDir]:
    return [run for run in list_runs_of_name(folder) if read_manifest(run).get("sweep") == sweep]


def _scan(root: Path) -> Iterator[RunDir]:
    """Runs by two directory levels, without opening a file of theirs."""
    for name in _folders(root):
        yield from filter(has_run_files, map(RunDir, _folders(name)))


def _folders(parent: Path) -> list[Path]:
    """The real paths of the folders in a folder; links to folders are among them."""
    try:
        entries = [e for e in os.scandir(os.path.realpath(parent)) if e.is_dir() and e.name[0] != "."]
    except OSError:
        return []
    return [Path(os.path.realpath(entry.path) if entry.is_symlink() else entry.path) for entry in entries]


def _job_ids(run: RunDir) -> set[str]:
    return {str(e.get("job_id")) for e in read_events(run.events) if e.get("job_id")}


def _is_task_of(run: RunDir, array: str) -> bool:
    return any(job.startswith(f"{array}_") for job in _job_ids(run))


def _no_run_at(path: Path) -> UsageError:
    beside = did_you_mean(path.name, [folder.name for folder in _folders(path.parent)])
    refuse_spec(path)
    if RunDir(path).manifest.exists():
        return UsageError(
            f"{path} is not a run: its manifest.json is of something else",
            hint="of a token store, `sedd data info` shows it; `sedd status` shows runs",
        )
    if path.exists():
        return UsageError(
            f"{path} holds no run", hint="a run's folder is runs/NAME/ID; runs/NAME is the newest there"
        )
    return UsageError(
        f"{path} does not exist", hint=beside or "it may be a run's folder, or runs/NAME for the newest there"
    )


def _hint(text: str, runs: list[RunDir], root: Path) -> str:
    near = did_you_mean(text, {run.name for run in runs})
    listed = "`sedd status --all` lists the runs" if root.exists() else ""
    return near or "; ".join(filter(None, (describe_root(root), listed)))
