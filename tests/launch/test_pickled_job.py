"""What submitit unpickles becomes the job entry, and no stop signal is lost on the way."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from sedd.launch.pickled_job import STOP_SIGNALS

BECOME = """
import os, signal, sys
from sedd.launch import pickled_job
pickled_job.JOB_ENTRY = "probe"
send = os.execv
def exec_after_a_signal(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)  # as preemption would, between submitit's program and the job entry's handlers
    send(*arguments)
os.execv = exec_after_a_signal
pickled_job.Job("/runs/a run")()
"""
PROBE = """
import json, os, signal, sys
from sedd.job.processes import SignalBox, accept_signals
blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
box = SignalBox()
box.install()
accept_signals()
after = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(json.dumps([blocked, sorted(box.received), after, sys.argv[1:], os.getpid()]))
"""


def test_a_signal_between_submitits_program_and_the_job_entry_waits_for_its_handlers(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "-c", BECOME], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        output = process.communicate(timeout=180)[0]
    assert process.returncode == 0
    blocked, received, after, arguments, pid = json.loads(output)
    assert blocked == sorted(STOP_SIGNALS)
    assert received == [signal.SIGTERM]
    assert after == []
    assert (arguments, pid) == (["/runs/a run"], process.pid), "the same process, for the same run"
