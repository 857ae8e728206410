"""Whether a local run's process lives."""

import datetime as dt
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sedd.cluster.local import find_local
from sedd.monitor.read.history import History, summarise
from sedd.monitor.read.live_processes import query_alive
from sedd.rundir.events import read_events

HERE = socket.gethostname()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def history(run: Any) -> History:
    return summarise(read_events(run.folder.events))


def local(farm: Any) -> Any:
    run = farm.run(executor="local")
    run.now = dt.datetime.now(dt.UTC)
    return run


def test_an_attempt_lives_as_long_as_its_entry(farm: Any, process: subprocess.Popen[bytes]) -> None:
    run = local(farm).submitted(ago_s=0).started(ago_s=0, host=HERE, pid=process.pid)
    assert query_alive(history(run)) is True
    process.kill()
    process.wait()
    assert query_alive(history(run)) is False


def test_a_process_that_took_over_the_number_is_another_one(farm: Any) -> None:
    run = local(farm).submitted(ago_s=9e5).started(ago_s=8e5, host=HERE, pid=os.getpid())
    assert query_alive(history(run)) is False


def test_before_the_first_attempt_the_job_itself_is_looked_at(
    farm: Any, process: subprocess.Popen[bytes]
) -> None:
    job = find_local(process.pid)
    assert job is not None
    run = local(farm).submitted(ago_s=0, job_id=job.job_id)
    assert query_alive(history(run)) is True
    process.kill()
    process.wait()
    assert query_alive(history(run)) is False


def test_the_job_of_a_run_that_was_requeued_is_newer_than_its_first_submission(
    farm: Any, process: subprocess.Popen[bytes]
) -> None:
    job = find_local(process.pid)
    assert job is not None
    waiting = local(farm).submitted(ago_s=900, job_id="1").submitted(ago_s=0, job_id=job.job_id)
    assert query_alive(history(waiting)) is True
    again = local(farm).submitted(ago_s=900, job_id="1").started(ago_s=800, host=HERE, pid=1)
    assert query_alive(history(again.submitted(ago_s=0, job_id=job.job_id))) is True


def test_processes_of_other_machines_cannot_be_seen(farm: Any) -> None:
    assert query_alive(history(local(farm).submitted(ago_s=0, job_id="elsewhere:12:34"))) is None
    assert (
        query_alive(history(local(farm).submitted(ago_s=0).started(ago_s=0, host="elsewhere", pid=1))) is None
    )
    assert query_alive(History()) is None
