"""What is asked of `sbatch --test-only`, and what a refusal becomes."""

import pytest

from sedd.cluster.command import SlurmUnreachableError
from sedd.errors import ClusterError
from sedd.preflight.checks import sbatch_test as check
from sedd.preflight.finding import Status
from sedd.spec.resources import ResourcesSpec
from tests.preflight.slurm_facts import node, partition, profile, slurm


def test_script_asks_for_what_spec_and_profile_say():
    asked = ResourcesSpec.model_validate(
        {"nodes": 2, "gpus_per_node": 4, "memory": "64GiB", "walltime": "48h"}
    )
    site = profile(
        partition="gpu", account="me", gpu={"type": "v100"}, max_walltime="24h", sbatch={"exclusive": True}
    )
    options = {line.removeprefix("#SBATCH ") for line in check.render_script(asked, site).splitlines()[1:-1]}
    assert options == {
        "--partition=gpu", "--account=me", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=4", "--mem=65536M",
        "--time=1440", "--gres=gpu:v100:4", "--exclusive",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("refusal", "hint"),
    [
        ("Invalid account or account/partition combination specified", "account:"),
        ("invalid partition specified: nope", "partition:"),
        ("allocation failure: Requested node configuration is not available", "resources"),
        ("something new", "ask the site"),
    ],
)
def test_refusal_fails_in_slurms_words_with_a_hint(monkeypatch, make_context, refusal, hint):
    def refuse(script, *, timeout_s):
        raise ClusterError(f"sbatch --test-only: {refusal}")

    monkeypatch.setattr(check, "sbatch_test_only", refuse)
    known = slurm(partition(), nodes=(node(),))
    verdict = check.judge(check.gather(make_context(profile=profile(), slurm=known)))
    assert verdict.status is Status.FAIL
    assert refusal in verdict.saw
    assert hint in verdict.hint


def test_drained_nodes_make_the_job_wait_and_are_not_its_fault(monkeypatch, make_context):
    def refuse(script, *, timeout_s):
        raise ClusterError("allocation failure: Requested node configuration is not available")

    monkeypatch.setattr(check, "sbatch_test_only", refuse)
    drained = tuple(node(name=f"v100-{n}", state=("IDLE", "DRAIN")) for n in (1, 2))
    known = slurm(partition(), nodes=drained)
    verdict = check.judge(check.gather(make_context(profile=profile(), slurm=known)))
    assert verdict.status is Status.WARN
    assert "2 nodes are out of service (v100-1 IDLE+DRAIN, v100-2 IDLE+DRAIN)" in verdict.saw
    assert "would wait" in verdict.hint


def test_silence_is_no_refusal(monkeypatch, make_context):
    def silent(script, *, timeout_s):
        raise SlurmUnreachableError("sbatch did not answer within 3 s")

    monkeypatch.setattr(check, "sbatch_test_only", silent)
    with pytest.raises(SlurmUnreachableError):
        check.gather(make_context(profile=profile()))


@pytest.mark.parametrize(("free", "saw"), [(1, "not all of these jobs at once"), (0, "no further job now")])
def test_a_full_queue_is_no_failure_of_the_job(monkeypatch, make_context, free, saw):
    def refuse(script, *, timeout_s):
        if free == 0 or "--array" in script:
            raise ClusterError("sbatch --test-only: AssocMaxSubmitJobLimit")

    monkeypatch.setattr(check, "sbatch_test_only", refuse)
    one = make_context().experiment
    runs = tuple(one.model_copy(update={"seed": seed}) for seed in range(3))
    verdict = check.judge(check.gather(make_context(profile=profile(), slurm=slurm(), request=runs)))
    assert verdict.status is Status.WARN
    assert saw in verdict.saw
    assert "AssocMaxSubmitJobLimit" in verdict.saw
    assert "--wait" in verdict.hint
