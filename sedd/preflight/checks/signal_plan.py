"""What ends an attempt at this site, by which signal, with how much notice, and who brings the run back."""

from dataclasses import dataclass, replace

from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.preflight.read.stop_notice import CANCEL, OFF, SUSPEND, Notice, preemption_notice
from sedd.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    notices: tuple[Notice, ...]


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    config, partitions = context.slurm.config(), context.query_own_partitions()
    notices = tuple(preemption_notice(config, partition) for partition in partitions)
    return Facts(notices=notices) if notices else None


def judge(facts: Facts) -> Verdict:
    plans = [_plan(notice) for notice in facts.notices]
    saw = "; ".join(plan.saw for plan in plans)
    hint = next((plan.hint for plan in plans if plan.hint), None)
    return warn(saw, hint) if hint else ok(saw)


def _plan(notice: Notice) -> Verdict:
    limit = "SIGUSR2 before the time limit"
    if notice.mode == OFF:
        return ok(f"{notice.partition}: no preemption; {limit}: checkpoint, requeue")
    if notice.mode == SUSPEND:
        return ok(
            f"{notice.partition}: a preempted job is paused and continues; {limit}: checkpoint, requeue"
        )
    window = f"{notice.first_signal}, SIGKILL {format_duration(notice.window_s or 0)} later"
    source = "GraceTime" if notice.grace_s else "KillWait, no GraceTime"
    saw = f"{notice.partition}: at preemption {window} ({source})"
    if notice.mode == CANCEL:
        saw += f": checkpoint, then the run requeues itself (PreemptMode=CANCEL); {limit}: the same"
    else:
        saw += f": checkpoint, SLURM requeues; {limit}: checkpoint, requeue"
    if not notice.job_requeue:
        saw += "; JobRequeue=0 is overridden by --requeue"
    if notice.mode == CANCEL and not notice.grace_s:
        return warn(
            saw,
            "without GraceTime a cancelled job may be too late to requeue itself: `sedd requeue` revives it",
        )
    return ok(saw)


_REQUEUE = Notice(
    partition="gpu",
    mode="REQUEUE",
    window_s=30,
    grace_s=30,
    first_signal="SIGTERM",
    job_requeue=True,
)

CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="a site where a preempted run gets too little notice to come back; says what will happen",
    takes="0.1 s",
    passing=Facts(notices=(_REQUEUE,)),
    failing=Facts(notices=(replace(_REQUEUE, mode="CANCEL", grace_s=0),)),
)
