"""SLURM's answers for tests: a site with one partition and one node, and one that does not answer."""

from typing import Any, Never

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.site import Node, Partition, SiteConfig
from sedd.preflight.context import Slurm


def config(**changes: Any) -> SiteConfig:
    known: dict[str, Any] = {
        "version": "22.05.8",
        "cluster": "test",
        "preempt_type": "preempt/partition_prio",
        "preempt_mode": "REQUEUE",
        "kill_wait_s": 30,
        "min_job_age_s": 300,
        "job_requeue": True,
        "max_array_size": 1001,
        "user_signal": False,
        "has_accounting": False,
        "enforced": (),
    }
    return SiteConfig(**known | changes)


def partition(**changes: Any) -> Partition:
    known: dict[str, Any] = {
        "name": "gpu",
        "state": "UP",
        "nodes": "n1",
        "total_nodes": 1,
        "max_time_s": 86_400,
        "max_nodes": 2,
        "default_time_s": None,
        "grace_s": 20,
        "preempt_mode": "REQUEUE",
        "priority_tier": 1,
        "is_default": True,
        "allow_accounts": None,
        "allow_qos": None,
    }
    return Partition(**known | changes)


def node(**changes: Any) -> Node:
    known: dict[str, Any] = {
        "name": "n1",
        "state": ("IDLE",),
        "partitions": ("gpu",),
        "cpus": 40,
        "memory_mib": 100_000,
        "gpus": {"v100": 4},
        "used_gpus": 0,
        "features": (),
        "reason": None,
    }
    return Node(**known | changes)


def slurm(*partitions: Partition, nodes: tuple[Node, ...] = (), site: SiteConfig | None = None) -> Slurm:
    return Slurm(
        config=lambda: site or config(),
        partitions=lambda: list(partitions or (partition(),)),
        nodes=lambda: list(nodes or (node(),)),
    )


def silence() -> Slurm:
    def no_answer() -> Never:
        raise SlurmUnreachableError("scontrol did not answer within 3 s")

    return Slurm(config=no_answer, partitions=no_answer, nodes=no_answer)


def profile(**changes: Any) -> SlurmProfile:
    return SlurmProfile.model_validate({"executor": "slurm"} | changes)
