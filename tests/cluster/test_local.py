import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sedd.cluster.local import (
    LocalJob,
    find_local,
    local_fact,
    parse_local_id,
    parse_start,
    query_local,
    signal_local,
)
from sedd.cluster.states import JobState


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def find(pid: int) -> LocalJob:
    job = find_local(pid)
    assert job is not None
    return job


def test_a_living_process_is_running(child: subprocess.Popen[bytes]) -> None:
    fact = query_local(find(child.pid))
    assert fact is not None
    assert fact.state is JobState.RUNNING


def test_its_name_survives_being_written_down(child: subprocess.Popen[bytes]) -> None:
    job = find(child.pid)
    assert parse_local_id(job.job_id) == job


@pytest.mark.parametrize("text", ["123", "120_3", "host:12", "a b:1:2", ""])
def test_a_slurm_job_id_is_no_local_one(text: str) -> None:
    assert parse_local_id(text) is None


def test_a_process_that_was_killed_is_gone_though_it_has_had_no_time_to_die() -> None:
    """On a busy machine that takes seconds: here its only core belongs to somebody with a better priority."""
    spin = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\n"
    core = str(min(os.sched_getaffinity(0)))
    idle = (
        spin
        + "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nprint(flush=True)\nwhile True: pass"
    )
    victim = subprocess.Popen([sys.executable, "-c", idle, core], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    victim.stdout.readline()
    busy = subprocess.Popen(
        [sys.executable, "-c", f"{spin}\nprint(flush=True)\nwhile True: pass", core], stdout=subprocess.PIPE
    )
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        for _ in range(3):
            assert find_local(victim.pid) is not None
        victim.kill()
        assert find_local(victim.pid) is None
    finally:
        busy.kill()
        busy.wait()
        victim.kill()
        victim.wait()


def test_another_process_with_the_same_number_is_not_the_job(child: subprocess.Popen[bytes]) -> None:
    earlier = replace(find(child.pid), start=1)
    assert query_local(earlier) is None
    assert not signal_local(earlier, signal.SIGKILL)
    assert child.poll() is None


def test_a_signal_reaches_the_process_and_only_once_it_is_there(child: subprocess.Popen[bytes]) -> None:
    job = find(child.pid)
    assert signal_local(job, signal.SIGTERM)
    # Not waited for: it is a zombie now, which counts as ended.
    deadline = time.monotonic() + 10
    while query_local(job) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert query_local(job) is None
    assert not signal_local(job, signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def test_no_such_process() -> None:
    assert find_local(2**22 + 1) is None


def test_another_host_tells_nothing() -> None:
    job = LocalJob(host="elsewhere", pid=os.getpid(), start=5)
    assert local_fact(job, start=5, host="here") is None
    assert local_fact(job, start=5, host="elsewhere") is not None


def test_a_command_name_may_hold_spaces_and_parentheses() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_start(f"42 (a) b (c)) S {fields}") == 22
    assert parse_start(f"42 (python) Z {fields}") is None
