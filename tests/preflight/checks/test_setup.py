"""A line of `setup` that failed, where the job goes on."""

from sedd.cluster.setup import FAILED
from sedd.preflight.checks import setup as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status
from sedd.rundir.layout import RunDir
from tests.preflight.slurm_facts import profile


def test_the_failed_line_is_a_warning_on_the_node(make_context, tmp_path):
    site = profile(setup=("module load cuda",), setup_must_succeed=False)
    context = make_context(profile=site, side=Side.NODE, run=RunDir(tmp_path), environ={FAILED: "1 1"})
    verdict = check.judge(check.gather(context))
    assert verdict.status is Status.WARN
    assert verdict.saw.endswith("failed with exit code 1: module load cuda")


def test_without_setup_the_question_does_not_arise(make_context, tmp_path):
    assert check.gather(make_context(profile=profile(), side=Side.NODE, run=RunDir(tmp_path))) is None
