"""What a shell has set for other jobs, and who is told that it does not count."""

from sedd.preflight.checks import environment as check
from sedd.preflight.finding import Status
from tests.preflight.slurm_facts import profile


def look(make_context, environ, **context):
    return check.judge(check.gather(make_context(environ=environ, **context)))


def test_wishes_that_the_profile_overrules_are_named_with_their_values(make_context):
    environ = {
        "SBATCH_PARTITION": "debug",
        "SBATCH_TIMELIMIT": "1:00",
        "SLURM_EXPORT_ENV": "NONE",
        "HOME": "/h",
    }
    verdict = look(make_context, environ, profile=profile())
    assert verdict.status is Status.WARN
    assert verdict.saw.startswith("SBATCH_PARTITION=debug, SBATCH_TIMELIMIT=1:00 does not count: ")
    assert "unset" in verdict.hint


def test_a_sweep_agent_of_wandb_is_told_that_its_id_does_not_count(make_context):
    for site in (profile(), None):
        verdict = look(make_context, {"WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "x1"}, profile=site)
        assert verdict.status is Status.WARN
        assert "WANDB_RUN_ID=x1, WANDB_SWEEP_ID=abc does not count: all runs would become one" in verdict.saw


def test_what_is_left_over_from_a_job_is_no_warning(make_context):
    verdict = look(make_context, {"SLURM_JOB_ID": "5", "RANK": "3"}, profile=profile())
    assert verdict.status is Status.OK
    assert "SLURM_JOB_ID (" in verdict.saw
    assert "RANK (" in verdict.saw


def test_many_variables_are_counted(make_context):
    verdict = look(make_context, {f"SLURM_X{n}": "" for n in range(30)}, profile=profile())
    assert "and 24 more" in verdict.saw


def test_sbatchs_variables_mean_nothing_to_a_job_of_this_machine(make_context):
    assert look(make_context, {"SBATCH_PARTITION": "debug"}).status is Status.OK
