"""Takes the place of sedd/job/worker.py in a frozen copy: counts instead of training.

`plan.txt` in the run folder has one word for each attempt, separated by spaces; the last goes for all that follow:
train (count to the end), long (ten times as far), endless, crash, crash1 (rank 1 is killed), kill (SIGKILL itself),
fault, fault0 and fault1 (that rank alone), deaf (does not listen to signals), litter (leaves a child behind and dies),
stuck (saves, and does not exit), frozen (in one step for ever), lingers (trains to the end, and does not exit), halt
(as frozen, and has reported its progress as a training does; SIGSTOP to itself on rank 1), disk (rank 0 reports that it
waits for a disk, and rank 1 halts). A word may end in `@N`: it happens at count N.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from sedd.job.causes import STOP_SIGNALS
from sedd.job.final_events import record_event
from sedd.job.stacks import offer_stacks
from sedd.job.standby import STAND_BY, await_attempt
from sedd.rundir.atomic import replace_text
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.rundir.process_name import Place, name_process
from sedd.rundir.rank_progress import ProgressWriter, progress_writer

STEPS = 40
STEP_S = 0.03
FACTORS = {"long": 10, "endless": 1000, "stuck": 1000}


def main(path: str) -> int:
    run, attempt, rank = RunDir(Path(path)), int(os.environ["SEDD_ATTEMPT"]), int(os.environ["RANK"])
    name_process(str(Place(attempt, rank)))
    stopped: list[int] = []
    for number in STOP_SIGNALS:
        if number != signal.SIGCONT:
            signal.signal(number, lambda n, frame: stopped.append(n))
    words = (run.path / "plan.txt").read_text().split()
    word, _, at = words[min(attempt, len(words)) - 1].partition("@")
    progress = run.path / ("progress.txt" if rank == 0 else f"progress-{rank}.txt")
    first = int(progress.read_text()) if progress.exists() else 0
    reported = progress_writer(os.environ) if word in ("halt", "disk") else ProgressWriter(None)
    print(f"rank {rank} of {os.environ['WORLD_SIZE']} counts from {first}: {word}", flush=True)
    if first and rank == 0:
        record_event(run, "resumed", attempt=attempt, step=first)
    end = first + 1000 if word in ("halt", "disk") else STEPS * FACTORS.get(word, 1)
    for count in range(first, end + 1):
        replace_text(progress, str(count))
        reported.step(count)
        if stopped and word != "deaf":
            if rank == 0:  # the others do not agree with it on a step, as ranks of a training do
                asked = signal.Signals(stopped[0]).name
                record_event(run, "stop_requested", attempt=attempt, step=count, signal=asked)
                record_event(run, "checkpoint", attempt=attempt, step=count, reason="stop", seconds=0.5)
            while word == "stuck":
                time.sleep(1)
            return Exit.STOPPED
        if count >= int(at or 0) and word not in ("train", "deaf", "lingers", *FACTORS):
            if count > first:
                record_event(run, "checkpoint", attempt=attempt, step=count, reason="periodic", seconds=0.5)
            if word == "disk" and rank == 0:
                reported.phase("waiting")
            return misbehave(word, run, attempt, rank)
        time.sleep(STEP_S)
    record_event(run, "checkpoint", attempt=attempt, step=STEPS, reason="last", seconds=0.5)
    while word == "lingers":
        time.sleep(1)
    return Exit.COMPLETED


def misbehave(word: str, run: RunDir, attempt: int, rank: int) -> int:
    if word == "crash":
        record_event(
            run, "failed", attempt=attempt, cause="crashed", error="ValueError: on purpose", rank=rank
        )
        return Exit.CRASHED
    if word in ("fault0", "fault1") and word[-1] != str(rank):  # waits for that rank, as in a collective
        time.sleep(600)
    if word in ("fault", "fault0", "fault1"):
        record_event(
            run,
            "failed",
            attempt=attempt,
            cause="node_fault",
            error="ECC error",
            rank=rank,
            host=os.environ["SEDD_HOST"],
        )
        return Exit.NODE_FAULT
    if word == "crash1":  # rank 1 alone; the others wait for it, as in a collective
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)
    if word == "halt" and rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    while word in ("frozen", "halt", "disk"):
        time.sleep(1)
    if word == "litter":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (run.path / "litter.txt").write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


if __name__ == "__main__":
    offer_stacks()
    if STAND_BY in sys.argv:
        await_attempt()
    sys.exit(main(sys.argv[-1]))
