"""The shell lines of a batch script before srun: the profile's `setup`, watched, and what else a job needs.

A line of `setup` that fails is printed into the job's log and passed to the job entry (`require_setup`). As with
`set -e`, a command that is asked for its exit code (`if`, `&&`, `||`) does not count; of a sourced file only the last
command does. Where `setup` ends the script (`exit`, `set -e`, `set -u`), its last line is run all the same.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.setup import ENDED, FAILED, may_go_on, setup_failure
from sedd.errors import RunError


def setup_lines(profile: SlurmProfile, *, code: Path, lead_s: int, last_line: str) -> list[str]:
    """The lines before srun. `last_line` is the script's last, in case that `setup` ends the script."""
    scratch = [f'export TMPDIR="{profile.scratch}" && mkdir -p "$TMPDIR"'] if profile.scratch else []
    return [
        # A handler, not '': programs started here would inherit an ignored signal. With it the shell outlives
        # a signal to the whole job and reaches the last line.
        "trap : TERM USR2",
        *(_watched(profile.setup, code, last_line) if profile.setup else ()),
        *scratch,
        f'export PYTHONPATH={shlex.quote(str(code))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        "export PYTHONSAFEPATH=1",
        f"export SEDD_LEAD_S={lead_s}",
        # Not every SLURM tells it as SLURM_JOB_START_TIME.
        "export SEDD_JOB_START=$(date +%s)",
        # srun reads these as its options; a line of `setup`, or what it sources, may have set them.
        "export SLURM_EXPORT_ENV=ALL",
        "unset SRUN_EXPORT_ENV SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU",
    ]


def _watched(setup: Sequence[str], code: Path, last_line: str) -> list[str]:
    """The lines of `setup` between traps that notice a failure, and an end of the script."""
    end = f"PYTHONPATH={shlex.quote(str(code))} PYTHONSAFEPATH=1 {last_line}"
    return [
        "sedd_failed() {  # exit code, line",
        # A line that a stop signal (TERM, USR2) has ended has not failed.
        f'  case $1 in 140|143) return ;; esac; [ -n "${{{FAILED}-}}" ] && return',
        f'  export {FAILED}="$2 $1"; echo "setup: line $2 failed with exit code $1"',
        "}",
        "sedd_ended() {",
        f"  trap - ERR EXIT; set +eu +o posix; sedd_failed $1 0; export {ENDED}=1",
        f"  {end}; exit $?",
        "}",
        # Inside a sourced file or a function the depth is larger.
        "trap 'sedd_code=$?; [ ${#BASH_SOURCE[@]} -gt 1 ] || sedd_failed $sedd_code $((LINENO - sedd_begin))' ERR",
        "trap 'sedd_ended $?' EXIT",
        f"unset {FAILED} {ENDED}; sedd_begin=$LINENO",
        *setup,
        "trap - ERR; set +eu +o pipefail +o posix",
        # Theirs may have taken the place of ours: it removes their files.
        "case $(trap -p EXIT) in *sedd_ended*) trap - EXIT ;; esac",
    ]


def require_setup(profile: SlurmProfile, environ: Mapping[str, str]) -> None:
    """Raises: RunError when a line of `setup` failed, and the profile says that all must succeed."""
    failure = setup_failure(profile, environ)
    if failure is not None and not may_go_on(profile, environ):
        raise RunError(failure, hint="mend it; setup_must_succeed: false in the profile continues without it")
