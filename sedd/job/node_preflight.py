"""The node preflight of a job, before its work begins."""

import errno
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sedd.errors import DiskFullError, MisfitError
from sedd.job.final_events import record_event
from sedd.launch.resources import read_manifest_profile
from sedd.rundir.attempts import CARD_SPEED
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved

if TYPE_CHECKING:
    from sedd.preflight.finding import Finding

_NO_SPACE = re.compile(rf"{os.strerror(errno.ENOSPC)}|{os.strerror(errno.EDQUOT)}", re.IGNORECASE)
"""What a check says that tried to write while the disk was full."""


def require_fit_node(run: RunDir, attempt: int, *, ranks_size: int, rank: int, local_rank: int) -> None:
    """Run the node preflight; rank 0 says what it found.

    Raises:
        NodeFaultError: the node is at fault. DiskFullError: it is worth waiting for space.
        MisfitError: the job is at fault, and would be on any node: it is given up. PeerAbsentError: another node is.
    """
    from sedd.preflight.finding import Status, has_failures
    from sedd.preflight.run_checks import check_node

    findings = check_node(
        load_resolved(run.spec),
        read_manifest_profile(run),
        run,
        ranks_size=ranks_size,
        rank=rank,
        local_rank=local_rank,
    )
    remarkable = [finding for finding in findings if finding.status is not Status.OK]
    for finding in remarkable:
        print(f"preflight {finding.status}: {finding.check}: {finding.saw}", flush=True)
    fails = has_failures(findings)
    is_slow = any(finding.check == CARD_SPEED for finding in remarkable)
    if rank == 0 or fails or is_slow:
        found = [finding.as_json() for finding in remarkable]
        record_event(
            run,
            "preflight",
            attempt=attempt,
            side="node",
            ok=not fails,
            findings=found,
            rank=rank,
            host=os.environ.get("SEDD_HOST", ""),
        )
    if fails:
        raise blame([finding for finding in findings if finding.status is Status.FAIL])


def blame(failed: "Sequence[Finding]") -> Exception:
    """The error for failed node checks: by it another node is tried, or space waited for, or the run given up.

    One that may be the node's comes first: what else has failed may follow from it. That another node is missed comes
    last.
    """
    from sedd.preflight.finding import Fault
    from sedd.training.faults import NodeFaultError, PeerAbsentError

    message = "node preflight failed: " + ", ".join(f"{f.check}: {f.saw}" for f in failed)
    faults = {finding.fault for finding in failed}
    absent = tuple(dict.fromkeys(rank for finding in failed for rank in finding.absent))
    if Fault.NODE in faults:
        return NodeFaultError(message, absent=absent)
    if faults == {Fault.PEER}:
        return PeerAbsentError(message, absent=absent)
    is_full = Fault.DISK in faults or any(_NO_SPACE.search(finding.saw) for finding in failed)
    return (DiskFullError if is_full else MisfitError)(message, hint=failed[0].hint or None)
