"""How long a job has from the first signal to SIGKILL, and who requeues it."""

from dataclasses import dataclass

from sedd.cluster.site import Partition, SiteConfig

REQUEUE, CANCEL, SUSPEND, OFF = "REQUEUE", "CANCEL", "SUSPEND", "OFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What happens to a job of one partition that is preempted.

    Attributes:
        mode: REQUEUE, CANCEL, SUSPEND or OFF: never preempted.
        window_s: from the first signal to SIGKILL; None where nothing kills.
        first_signal: `SIGTERM`, or `SIGUSR2` with `preempt_send_user_signal`.
    """

    partition: str
    mode: str
    window_s: int | None
    grace_s: int
    first_signal: str
    job_requeue: bool


def preemption_notice(config: SiteConfig, partition: Partition) -> Notice:
    """The notice that jobs of a partition get (measured on SLURM 22.05).

    With a GraceTime the first signal comes that long before the end. Without one SIGTERM and, KillWait later,
    SIGKILL.
    """
    mode = _mode(config, partition)
    window_s = None if mode in (OFF, SUSPEND) else partition.grace_s or config.kill_wait_s
    return Notice(
        partition=partition.name,
        mode=mode,
        window_s=window_s,
        grace_s=partition.grace_s,
        first_signal="SIGUSR2" if config.user_signal and partition.grace_s else "SIGTERM",
        job_requeue=config.job_requeue,
    )


def _mode(config: SiteConfig, partition: Partition) -> str:
    if config.preempt_type.rpartition("/")[2] in ("", "none", "(null)"):
        return OFF
    words = {word.strip() for word in f"{partition.preempt_mode or config.preempt_mode}".upper().split(",")}
    return next((mode for mode in (REQUEUE, CANCEL, SUSPEND) if mode in words), OFF)
