"""`sedd --version`: the version and commit of this code, of Python and of torch."""

import importlib.metadata
import json
import platform
from pathlib import Path

from sedd import __version__
from sedd.launch.freeze import git_state, imported_package

DISTRIBUTION = "protein-sedd"


def version_text() -> str:
    """`protein-sedd 0.1.0, commit 1a2b3c4d5e6f`, then Python and torch; nothing heavy is imported for it."""
    package = imported_package()
    code = ", ".join(filter(None, [f"{DISTRIBUTION} {__version__}", _commit(package)]))
    torch = _torch_version()
    return f"{code}\npython {platform.python_version()}, {f'torch {torch}' if torch else 'torch is not installed'}"


def _torch_version() -> str | None:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(package: Path) -> str:
    """`commit 1a2b3c4d5e6f, with changes` of the checkout that holds the package, or of what pip installed it from."""
    if state := git_state(package):
        return f"commit {state.commit[:12]}" + (", with changes" if state.dirty else "")
    commit = _installed_commit(package)
    return f"commit {commit[:12]}" if commit else ""


def _installed_commit(package: Path) -> str | None:
    """The commit that pip noted when it installed this very package from a git address (PEP 610)."""
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
        if Path(str(installed.locate_file(package.name))).resolve() != package:
            return None  # another copy stands in front of the installed one
        commit = (
            json.loads(installed.read_text("direct_url.json") or "{}").get("vcs_info", {}).get("commit_id")
        )
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return commit if isinstance(commit, str) else None
