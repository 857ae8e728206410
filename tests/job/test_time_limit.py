"""A run whose saves have become slow is told in time that its job must end."""

import datetime as dt

import pytest

from sedd.job.entry import make_task
from sedd.job.environment import read_slurm_environment
from sedd.job.time_limit import with_time_limit
from sedd.rundir.layout import RunDir
from tests.job.test_batch_end import VARIABLES, Slurm, run, slurm  # noqa: F401 # two fixtures
from tests.launch.conftest import write_events

STARTED = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
NOW = STARTED + dt.timedelta(minutes=10)
TIMES = f"StartTime={STARTED.timestamp():.0f} TimeLimit=01:00:00"


def saved(run: RunDir, *seconds: float) -> None:  # noqa: F811
    write_events(run, *({"event": "checkpoint", "step": n, "seconds": s} for n, s in enumerate(seconds)))


def test_slow_saves_bring_the_warning_forward(run: RunDir, slurm: Slurm) -> None:  # noqa: F811
    """Half a minute and four of the slowest saves before the limit, which is 50 minutes away."""
    slurm.show("RUNNING", TIMES)
    saved(run, 90.0, 60.0)
    task = with_time_limit(
        make_task(run, read_slurm_environment(VARIABLES | {"SEDD_LEAD_S": "120"})), now=NOW
    )
    assert task.environment.lead_s == 30 + 4 * 90
    assert task.limit_s == 50 * 60 - (30 + 4 * 90)


@pytest.mark.parametrize("seconds", [(), (2.0, 20.0)])
def test_where_the_scripts_warning_is_early_enough_nobody_is_asked(
    run: RunDir,  # noqa: F811
    slurm: Slurm,  # noqa: F811
    seconds: tuple[float, ...],
) -> None:
    saved(run, *seconds)
    task = make_task(run, read_slurm_environment(VARIABLES | {"SEDD_LEAD_S": "120"}))
    assert with_time_limit(task, now=NOW) == task
    assert not slurm.asked("show")


@pytest.mark.parametrize("scene", ["no limit", "no answer"])
def test_without_a_limit_or_an_answer_slurms_own_warning_stands(
    run: RunDir,  # noqa: F811
    slurm: Slurm,  # noqa: F811
    scene: str,
) -> None:
    slurm.show("RUNNING", TIMES.replace("01:00:00", "UNLIMITED"))
    if scene == "no answer":
        (slurm.folder / "scontrol").write_text(
            "#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n"
        )
    saved(run, 90.0)
    task = make_task(run, read_slurm_environment(VARIABLES | {"SEDD_LEAD_S": "120"}))
    assert with_time_limit(task, now=NOW) == task
