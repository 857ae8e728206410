"""A sweep on a site that limits the jobs in the queue: taken in parts, each point once."""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sedd.cluster.command import run
from sedd.cluster.profile import SlurmProfile
from sedd.launch import submit_slurm as submission
from sedd.launch.make_runs import Order
from sedd.launch.submit import Submission, resume, submit
from sedd.launch.submitted import find_unfinished
from sedd.launch.unconfirmed import find_notes
from sedd.preflight.checks import submit_limits
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Status, Verdict
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from tests.launch.conftest import order_for, small_experiment
from tests.slurm.conftest import script, why_not

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def limited() -> Iterator[Path]:
    """A dev cluster of its own that enforces limits and takes arrays of two; its nodes start nothing."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path("/tmp") / f"sedd-limits-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        try:
            done = script("up.sh", "--limits", "--max-array-size", "2", folder)
            assert done.returncode == 0, done.stderr
            patch.setenv("SLURM_CONF", str(folder / "etc" / "slurm.conf"))
            run(["scontrol", "update", "NodeName=v100-[1-4]", "State=DRAIN", "Reason=test"])
            yield folder
        finally:
            script("down.sh", folder)


@pytest.fixture
def order(limited: Path, tmp_path: Path) -> Iterator[Order]:
    profile = SlurmProfile(executor="slurm", partition="requeue")
    yield order_for(*[small_experiment(seed=n) for n in range(5)], runs=tmp_path / "runs", profile=profile)
    run(["scancel", "--user=root"])
    modify("user", "root", MaxSubmitJobs=-1)


def modify(kind: str, name: str, **limits: int) -> None:
    run(["sacctmgr", "--immediate", "modify", kind, name, "set", *(f"{k}={v}" for k, v in limits.items())])


def again(order: Order) -> Submission:
    unfinished = find_unfinished(order.request.experiments, order.runs)
    assert unfinished is not None
    return resume(order, unfinished, now=NOW)


def jobs_of(runs: tuple[RunDir, ...]) -> list[str]:
    found = [[e.get("job_id") for e in read_events(run.events) if e.event == "submitted"] for run in runs]
    assert all(len(jobs) <= 1 for jobs in found), found
    return [job for jobs in found for job in jobs]


def queue() -> list[str]:
    return run(["squeue", "--noheader", "--array", "--format=%i"]).split()


def look(order: Order, **profile: str) -> Verdict:
    context = CheckContext(
        side=Side.LOGIN,
        experiment=order.request.experiments[0],
        profile=SlurmProfile.model_validate({"executor": "slurm", "partition": "requeue"} | profile),
        folder=order.runs,
        environ=os.environ,
        request=order.request.experiments,
    )
    facts = submit_limits.gather(context)
    assert facts is not None
    return submit_limits.judge(facts)


def test_the_same_order_later_submits_the_rest_and_only_the_rest(order: Order) -> None:
    modify("user", "root", MaxSubmitJobs=3)
    first = submit(order, now=NOW)
    limit = "the site allows 3 at a time (MaxSubmitJobs of user root in account dev)"
    assert str(first) == f"3 of 5 submitted, 2 wait: {limit}"
    assert again(order).count == 0
    run(["scancel", jobs_of(first.runs)[0].partition("_")[0]])
    assert str(again(order)) == "5 of 5 submitted"
    assert len(set(jobs_of(first.runs))) == 5
    assert len(queue()) == 3


def test_whoever_is_killed_after_sbatch_loses_no_task_and_submits_none_twice(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run: RunDir, job_id: str, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(submission, "record_submitted", killed)
        with pytest.raises(KeyboardInterrupt):
            submit(order, now=NOW)
    (folder,) = order.runs.glob("small/sweep-*/submitit")
    assert len(find_notes(folder)) == 1
    assert len(queue()) == 2
    done = again(order)
    assert str(done) == "5 of 5 submitted"
    assert sorted(jobs_of(done.runs)) == sorted(queue())
    assert len(list(folder.glob("*_submitted.pkl"))) == 5


def test_preflight_says_which_limit_holds_and_what_is_taken_now(order: Order) -> None:
    assert look(order).status is Status.OK
    modify("user", "root", MaxSubmitJobs=4)
    verdict = look(order)
    assert verdict.status is Status.WARN
    assert "allows 4 jobs at a time (MaxSubmitJobs of user root in account dev): 4 are" in verdict.saw
    run(["sacctmgr", "--immediate", "add", "qos", "few", "MaxSubmitJobsPerUser=2", "GrpSubmitJobs=9"])
    modify("user", "root", QosLevel="normal,few")  # type: ignore[arg-type]
    run(["scontrol", "update", "PartitionName=cancel", "QoS=few"])
    for profile in ({"qos": "few"}, {"partition": "cancel"}):
        assert "allows 2 jobs at a time (MaxSubmitJobsPerUser of QOS few" in look(order, **profile).saw
    modify("user", "root", MaxSubmitJobs=0)
    assert look(order).status is Status.FAIL
