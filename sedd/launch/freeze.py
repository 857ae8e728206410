"""The code of a run: copied into its folder at submission, verified and imported from there by its jobs."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sedd
from sedd.errors import RunError
from sedd.rundir.layout import RunDir, read_manifest

PACKAGES = ("torch", "numpy", "submitit", "pydantic", "wandb", "einops")
_GIT_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Git:
    """Where the code came from: the commit, and a hash of what was not committed (None: nothing)."""

    commit: str
    dirty: str | None


def imported_package() -> Path:
    """Folder of the `sedd` that this process runs."""
    return Path(sedd.__file__).resolve().parent


def freeze_code(target: Path, *, package: Path) -> str:
    """Copy a package's sources to `target/sedd`; returns their hash. Raises: RunError when it cannot write."""
    try:
        for source in _sources(package):
            copy = target / "sedd" / source.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    except OSError as e:
        raise RunError(
            f"cannot copy the code to {target}: {e.strerror}",
            hint="set SEDD_RUNS to a folder with space that you may write",
        ) from e
    return code_hash(target / "sedd")


def code_hash(package: Path) -> str:
    """Sixteen hex digits over names and contents of a package's sources."""
    digest = hashlib.sha256()
    for source in _sources(package):
        content = source.read_bytes()
        digest.update(f"{source.relative_to(package).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def share_code(run: RunDir, code: Path) -> None:
    """Let the run use a frozen copy that the points of its sweep have in common."""
    run.code.symlink_to(os.path.relpath(code, run.path), target_is_directory=True)


def slots_folder(code: Path) -> Path:
    """Where a local sweep keeps its places: beside the frozen code that its points share.

    A file of it is a place for one run at a time, and says which of the visible cards is the first of that run's.
    """
    return code.resolve().parent / "slots"


def require_frozen(run: RunDir, *, package: Path) -> None:
    """Make sure that `package`, the imported one, is the run's own copy, unchanged.

    Raises:
        RunError: another copy was imported, or the copy was edited after submission.
    """
    own = (run.code / "sedd").resolve()
    if package != own:
        raise RunError(
            f"the job imported {package} instead of its frozen code {own}",
            hint="does a setup line or a .pth file put another sedd in front?",
        )
    expected, seen = read_manifest(run).get("code_hash"), code_hash(package)
    if seen != expected:
        raise RunError(
            f"the code in {own} was changed after submission: hash {seen}, the manifest says {expected}",
            hint="submit again: a run is one version of the code",
        )


def versions() -> dict[str, str]:
    """Versions of Python and of what the results depend on, read without importing it."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(package: Path) -> Git | None:
    """Commit and uncommitted changes of the checkout that tracks `package`; None outside one, or without git."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return None
    difference = _git(package, "diff", "HEAD", "--", ".") or b""
    unknown = _git(package, "ls-files", "--others", "--exclude-standard", "--", ".") or b""
    changed = difference + unknown
    return Git(
        commit=commit.decode().strip(),
        dirty=hashlib.sha256(changed).hexdigest()[:16] if changed else None,
    )


def _sources(package: Path) -> Iterator[Path]:
    files = (p for p in package.rglob("*") if p.suffix in (".py", ".cu") or p.name == "py.typed")
    return iter(sorted(p for p in files if "__pycache__" not in p.parts))


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Output of a git command, or None when there is no git, no repository, or no answer in time."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
