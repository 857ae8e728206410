"""Limits on jobs in the queue: whether all runs are taken at once, in parts, or never."""

from dataclasses import dataclass

from sedd.cluster.submit_limits import Limit, Limits, query_limits
from sedd.preflight.check import SLURM_TIMEOUT_S, Check, CheckContext, Side, Verdict, combine, fail, warn
from sedd.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    runs: int
    limits: Limits
    max_job_count: int | None = None
    """Jobs that SLURM keeps in all, every user's; None: not shown."""


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    config = context.slurm.config()
    limits = query_limits(
        config,
        context.slurm.partitions(),
        partition=context.site.partition,
        account=context.site.account,
        qos=context.site.qos,
        timeout_s=SLURM_TIMEOUT_S,
    )
    return Facts(runs=len(context.runs_together), limits=limits, max_job_count=config.max_job_count)


def judge(facts: Facts) -> Verdict:
    closed = [limit for limit in (*facts.limits.queued, *facts.limits.running) if limit.allowed == 0]
    tightest = facts.limits.tightest
    if closed:
        return fail(
            f"{closed[0]} is 0: no job is accepted",
            "another account, qos or partition in the profile; or ask the site",
        )
    problems = []
    if tightest is not None and facts.runs > tightest.free:
        problems.append(_in_parts(facts.runs, tightest))
    if facts.max_job_count is not None and facts.runs > facts.max_job_count:
        problems.append(
            warn(
                f"{counted(facts.runs, 'run')}, "
                f"and SLURM keeps {counted(facts.max_job_count, 'job')} in all (MaxJobCount)",
                IN_PARTS,
            )
        )
    return combine(problems, all_well=_all_well(facts, tightest))


IN_PARTS = "sedd submit, repeated, submits the rest as places come free; with --wait it does so by itself"
"""What to do where a site does not take all runs at once, whoever asks for the checks."""


def _in_parts(runs: int, limit: Limit) -> Verdict:
    what = counted(runs, "run")
    used = f", {limit.used} are in the queue" if limit.used else ""
    now = "none is" if limit.free == 0 else f"{limit.free} are" if limit.free > 1 else "1 is"
    return warn(
        f"{what}; the site allows {counted(limit.allowed, 'job')} at a time ({limit}){used}: {now} submitted now",
        IN_PARTS,
    )


def _all_well(facts: Facts, tightest: Limit | None) -> str:
    queued = (
        f"{counted(tightest.allowed, 'job')} may be in the queue ({tightest}), {tightest.used} are"
        if tightest
        else "no limit on jobs in the queue"
    )
    running = min(facts.limits.running, key=lambda limit: limit.allowed, default=None)
    return queued + (f"; {running.allowed} may run at a time ({running})" if running else "")


_ADAS = Limit(name="MaxSubmitJobs", holder="user ada in account science", allowed=150, used=8)

CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="a sweep that the site takes in parts only, or an account, QOS or user without a place in the queue",
    takes="0.1 s",
    passing=Facts(runs=40, limits=Limits(queued=(_ADAS,))),
    failing=Facts(runs=300, limits=Limits(queued=(_ADAS,))),
)
