"""The code that will be frozen into the run: which commit, and what is on top of it."""

from dataclasses import dataclass
from pathlib import Path

import sedd
from sedd.cluster.command import SlurmUnreachableError, run
from sedd.errors import ClusterError
from sedd.preflight.check import SLURM_TIMEOUT_S, Check, CheckContext, Side, Verdict, ok, warn


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    commit: str | None
    """None: the code is not in a git repository."""
    branch: str
    changed: tuple[str, ...]
    """Files of the package that differ from the commit."""


def gather(context: CheckContext) -> Facts:
    package = Path(sedd.__file__).parent
    git = ["git", "--no-optional-locks", "-C", str(package)]
    try:
        commit = run([*git, "rev-parse", "--short=10", "HEAD"], timeout_s=SLURM_TIMEOUT_S).strip()
    except SlurmUnreachableError as e:
        if "command not found" not in e.message:
            raise
        return Facts(commit=None, branch="", changed=())
    except ClusterError:  # installed from a wheel
        return Facts(commit=None, branch="", changed=())
    branch = run([*git, "rev-parse", "--abbrev-ref", "HEAD"], timeout_s=SLURM_TIMEOUT_S).strip()
    status = run([*git, "status", "--porcelain", "--", "."], timeout_s=SLURM_TIMEOUT_S)
    return Facts(commit=commit, branch=branch, changed=tuple(line[3:] for line in status.splitlines()))


def judge(facts: Facts) -> Verdict:
    if facts.commit is None:
        return ok("no git repository: the run keeps a copy of the code")
    saw = f"commit {facts.commit} on {facts.branch}"
    if facts.changed:
        some = ", ".join(facts.changed[:3]) + ("…" if len(facts.changed) > 3 else "")
        return warn(
            f"{saw}, and {len(facts.changed)} {'file' if len(facts.changed) == 1 else 'files'} changed since ({some})",
            "commit them, to find this code again; the run keeps a copy in any case",
        )
    return ok(f"{saw}, nothing changed since")


CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="results of code that no commit holds",
    takes="0.1 s",
    passing=Facts(commit="4f748ba1c2", branch="main", changed=()),
    failing=Facts(commit="4f748ba1c2", branch="main", changed=("sedd/training/loop.py",)),
)
