"""Rank 0's entry watches the progress of its training; a hang is recorded, and its stacks are written."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sedd.errors import RunError
from sedd.job.attempt import Meeting, Task, Trainings, log_of
from sedd.job.final_events import record_event
from sedd.job.hangs import Stillness, why_hung
from sedd.job.stacks import is_traced, write_stacks
from sedd.rundir.attempts import Cause, slowest_save_s
from sedd.rundir.events import Event, read_events
from sedd.rundir.rank_progress import read_progress

JUDGE_S = 2.0
"""Between two judgements of a training that stands still within its limit: each reads the events."""


@dataclass(slots=True)
class HangWatch:
    """What this entry knows of the progress of rank 0."""

    task: Task
    meeting: Meeting
    trainings: Trainings
    stillness: Stillness = field(default_factory=Stillness)
    next_judgement: float = 0.0

    def is_hung(self, now: float) -> bool:
        """Look at what rank 0 has reported; whether it hangs now. That is recorded, for the other entries too."""
        after_s = self.task.experiment.retry.hang_after
        if after_s is None or not self.task.environment.is_first:
            return False
        self.stillness.see(read_progress(self.trainings.progress[0]), now)
        if max(self.stillness.still_s, self.stillness.saving_s) <= after_s or now < self.next_judgement:
            return False
        self.next_judgement = now + JUDGE_S
        try:
            save_s = slowest_save_s(read_events(self.task.run.events)) or 0.0
        except RunError:
            return False  # a file server that fails for a moment, as in `watch`
        why = why_hung(self.stillness, hang_after_s=after_s, slowest_save_s=save_s)
        if why is None:
            return False
        if any(is_traced(process.pid) for process in self.trainings.processes.values()):
            self.stillness.begin_again()
            return False
        record_event(
            self.task.run, "failed", attempt=self.meeting.attempt, cause=Cause.HUNG, error=why, rank=0
        )
        write_hang_stacks(self.task, self.trainings, why)
        return True


def write_hang_stacks(task: Task, trainings: Trainings, why: str) -> None:
    """The stacks of this entry's trainings, into the log of the first of them."""
    print(f"the training hangs: {why}", flush=True)
    pids = {rank: process.pid for rank, process in trainings.processes.items() if process.poll() is None}
    if pids:
        write_stacks([*pids.values()], why, log=log_of(task, min(pids)))


def find_hang(events: Sequence[Event], *, attempt: int) -> str | None:
    """Why rank 0's entry has called this attempt hung; None if it has not."""
    return next(
        (
            str(e.get("error"))
            for e in events
            if e.event == "failed" and e.attempt == attempt and e.get("cause") == Cause.HUNG
        ),
        None,
    )
