"""What of the environment reaches SLURM's commands, a job and its ranks: decided here, by name and with the reason.

A shell that submits is seldom clean: it may be inside another job, under torchrun or a W&B agent, or set up for another
project. What is not named here is passed on: `PATH`, `WANDB_API_KEY`, `NCCL_DEBUG`, modules, proxies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Reader(StrEnum):
    """Who gets an environment from us."""

    COMMAND = "a SLURM command that asks or changes something"
    SLURM_JOB = "sbatch, and the job, which inherits sbatch's environment"
    LOCAL_JOB = "a job that is a process of this machine"
    RANK = "one training process of a job"


_EVERY_JOB = frozenset({Reader.SLURM_JOB, Reader.LOCAL_JOB, Reader.RANK})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Variables that some readers do not get.

    Attributes:
        names: whole names with blanks between them; one that ends in `*` means all that begin so.
        reason: why, to be read after "not passed on: ".
        readers: who does not get them.
        is_wish: whether somebody may have set them for this very job, and must learn that they do not count.
    """

    names: str
    reason: str
    readers: frozenset[Reader]
    is_wish: bool = False

    def covers(self, name: str) -> bool:
        """Whether the rule is about this variable."""
        return any(name.startswith(n[:-1]) if n.endswith("*") else name == n for n in self.names.split())


KEPT: Mapping[str, str] = {
    "SLURM_CONF": "where SLURM's configuration is",
    "SLURM_CONF_SERVER": "who hands out SLURM's configuration",
    "SLURM_JWT": "who the user is, at sites that authenticate by token",
    "SLURM_SACK_SOCKET": "whom to ask who the user is, at sites that authenticate by SLURM's own daemon",
    "SLURM_ROOT": "where SLURM is installed, for a site's scripts around its commands",
}
"""Variables that are passed on although a rule covers them, and why."""

RULES: tuple[Rule, ...] = (
    Rule(
        names="SBATCH_*",
        reason="sbatch prefers it to the batch script, and the profile and the spec decide",
        readers=frozenset({Reader.COMMAND, Reader.SLURM_JOB}),
        is_wish=True,
    ),
    Rule(
        names="SLURM_* SLURMD_* SRUN_* SALLOC_* SPANK_* _SLURM_*",
        reason="it describes another job, or changes what sbatch and srun do",
        readers=frozenset({Reader.COMMAND, Reader.SLURM_JOB}),
    ),
    Rule(
        names="SQUEUE_* SACCT_* SINFO_* SCONTROL_* SCANCEL_*",
        reason="it changes what SLURM's commands print, or which jobs they are about",
        readers=frozenset({Reader.COMMAND}),
    ),
    Rule(
        names="SUBMITIT_* _TEST_CLUSTER_",
        reason="it belongs to another job of submitit, or changes its signal",
        readers=frozenset({Reader.SLURM_JOB, Reader.LOCAL_JOB}),
    ),
    Rule(
        names="SEDD_ATTEMPT SEDD_JOB_ID SEDD_HOST SEDD_ENTRY SEDD_LEAD_S SEDD_SETUP_* SEDD_STEP_EXIT",
        reason="it belongs to another run",
        readers=frozenset({Reader.SLURM_JOB, Reader.LOCAL_JOB}),
    ),
    Rule(
        names=(
            "RANK LOCAL_RANK GROUP_RANK ROLE_RANK NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE "
            "GROUP_WORLD_SIZE ROLE_WORLD_SIZE ROLE_NAME MASTER_ADDR MASTER_PORT TORCHELASTIC_*"
        ),
        reason="it is the place of a process in another distributed run",
        readers=_EVERY_JOB,
    ),
    Rule(
        names=(
            "WANDB_RUN_ID WANDB_SWEEP_ID WANDB_SWEEP_PARAM_PATH WANDB_NAME WANDB_RUN_GROUP "
            "WANDB_RESUME WANDB_RESUME_FROM WANDB_FORK_FROM WANDB_LAUNCH*"
        ),
        reason="all runs would become one W&B run: each has an id, a name and a group of its own",
        readers=_EVERY_JOB,
        is_wish=True,
    ),
    Rule(
        names="WANDB_SERVICE*",
        reason="it is the address of another process's W&B service",
        readers=_EVERY_JOB,
    ),
    Rule(
        names="CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES GPU_DEVICE_ORDINAL",
        reason="it names cards of this machine, and SLURM names those of the node",
        readers=frozenset({Reader.SLURM_JOB}),
    ),
    Rule(
        names="SHELLOPTS BASHOPTS POSIXLY_CORRECT BASH_FUNC_srun%%",
        reason="bash would run the batch script otherwise, so that it may end before its last line",
        readers=frozenset({Reader.SLURM_JOB}),
    ),
    Rule(
        names="PYTHONINSPECT",
        reason="Python would wait for input at the end of every process, and lose its exit code",
        readers=_EVERY_JOB,
    ),
)


def environment_for(reader: Reader, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without the variables that `reader` must not get."""
    withheld = withheld_from(reader, environ)
    return {name: value for name, value in environ.items() if name not in withheld}


def withheld_from(reader: Reader, environ: Mapping[str, str]) -> dict[str, Rule]:
    """The variables of `environ` that `reader` does not get, each with the rule that says why."""
    rules = [rule for rule in RULES if reader in rule.readers]
    found = ((name, next((r for r in rules if r.covers(name)), None)) for name in environ)
    return {name: rule for name, rule in found if rule is not None and name not in KEPT}
