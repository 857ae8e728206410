"""Each entry watches the progress of its trainings; a hang is recorded, and its stacks are written."""

from collections import defaultdict
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
    """What this entry knows of the progress of its ranks."""

    task: Task
    meeting: Meeting
    trainings: Trainings
    stillness: dict[int, Stillness] = field(default_factory=lambda: defaultdict(Stillness))
    """By rank."""
    next_judgement: float = 0.0

    def is_hung(self, now: float) -> bool:
        """Look at what the ranks have reported; whether one hangs now. That is recorded, for the other entries too."""
        after_s = self.task.experiment.retry.hang_after
        if after_s is None:
            return False
        for rank, descriptor in self.trainings.progress.items():
            self.stillness[rank].see(read_progress(descriptor), now)
        longest_s = max((max(each.still_s, each.saving_s) for each in self.stillness.values()), default=0.0)
        if longest_s <= after_s or now < self.next_judgement:
            return False
        self.next_judgement = now + JUDGE_S
        try:
            events = read_events(self.task.run.events)
        except RunError:
            return False  # a file server that fails for a moment, as in `watch`
        if find_hang(events, attempt=self.meeting.attempt):
            return False  # another entry has said so, and `watch` sees it
        found = self._first_hung(after_s, slowest_save_s(events) or 0.0)
        if found is None:
            return False
        if any(is_traced(process.pid) for process in self.trainings.processes.values()):
            self.stillness.clear()
            return False
        rank, why = found
        record_event(
            self.task.run, "failed", attempt=self.meeting.attempt, cause=Cause.HUNG, error=why, rank=rank
        )
        write_hang_stacks(self.task, self.trainings, why)
        return True

    def _first_hung(self, after_s: float, save_s: float) -> tuple[int, str] | None:
        """The first rank that hangs, and what is known of it."""
        for rank, each in sorted(self.stillness.items()):
            why = why_hung(each, hang_after_s=after_s, slowest_save_s=save_s, is_first=rank == 0)
            if why is not None:
                return rank, why if rank == 0 else f"rank {rank}: {why}"
        return None


def write_hang_stacks(task: Task, trainings: Trainings, why: str) -> None:
    """The stacks of this entry's trainings, into the log of the first of them."""
    print(f"the training hangs: {why}", flush=True)
    pids = {rank: process.pid for rank, process in trainings.processes.items() if process.poll() is None}
    if pids:
        write_stacks([*pids.values()], why, log=log_of(task, min(pids)))


def find_hang(events: Sequence[Event], *, attempt: int) -> str | None:
    """Why an entry has called this attempt hung; None if none has."""
    return next(
        (
            str(e.get("error"))
            for e in events
            if e.event == "failed" and e.attempt == attempt and e.get("cause") == Cause.HUNG
        ),
        None,
    )
