"""What of a hostile environment reaches whom."""

import pytest

from sedd.cluster.inherited import KEPT, RULES, Reader, environment_for, withheld_from

READERS = list(Reader)


@pytest.mark.parametrize(
    "name",
    [
        *("SBATCH_PARTITION", "SBATCH_TIMELIMIT", "SBATCH_NO_REQUEUE", "SBATCH_EXPORT", "SBATCH_CLUSTERS"),
        *("SLURM_EXPORT_ENV", "SRUN_EXPORT_ENV", "SLURM_MEM_PER_CPU", "SLURM_CLUSTERS", "SLURM_EXIT_ERROR"),
        *(
            "SLURM_JOB_ID",
            "SLURM_ARRAY_JOB_ID",
            "SLURMD_NODENAME",
            "_SLURM_SPANK_OPTION_x",
            "SALLOC_PARTITION",
        ),
        *(
            "SUBMITIT_PREEMPT_SIGNAL",
            "SUBMITIT_EXECUTOR",
            "RANK",
            "WORLD_SIZE",
            "TORCHELASTIC_USE_AGENT_STORE",
        ),
        *("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SERVICE", "SEDD_ATTEMPT", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_slurm_job_does_not_get(name: str) -> None:
    assert environment_for(Reader.SLURM_JOB, {name: "x"}) == {}


@pytest.mark.parametrize(
    "name",
    ["SCANCEL_PARTITION", "SCANCEL_INTERACTIVE", "SLURM_CLUSTERS", "SQUEUE_STATES", "SLURM_EXIT_ERROR"],
)
def test_no_variable_decides_which_jobs_a_command_is_about(name: str) -> None:
    assert environment_for(Reader.COMMAND, {name: "x"}) == {}


@pytest.mark.parametrize("reader", READERS)
def test_what_no_rule_names_is_passed_on_to_everybody(reader: Reader) -> None:
    environ = {"PATH": "/bin", "WANDB_API_KEY": "k", "WANDB_PROJECT": "p", "NCCL_DEBUG": "INFO", "SLURM": "x"}
    assert environment_for(reader, environ) == environ


@pytest.mark.parametrize("reader", READERS)
def test_where_slurm_is_and_who_we_are_is_kept(reader: Reader) -> None:
    assert environment_for(reader, dict.fromkeys(KEPT, "x")) == dict.fromkeys(KEPT, "x")


def test_a_rank_keeps_what_slurm_says_of_its_job_and_which_cards_it_has() -> None:
    environ = {"SLURM_JOB_ID": "5", "SLURM_TMPDIR": "/scratch/5", "CUDA_VISIBLE_DEVICES": "2"}
    assert environment_for(Reader.RANK, environ | {"WANDB_RUN_ID": "x", "MASTER_ADDR": "n1"}) == environ


def test_a_local_job_keeps_the_cards_as_they_are_written() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "MIG-1f"}
    assert environment_for(Reader.LOCAL_JOB, environ | {"RANK": "3", "SUBMITIT_EXECUTOR": "slurm"}) == environ


def test_every_variable_that_is_withheld_has_a_reason() -> None:
    assert all(rule.reason and rule.names and rule.readers for rule in RULES)
    withheld = withheld_from(Reader.SLURM_JOB, {"SBATCH_QOS": "high", "PATH": "/bin"})
    assert list(withheld) == ["SBATCH_QOS"]
    assert withheld["SBATCH_QOS"].is_wish
