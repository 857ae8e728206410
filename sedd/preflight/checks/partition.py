"""The partition: there, up, open to this account and qos, and its limits against what the spec asks."""

from dataclasses import dataclass, replace

from sedd.cluster.site import Partition
from sedd.preflight.check import Check, CheckContext, Side, Verdict, combine, fail, warn
from sedd.units import exact_duration, format_duration

_CLOSED = {"DRAIN", "INACTIVE"}
"""States of a partition in which sbatch refuses; in DOWN it takes jobs, which wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str | None
    known: tuple[str, ...]
    chosen: tuple[Partition, ...]
    account: str | None
    qos: str | None
    nodes: int
    walltime_s: int
    """As it will be asked for: cut to the profile's `max_walltime`."""


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    asked = context.experiment.resources
    return Facts(
        asked=context.site.partition,
        known=tuple(p.name for p in context.slurm.partitions()),
        chosen=tuple(context.query_own_partitions()),
        account=context.site.account,
        qos=context.site.qos,
        nodes=asked.all_nodes,
        walltime_s=min(asked.walltime, context.site.max_walltime or asked.walltime),
    )


def judge(facts: Facts) -> Verdict:
    known = f"SLURM has {', '.join(facts.known) or 'none'}"
    if facts.asked is None and not facts.chosen:
        return fail("the site has no default partition", f"name one in the profile, partition: …; {known}")
    asked = [name.strip() for name in facts.asked.split(",")] if facts.asked else []
    missing = [name for name in asked if name not in facts.known]
    if missing:
        return fail(f"there is no partition {', '.join(missing)}", f"partition: in the profile; {known}")
    problems = [problem for partition in facts.chosen for problem in _problems(facts, partition)]
    names = ", ".join(p.name for p in facts.chosen)
    limit = min((p.max_time_s for p in facts.chosen if p.max_time_s), default=None)
    return combine(
        problems,
        all_well=f"{names}: up, {format_duration(facts.walltime_s)} of "
        f"{format_duration(limit) if limit else 'unlimited time'}",
    )


def _problems(facts: Facts, partition: Partition) -> list[Verdict]:
    name, found = partition.name, []
    if partition.state in _CLOSED and all(p.state in _CLOSED for p in facts.chosen):
        hint = "jobs are refused until it is UP: ask the site, or choose another"
        found.append(fail(f"{name} is {partition.state}: SLURM takes no new jobs for it", hint))
    elif partition.state != "UP":
        found.append(
            warn(f"{name} is {partition.state}", "jobs wait until it is UP: ask the site, or choose another")
        )
    if partition.max_time_s is not None and facts.walltime_s > partition.max_time_s:
        limit = format_duration(partition.max_time_s)
        found.append(
            fail(
                f"walltime {format_duration(facts.walltime_s)} is longer than {name}'s {limit}",
                f"max_walltime: {exact_duration(partition.max_time_s)} in the profile: then it takes more attempts",
            )
        )
    if partition.max_nodes is not None and facts.nodes > partition.max_nodes:
        found.append(
            fail(
                f"{facts.nodes} nodes, {name} allows {partition.max_nodes}",
                "fewer resources.nodes or spare_nodes",
            )
        )
    elif 0 < max(p.total_nodes for p in facts.chosen) < facts.nodes:
        found.append(
            fail(
                f"{facts.nodes} nodes, {name} has {partition.total_nodes}",
                "fewer resources.nodes or spare_nodes",
            )
        )
    if facts.account and partition.allow_accounts and facts.account not in partition.allow_accounts:
        found.append(_not_allowed("account", facts.account, name, partition.allow_accounts))
    if facts.qos and partition.allow_qos and facts.qos not in partition.allow_qos:
        found.append(_not_allowed("qos", facts.qos, name, partition.allow_qos))
    return found


def _not_allowed(kind: str, value: str, partition: str, allowed: tuple[str, ...]) -> Verdict:
    return fail(
        f"{kind} {value} may not use {partition}", f"{kind}: in the profile; allowed: {', '.join(allowed)}"
    )


_GPU = Partition(
    name="gpu",
    state="UP",
    nodes="v100-[1-4]",
    total_nodes=4,
    max_time_s=86_400,
    max_nodes=None,
    default_time_s=3600,
    grace_s=30,
    preempt_mode="REQUEUE",
    priority_tier=1,
    is_default=True,
    allow_accounts=None,
    allow_qos=None,
)
_OPEN = Facts(
    asked="gpu", known=("cpu", "gpu"), chosen=(_GPU,), account=None, qos=None, nodes=1, walltime_s=86_400
)

CHECK = Check(
    sides=(Side.LOGIN,),
    catches="a partition that does not exist, is down, or refuses the walltime, nodes, account or qos",
    takes="0.1 s",
    passing=_OPEN,
    failing=replace(_OPEN, asked="gpus", chosen=()),
)
