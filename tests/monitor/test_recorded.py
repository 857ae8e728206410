"""The table over what real SLURMs have said: tests/cluster/samples/README.md tells how it was recorded."""

import datetime as dt
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from sedd.cluster.jobs import JobFact
from sedd.cluster.squeue import parse_squeue
from sedd.cluster.states import JobState
from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.show.table import status_table
from tests.cluster.recorded import RECORDED, sample

Look = Callable[[str], Snapshot]


@pytest.fixture
def look(farm: Any, snapshot_of: Callable[..., Snapshot]) -> Look:
    """The runs to which a version's recorded jobs would belong, ten seconds after the last was submitted."""

    def make(version: str) -> Snapshot:
        text = sample(version, "squeue")
        jobs = sorted(parse_squeue(text), key=lambda job: [int(n) for n in job.job_id.split("_")])
        now = max(job.submitted_at for job in jobs if job.submitted_at) + dt.timedelta(seconds=10)
        return snapshot_of(*(_run_of(job, farm, now) for job in jobs), squeue=text, now=now)

    return make


def _run_of(job: JobFact, farm: Any, now: dt.datetime) -> Any:
    name = (job.name or "").partition(" ")[0]
    array, _, task = job.job_id.partition("_")
    sweep = {"sweep": "s1", "point": {"seed": int(task)}} if task else {}
    run = farm.run(name, f"20261122-0800{int(array):02}-{int(task or 0):08x}", **sweep)
    run.now = now
    submitted = job.submitted_at or now
    about = {"user": job.user, "token": None}
    run.submitted(ago_s=(now - submitted).total_seconds(), job_id=job.job_id, **about)
    if job.state not in (JobState.PENDING, JobState.REQUEUED):
        run.started(ago_s=(now - submitted).total_seconds() - 2, job_id=job.job_id)
        if job.state is not JobState.FAILED:
            run.beat(40, ago_s=1, loss=2.7, residues_per_s=2.6e5, eta_s=9000.0)
    return run


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("version", RECORDED)
def test_recorded_jobs_as_a_table(
    version: str, width: int, look: Look, golden: Callable[[str, str], None]
) -> None:
    snapshot = look(version)
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False)
    console.print(status_table(snapshot, snapshot.runs, width=width))
    golden(f"recorded_{version}_{width}.txt", stream.getvalue())


def test_both_versions_mean_the_same_states(look: Look) -> None:
    states: dict[str, set[State]] = {}
    for version in RECORDED:
        for view in look(version).runs:
            states.setdefault(f"{view.job_id}", set()).add(view.state)
    assert {job: found for job, found in states.items() if len(found) > 1} == {}
