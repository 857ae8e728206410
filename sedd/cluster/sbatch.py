"""Submitting a batch script, and reading from sbatch's answer which job it became."""

import datetime as dt
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from sedd.cluster.command import SlurmUnreachableError, call
from sedd.cluster.inherited import Reader, environment_for
from sedd.cluster.jobs import parse_time
from sedd.errors import ClusterError

SBATCH_TIMEOUT_S = 600.0
"""sbatch retries for minutes where slurmctld is busy; ending it early may leave a job behind that nobody knows."""
_EXPECTED = re.compile(r"\bJob \S+ to start at (?P<time>\S+)")
# The whole line: sites wrap sbatch, and greet with text that may speak of jobs too.
_ANSWER = re.compile(r"Submitted batch job (?P<id>\d+)(?: on cluster (?P<cluster>\S+))?")


class SubmissionRefusedError(ClusterError):
    """SLURM has refused the job: there is none."""


def sbatch(script: Path, *, environ: Mapping[str, str] = os.environ, keeps_open: Sequence[int] = ()) -> str:
    """Submit a batch script; returns the job's id (of an array, the array's).

    sbatch holds the descriptors `keeps_open`: a lock stays until it has ended, whatever becomes of this process.

    Raises:
        SubmissionRefusedError: SLURM refused.
        SlurmUnreachableError: no answer; whether there is a job now is not known.
        ClusterError: it answered without a job id.
    """
    environment = environment_for(Reader.SLURM_JOB, environ)
    try:
        answer = call(
            ["sbatch", str(script)],
            timeout_s=SBATCH_TIMEOUT_S,
            environment=environment,
            keeps_open=keeps_open,
        )
    except SlurmUnreachableError:
        raise
    except ClusterError as e:
        reason = e.message.removeprefix(f"sbatch {shlex.quote(str(script))}: ")
        raise SubmissionRefusedError(
            f"sbatch: {reason}", hint="sedd preflight SPEC --cluster PROFILE looks closer"
        ) from e
    return parse_answer(answer.stdout)


def parse_answer(text: str) -> str:
    """The job's id in what sbatch printed: in the last line that is its answer and nothing else.

    Raises:
        ClusterError: there is none.
    """
    answers = [match for line in text.splitlines() if (match := _ANSWER.fullmatch(line.strip()))]
    if not answers:
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
        raise ClusterError(
            f"sbatch accepted the job without printing its id; its last line is: {last}",
            hint="squeue --me shows whether there is a job now; scancel ends it",
        )
    return answers[-1]["id"]


def parse_expected_start(text: str) -> dt.datetime | None:
    """When a job would start, in the answer to `sbatch --test-only`; None where it does not say."""
    match = _EXPECTED.search(text)
    return parse_time(match["time"]) if match else None
