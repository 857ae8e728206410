"""The only place that starts a SLURM command."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sedd.cluster.inherited import Reader, environment_for
from sedd.errors import ClusterError
from sedd.waiting import told_if_slow

DEFAULT_TIMEOUT_S = 20.0

_NO_CLUSTER = "could not establish a configuration source"
"""SLURM's commands are here, but no slurm.conf and no server that would give one: sbatch has sent nothing."""
_HERE = "run this on a login node of the cluster; new runs need no SLURM with the profile slurm/local.yaml"
_UNREACHABLE = (
    "unable to contact slurm controller",
    "socket timed out",
    "zero bytes were transmitted",
    "connection refused",
    "slurm_persist_conn_open",
    "unable to connect to database",
    "slurm backup controller in standby mode",
)
_PREFIX = re.compile(r"^\w+: ((error|fatal): )?")


class SlurmUnreachableError(ClusterError):
    """SLURM gave no answer: not installed here, too slow, or its daemons are down. Nothing was learnt."""


class SlurmMissingError(SlurmUnreachableError):
    """SLURM's commands are not on this machine, or know no cluster here: asking again is in vain."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command that succeeded wrote."""

    stdout: str
    stderr: str


def run(command: Sequence[str], *, timeout_s: float = DEFAULT_TIMEOUT_S, stdin: str | None = None) -> str:
    """Standard output of a command that succeeded; times in SLURM's are seconds since 1970.

    Raises:
        SlurmUnreachableError: no such command, no answer within `timeout_s`, or no daemon behind it.
        ClusterError: the command failed; the message has the first line of its standard error.
    """
    return call(command, timeout_s=timeout_s, stdin=stdin).stdout


def call(
    command: Sequence[str],
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    keeps_open: Sequence[int] = (),
) -> Answer:
    """As `run`, with standard error, on which `sbatch --test-only` answers.

    `environment` is that of the command; None: ours, with the command's output pinned. `keeps_open` are descriptors
    that the command holds, too, such as that of a lock.
    """
    try:
        # errors="replace": SLURM cuts fields at bytes, which can halve a letter of a job name.
        with told_if_slow(f"{command[0]} has not answered yet", limit_s=timeout_s):
            done = subprocess.run(
                list(command),
                input="" if stdin is None else stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
                env=clean_environment(os.environ) if environment is None else environment,
                pass_fds=keeps_open,
                check=False,
            )
    except FileNotFoundError as e:
        raise SlurmMissingError(f"{command[0]}: command not found", hint=_HERE) from e
    except OSError as e:
        raise SlurmUnreachableError(f"{command[0]}: cannot start: {e.strerror or e}") from e
    except subprocess.TimeoutExpired as e:
        raise SlurmUnreachableError(f"{command[0]} did not answer within {timeout_s:g} s") from e
    if done.returncode != 0:
        raise failure(command, done.returncode, f"{done.stderr}\n{done.stdout}")
    return Answer(done.stdout, done.stderr)


def failure(command: Sequence[str], exit_code: int, said: str) -> ClusterError:
    """The error to raise for a command that printed `said` and exited with `exit_code`."""
    lines = _own_lines(command[0], said)
    for line in lines:
        if _NO_CLUSTER in line.lower():
            return SlurmMissingError(f"{command[0]}: {line}", hint=_HERE)
        if any(sign in line.lower() for sign in _UNREACHABLE):
            return SlurmUnreachableError(f"{command[0]}: {line}")
    first = lines[0] if lines else f"exit code {exit_code}, no message"
    return ClusterError(f"{shlex.join(command[:4])}: {first}")


def said_by(name: str, stderr: str) -> str:
    """The first line of a command's own on its standard error, less its name."""
    return next(iter(_own_lines(name, stderr)), "")


def _own_lines(name: str, text: str) -> list[str]:
    """What a command said, less its name: lines that begin with it, where there are such, or with a call of SLURM's.

    Sites wrap the commands in scripts that print greetings and advice.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = re.compile(rf"(?:{re.escape(name)}|slurm_\w+)(?:: | error: )")
    return [_PREFIX.sub("", line) for line in [line for line in lines if own.match(line)] or lines]


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the output of SLURM commands pinned: plain C locale, times as seconds since 1970."""
    kept = environment_for(Reader.COMMAND, environ)
    # Length 0 is "no limit": without it long array ranges end in "...".
    return kept | {"LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
