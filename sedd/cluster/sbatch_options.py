"""The long options of sbatch in a profile: each is supported to the end of a run, or refused with the reason.

A run is more than its first job: it is requeued, continued by other jobs that `sedd requeue` may submit from another
folder, found again by its job's name and comment. An option that only the first job could keep is refused. One that
this table does not know, of a newer SLURM or of a site's plugin, is taken where the sbatch at hand shows it.
"""

import re
from functools import cache

from sedd.cluster.command import run
from sedd.errors import ClusterError, did_you_mean

# sbatch(1) of 20.11, 21.08, 22.05, 23.11, 24.11 and 25.05 together: SLURM itself refuses what is not its own.
_FLAGS = frozenset(
    (
        "consolidate-segments contiguous ignore-pbs overcommit oversubscribe reboot spread-job "
        "spread-segments stepmgr use-min-nodes"
    ).split()
)
_OPTIONAL_VALUE = frozenset({"exclusive", "nice", "oom-kill-step", "propagate", "resv-ports"})
_FILES = frozenset({"bbf", "chdir"})
_VALUES = _FILES.union(
    (
        "acctg-freq batch bb core-spec cores-per-socket cpu-freq delay-boot distribution extra "
        "extra-node-info gpu-bind gpu-freq gres-flags hint licenses mcs-label mem-bind mincpus network "
        "ntasks-per-core ntasks-per-socket power prefer priority profile reservation segment "
        "sockets-per-node switches thread-spec threads-per-core time-min tmp tres-bind wait-all-nodes "
        "wckey"
    ).split()
)
VALID = _FLAGS | _OPTIONAL_VALUE | _VALUES

_REASONS = {
    "account": "write `account:` in the profile",
    "array": "a sweep in the spec becomes the array",
    "begin": (
        "every job that continues the run would wait again; scontrol update JobId=… StartTime=… delays one"
    ),
    "cluster-constraint clusters": (
        "every later question about the job would go to this cluster: submit on a login node of the other one"
    ),
    "comment": "the comment says which run the job belongs to",
    "constraint": "write `constraint:` in the profile",
    "container container-id": (
        "SLURM's commands, which a run needs, are rarely in an image; write `container:` in the profile"
    ),
    "cpus-per-gpu cpus-per-task": "write `resources.cpus_per_process` in the spec",
    "deadline": (
        "SLURM would remove a run that was requeued once too often; sedd cancel ends it when you like"
    ),
    "dependency": "use sedd submit --after RUN",
    "error output": "logs go to the run folder",
    "exclude": "write `exclude:` in the profile",
    "export export-file": (
        "jobs inherit your environment; more variables are lines of `setup:`, such as export NAME=value"
    ),
    "get-user-env": (
        "jobs inherit your environment; what the login shell sets is a line of `setup:`, source ~/.profile"
    ),
    "gid uid": "a job of somebody else could not write into your run folder",
    "gpus gpus-per-node gpus-per-socket gpus-per-task gres": (
        "write `resources.gpus_per_node` in the spec and `gpu.type` in the profile"
    ),
    "hold": "every job that continues the run would be held again; scontrol hold JOB holds one",
    "input": "the job reads nothing from its standard input",
    "job-name": "it is the name of the run",
    "kill-on-invalid-dep": (
        "a run that waits for another continues when that one is revived with sedd requeue"
    ),
    "mail-type": "write `mail: {type: […]}` in the profile",
    "mail-user": "write `mail: {user: …}` in the profile",
    "mem mem-per-cpu mem-per-gpu": "write `resources.memory` in the spec",
    "no-kill": "a run continues elsewhere when its job has lost a node, and so the job must end",
    "no-requeue": "write `requeue: false` in the profile: then a new job continues the run",
    "nodefile nodelist": (
        "a run must be able to leave a faulty node: write `exclude:` or `constraint:` in the profile"
    ),
    "nodes": "write `resources.nodes` in the spec",
    "ntasks ntasks-per-gpu ntasks-per-node": "it follows from `resources` in the spec",
    "open-mode": "logs are always appended to: a requeue must not erase them",
    "parsable quiet verbose": "sedd reads sbatch's answer",
    "partition": "write `partition:` in the profile",
    "qos": "write `qos:` in the profile",
    "requeue": "jobs ask for it already; how often a run may restart is `retry` in the spec",
    "signal": "it follows from the measured checkpoint time",
    "test-only": "use sedd submit --dry-run, or sedd preflight",
    "time": "write `resources.walltime` in the spec",
    "tres-per-task": "write `resources` in the spec",
    "wait": "use sedd submit --wait",
    "wrap": "sedd writes the script",
}
REFUSED = {option: reason for options, reason in _REASONS.items() for option in options.split()}
"""Options of sbatch that a profile may not give, and why, or what to do instead."""


def problem_with(option: str, value: str | int | bool) -> str | None:
    """What is wrong with a raw option, in one sentence, or None."""
    if option in REFUSED:
        return f"'{option}' cannot be set here: {REFUSED[option]}"
    if option not in VALID and option not in shown_by_sbatch():
        near = did_you_mean(
            option.lstrip("-").replace("_", "-"), VALID | REFUSED.keys() | shown_by_sbatch().keys()
        )
        suggestion = f"{near} " if near else ""
        return f"'{option}' is not a long option of sbatch: {suggestion}valid are {', '.join(sorted(VALID))}"
    return _problem_with_value(option, value)


def _problem_with_value(option: str, value: str | int | bool) -> str | None:
    if value is False:
        return f"'{option}: false' says nothing: leave the line out"
    usage = shown_by_sbatch().get(option) if option not in VALID else None
    if (option in _FLAGS or usage == "") and value is not True:
        return f"'{option}' takes no value: write true"
    if (option in _VALUES or (usage or "").startswith("=")) and value is True:
        return f"'{option}' needs a value"
    text = str(value)
    if not text.strip() or not text.isprintable():
        return f"'{option}' is {text!r}: write one line of text"
    if option in _FILES and not text.startswith("/"):
        return f"'{option}' is {text}: write the path from / on, since sedd requeue may be typed in another folder"
    return None


@cache
def shown_by_sbatch() -> dict[str, str]:
    """Long options of the sbatch at hand, and what follows each: `=VALUE`, `[=VALUE]` or nothing; {} without one."""
    try:
        text = run(["sbatch", "--help"], timeout_s=2)
    except ClusterError:
        return {}
    return dict(re.findall(r"^ +(?:-\w, +)?--([a-z][\w-]*)(\[?=[^\s]+)?", text, re.MULTILINE))
