"""sbatch's long options, so that a misspelt one is refused before it costs a night in the queue."""

import difflib

# sbatch(1) of 20.11, 21.08, 22.05, 23.11, 24.11 and 25.05 together: SLURM itself refuses what is not its own.
_FLAGS = frozenset(
    {
        "contiguous",
        "hold",
        "ignore-pbs",
        "overcommit",
        "oversubscribe",
        "quiet",
        "reboot",
        "spread-job",
        "spread-segments",
        "consolidate-segments",
        "stepmgr",
        "use-min-nodes",
        "verbose",
    }
)
_OPTIONAL_VALUE = frozenset(
    {"exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "propagate", "resv-ports"}
)
_VALUES = frozenset(
    {
        "acctg-freq",
        "batch",
        "bb",
        "bbf",
        "begin",
        "chdir",
        "cluster-constraint",
        "clusters",
        "comment",
        "container",
        "container-id",
        "core-spec",
        "cores-per-socket",
        "cpu-freq",
        "cpus-per-gpu",
        "cpus-per-task",
        "deadline",
        "delay-boot",
        "distribution",
        "export",
        "export-file",
        "extra",
        "extra-node-info",
        "gid",
        "gpu-bind",
        "gpu-freq",
        "gpus",
        "gpus-per-socket",
        "gpus-per-task",
        "gres-flags",
        "hint",
        "input",
        "kill-on-invalid-dep",
        "licenses",
        "mcs-label",
        "mem",
        "mem-bind",
        "mem-per-cpu",
        "mem-per-gpu",
        "mincpus",
        "network",
        "nodefile",
        "nodelist",
        "ntasks-per-core",
        "ntasks-per-gpu",
        "ntasks-per-socket",
        "power",
        "prefer",
        "priority",
        "profile",
        "reservation",
        "segment",
        "sockets-per-node",
        "switches",
        "thread-spec",
        "threads-per-core",
        "time-min",
        "tmp",
        "tres-bind",
        "tres-per-task",
        "uid",
        "wait-all-nodes",
        "wckey",
    }
)
VALID = _FLAGS | _OPTIONAL_VALUE | _VALUES

# What sedd itself writes into the script; twice, the last would win without a word.
_TAKEN = {
    "account": "write `account:` in the profile",
    "array": "a sweep in the spec becomes the array",
    "constraint": "write `constraint:` in the profile",
    "dependency": "use sedd submit --after RUN",
    "error": "logs go to the run folder",
    "exclude": "write `exclude:` in the profile",
    "gpus-per-node": "write `resources.gpus` in the spec",
    "gres": "write `resources.gpus` in the spec and `gpu.type` in the profile",
    "job-name": "it is the name of the run",
    "mail-type": "write `mail: {type: […]}` in the profile",
    "mail-user": "write `mail: {user: …}` in the profile",
    "no-requeue": "how often a run may restart is `retry` in the spec",
    "nodes": "write `resources.nodes` in the spec",
    "ntasks": "it follows from `resources` in the spec",
    "ntasks-per-node": "it follows from `resources` in the spec",
    "open-mode": "logs are always appended to: a requeue must not erase them",
    "output": "logs go to the run folder",
    "parsable": "sedd reads sbatch's answer",
    "partition": "write `partition:` in the profile",
    "qos": "write `qos:` in the profile",
    "requeue": "how often a run may restart is `retry` in the spec",
    "signal": "it follows from the measured checkpoint time",
    "test-only": "use sedd submit --dry-run, or sedd preflight",
    "time": "write `resources.walltime` in the spec",
    "wait": "use sedd submit --wait",
    "wrap": "sedd writes the script",
}


def problem_with(option: str, value: str | int | bool) -> str | None:
    """What is wrong with a raw option, in one sentence, or None."""
    if option in _TAKEN:
        return f"'{option}' is set by sedd: {_TAKEN[option]}"
    if option not in VALID:
        near = difflib.get_close_matches(option.lstrip("-").replace("_", "-"), VALID | _TAKEN.keys(), n=1)
        suggestion = f"did you mean '{near[0]}'? " if near else ""
        return f"'{option}' is no long option of sbatch: {suggestion}valid are {', '.join(sorted(VALID))}"
    if value is False:
        return f"'{option}: false' says nothing: leave the line out"
    if option in _FLAGS and value is not True:
        return f"'{option}' takes no value: write true"
    if option in _VALUES and value is True:
        return f"'{option}' needs a value"
    return None
