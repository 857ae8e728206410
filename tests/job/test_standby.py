"""Processes that stand by: they train in the next attempt of the job, and never outlive it."""

import os
import signal

from sedd.cluster.local import signal_local
from sedd.launch.local_processes import Role, find_members, find_training, wait_until
from sedd.launch.submit_local import submit_local
from sedd.rundir.layout import RunDir
from sedd.rundir.process_name import STANDING_BY, Place, find_place
from tests.job.test_supervisor import hurt
from tests.launch.conftest import (
    LocalRuns,
    change_code,
    logs_of,
    small_experiment,
    story,
    wait_for_event,
)

TWO_RANKS = {"processes_per_node": 2, "gpus_per_node": 0, "cpus_per_process": 1, "memory": "2GiB"}


def waiting(run: RunDir) -> set[int]:
    """The processes of the run that stand by."""
    pids = {member.process.pid for member in find_members(run) if member.role is Role.TRAINING}
    return {pid for pid in pids if _name(pid) == STANDING_BY}


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def two_that_wait(local: LocalRuns, *, retry: dict[str, object] | None = None) -> RunDir:
    """A run of two ranks beside which processes stand by at once."""
    (run,) = local.make(small_experiment(resources=TWO_RANKS, retry=retry or {}), plan="endless")
    change_code(run, "job/standby.py", "PREPARE_AFTER_S = 60.0", "PREPARE_AFTER_S = 0.0")
    submit_local([run])
    wait_for_event(run, "attempt_started")
    return run


def test_processes_that_stood_by_are_the_ranks_of_the_next_attempt(local: LocalRuns) -> None:
    run = two_that_wait(local)
    assert wait_until(lambda: len(waiting(run)) == 2, timeout_s=180), logs_of(run)
    stood_by = waiting(run)
    assert all(find_place(pid) is None for pid in stood_by), "they are of no attempt yet"
    victim = find_training(run, attempt=1)[0]
    assert signal_local(victim.process, signal.SIGKILL)
    assert wait_until(lambda: len(find_training(run, attempt=2)) == 2, timeout_s=180), logs_of(run)
    trains = {member.process.pid for member in find_training(run, attempt=2)}
    assert trains == stood_by
    assert {find_place(pid) for pid in trains} == {Place(2, 0), Place(2, 1)}
    assert all(os.readlink(f"/proc/{pid}/fd/0") == os.devnull for pid in trains)
    assert logs_of(run).count("=== attempt 2") == 2
    assert wait_until(lambda: logs_of(run).count("counts from") == 4, timeout_s=60), logs_of(run)
    assert "requeued:killed" in story(run)
    assert story(run).count("attempt_started") == 2
    assert wait_until(lambda: len(waiting(run)) == 2, timeout_s=180), "others stand by for the third attempt"
    hurt(run, Role.ENTRY, signal.SIGKILL)
    assert wait_until(lambda: not find_members(run), timeout_s=120), find_members(run)


def test_those_that_were_killed_are_replaced_before_the_next_attempt(local: LocalRuns) -> None:
    run = two_that_wait(local)
    assert wait_until(lambda: len(waiting(run)) == 2, timeout_s=180), logs_of(run)
    killed = min(waiting(run))
    os.kill(killed, signal.SIGKILL)
    assert wait_until(lambda: len(waiting(run) - {killed}) == 2, timeout_s=180), logs_of(run)
    stand_by = waiting(run)
    hurt(run, Role.ENTRY, signal.SIGTERM)
    assert wait_until(lambda: len(find_training(run, attempt=2)) == 2, timeout_s=180), logs_of(run)
    assert {member.process.pid for member in find_training(run, attempt=2)} == stand_by


def test_standby_false_starts_none(local: LocalRuns) -> None:
    run = two_that_wait(local, retry={"standby": False})
    assert not wait_until(lambda: bool(waiting(run)), timeout_s=4)
