"""`python -m sedd.launch.worker RUN`: the training process of one rank, started by the job entry.

It ends with a code of `sedd/rundir/exits.py`; the job entry decides what follows.
"""

import dataclasses
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from sedd.errors import RunError, SeddError
from sedd.launch.freeze import imported_package, require_frozen
from sedd.launch.resources import read_manifest_profile
from sedd.launch.words import say
from sedd.rundir.attempts import Cause
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sedd.preflight.finding import Finding
    from sedd.training.distributed import Ranks
    from sedd.training.stop import StopFlag


def main(path: str) -> Exit:
    """Train a run as the rank that the environment names."""
    from sedd.training.stop import StopFlag

    stop = StopFlag()
    stop.install()  # before torch is imported: that takes seconds in which a signal would kill
    run, attempt = RunDir(Path(path)), int(os.environ["SEDD_ATTEMPT"])
    try:
        return _train(run, attempt, stop)
    except Exception as error:  # the last chance to say why: the job entry reads only the exit code
        _print_error(error)
        return _say_failed(run, attempt, error)


def _train(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    from sedd.training.distributed import Ranks
    from sedd.training.run import Outcome, train

    require_frozen(run, package=imported_package())
    ranks = Ranks.from_environment(os.environ)
    _require_fit_node(run, attempt, ranks)
    wandb = read_manifest_profile(run).wandb
    outcome = train(run, attempt=attempt, ranks=ranks, stop=stop, wandb=wandb)
    return Exit.COMPLETED if outcome is Outcome.COMPLETED else Exit.STOPPED


def _require_fit_node(run: RunDir, attempt: int, ranks: "Ranks") -> None:
    """Run the node preflight; rank 0 says what it found.

    Raises:
        NodeFaultError: the node is at fault. RunError: the job is, and would be on any node.
    """
    from sedd.preflight.finding import Status, has_failures
    from sedd.preflight.run import check_node

    findings = check_node(
        load_resolved(run.spec),
        read_manifest_profile(run),
        run,
        ranks_size=ranks.size,
        rank=ranks.rank,
        local_rank=ranks.local_rank,
    )
    remarkable = [finding for finding in findings if finding.status is not Status.OK]
    for finding in remarkable:
        print(f"preflight {finding.status}: {finding.check}: {finding.saw}", flush=True)
    fails = has_failures(findings)
    if ranks.is_first or fails:
        told = [dataclasses.asdict(finding) for finding in remarkable]
        say(run, "preflight", attempt=attempt, side="node", ok=not fails, findings=told, rank=ranks.rank)
    if fails:
        raise blame([finding for finding in findings if finding.status is Status.FAIL])


def blame(failed: "Sequence[Finding]") -> Exception:
    """The error for failed node checks: another node helps where one of them is about the node."""
    from sedd.preflight.check import all_checks
    from sedd.training.faults import NodeFaultError

    message = "node preflight failed: " + ", ".join(f"{f.check}: {f.saw}" for f in failed)
    is_nodes = any(all_checks()[finding.check].of_node for finding in failed)
    return NodeFaultError(message) if is_nodes else RunError(message)


def _print_error(error: Exception) -> None:
    """Into the log: a line and its hint for what the user can mend, a traceback for everything else."""
    if not _is_users(error):
        traceback.print_exc()
        return
    hint = getattr(error, "hint", None)
    print(f"error: {error}", *([f"hint: {hint}"] if hint else []), sep="\n", file=sys.stderr, flush=True)


def _is_users(error: Exception) -> bool:
    from sedd.training.faults import NodeFaultError

    return isinstance(error, SeddError | NodeFaultError)


def _say_failed(run: RunDir, attempt: int, error: Exception) -> Exit:
    from sedd.training.faults import is_node_fault

    code = Exit.NODE_FAULT if is_node_fault(error) else Exit.CRASHED
    say(
        run,
        "failed",
        attempt=attempt,
        cause=Cause.NODE_FAULT if code is Exit.NODE_FAULT else Cause.CRASHED,
        error=str(error) if _is_users(error) else traceback.format_exception_only(error)[-1].strip(),
        rank=int(os.environ.get("RANK", 0)),
        host=os.environ.get("SEDD_HOST", ""),
    )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
