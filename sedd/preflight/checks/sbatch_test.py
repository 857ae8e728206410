"""SLURM's own word: would it accept this job? `sbatch --test-only` with the options of the spec and profile."""

from dataclasses import dataclass

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import sbatch_test_only
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.submit_limits import is_limit_refusal
from sedd.errors import ClusterError
from sedd.preflight.check import SLURM_TIMEOUT_S, Check, CheckContext, Side, Verdict, fail, ok, warn
from sedd.preflight.checks.submit_limits import IN_PARTS
from sedd.spec.resources import ResourcesSpec
from sedd.units import counted

_NO_NODE = "requested node configuration is not available"
_HINTS = {
    "partition not available": "the partition takes no new jobs now: ask the site, or name another in the profile",
    "invalid account": "account: in the profile; yours: sacctmgr show assoc user=$USER format=account,partition,qos",
    "invalid qos": "qos: in the profile; yours: sacctmgr show assoc user=$USER format=account,qos",
    "invalid partition": "partition: in the profile; the site's: sinfo -s",
    "time limit": "max_walltime: in the profile; the site's: sinfo -o '%P %l'",
    "node configuration": "resources in the spec, gpu.type in the profile; the site's: sinfo -o '%P %G %c %m %f'",
    "job array": "a smaller sweep; the site's limits: scontrol show config | grep -i array",
    "feature": "constraint: in the profile; the site's: sinfo -o '%P %f'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    refusal: str | None
    """SLURM's reason, or None: it would accept the job."""
    array_refusal: str | None = None
    """Its reason for not taking all runs at once where it would take one of them."""
    out_of_service: tuple[str, ...] = ()
    """Nodes of the partition that start no jobs now, with their states, where that may be the reason."""


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    tasks = len(context.runs_together)
    if tasks > 1:  # what is larger than an array may be is split
        tasks = max(1, min(tasks, context.slurm.config().max_array_size))
    refusal = _refusal(context, context.site, tasks)
    if refusal is None or tasks == 1 or not is_limit_refusal(refusal):
        return Facts(refusal=refusal, out_of_service=_out_of_service(context, refusal))
    return Facts(refusal=_refusal(context, context.site, 1), array_refusal=refusal)


def _out_of_service(context: CheckContext, refusal: str | None) -> tuple[str, ...]:
    """Nodes that are drained or down, where their absence may be what makes SLURM refuse.

    A test is refused where no node is up that fits; the job itself would be taken, and wait.
    """
    if refusal is None or _NO_NODE not in refusal.lower():
        return ()
    return tuple(f"{n.name} {'+'.join(n.state)}" for n in context.query_own_nodes() if not n.is_usable)


def _refusal(context: CheckContext, site: SlurmProfile, tasks: int) -> str | None:
    script = render_script(context.experiment.resources, site, tasks=tasks)
    try:
        context.answers.once(("sbatch", script), lambda: sbatch_test_only(script, timeout_s=SLURM_TIMEOUT_S))
    except SlurmUnreachableError:
        raise
    except ClusterError as e:
        return e.message
    return None


def _are_out(count: int) -> str:
    return f"{counted(count, 'node')} {'is' if count == 1 else 'are'} out of service"


def judge(facts: Facts) -> Verdict:
    if facts.refusal is None and facts.array_refusal is None:
        return ok("SLURM would accept this job")
    if facts.refusal is None or is_limit_refusal(facts.refusal):
        what = "not all of these jobs at once" if facts.refusal is None else "no further job now"
        return warn(
            f"SLURM takes {what}: {facts.array_refusal or facts.refusal}",
            IN_PARTS,
        )
    if facts.out_of_service:
        named = ", ".join(facts.out_of_service[:3])
        return warn(
            f"SLURM cannot tell: {_are_out(len(facts.out_of_service))} ({named}): {facts.refusal}",
            "the job would wait until they are back, if they are what it needs: sinfo -R says why they are out",
        )
    refusal = facts.refusal.lower()
    hint = next(
        (hint for sign, hint in _HINTS.items() if sign in refusal),
        "mend the profile; ask the site what it means",
    )
    return fail(facts.refusal, hint)


def render_script(asked: ResourcesSpec, site: SlurmProfile, *, tasks: int = 1) -> str:
    """A batch script that asks for what the job will ask for, and does nothing; an array where there are tasks."""
    minutes = max(1, min(asked.walltime, site.max_walltime or asked.walltime) // 60)
    gpu = f"gpu:{site.gpu.type}" if site.gpu.type else "gpu"
    options: dict[str, str | int | bool | None] = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "exclude": site.exclude,
        "array": f"0-{tasks - 1}" if tasks > 1 else None,
        "nodes": asked.nodes,
        "ntasks-per-node": asked.ranks_per_node,
        "cpus-per-task": asked.cpus_per_process,
        "mem": f"{asked.memory >> 20}M",
        "time": minutes,
        "gres": f"{gpu}:{asked.gpus_per_node}" if asked.gpus_per_node else None,
        **site.sbatch,
    }
    lines = [
        f"#SBATCH --{key}" + ("" if value is True else f"={value}") for key, value in options.items() if value
    ]
    return "\n".join(["#!/bin/sh", *lines, "true", ""])


CHECK = Check(
    sides=(Side.LOGIN,),
    catches="whatever else SLURM refuses: account, qos, constraint, reservation, combinations of options",
    takes="0.1 s",
    passing=Facts(refusal=None),
    failing=Facts(refusal="sbatch: error: Invalid account or account/partition combination specified"),
)
