"""Watch an attempt's training: pass signals on, see what the run folder says, know when its time is up."""

import datetime as dt
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sedd.errors import RunError, SeddError
from sedd.job.attempt import Meeting, Task, Trainings
from sedd.job.causes import Ending, is_finished, is_stop, severity
from sedd.job.deadline import EXIT_S, PATIENCE_S, StopFacts, seconds_to_secure
from sedd.job.final_events import is_decided, starts_in_job
from sedd.job.hang_watch import HangWatch, find_hang, write_hang_stacks
from sedd.job.own_job import query_job_fact, query_kill_wait_s
from sedd.job.processes import SignalBox
from sedd.job.standby import PREPARE_AFTER_S
from sedd.launch.wake import begin_to_wake
from sedd.notify.stall import STALLED_S, begin_to_tell, is_stalled
from sedd.rundir.attempts import is_cancelled, slowest_save_s
from sedd.rundir.events import Event, read_events
from sedd.rundir.exits import ENDED_WELL, Exit
from sedd.rundir.fence import newest_attempt
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.presence import Presence, describe_absence, is_gone

POLL_S = 0.1
LOOK_S = 2.0
"""Between two looks at events.jsonl: is the run cancelled, or another attempt's by now?"""
PEER_GRACE_S = 5.0
"""For the ranks that are left when one has failed: they hang in a collective and cannot save; rank 0 may be writing."""
DECIDED_GRACE_S = 10.0
"""For the ranks that are left when rank 0 has ended."""
_STACKS_S = LOOK_S + 2.0
"""For the other entries to see that the attempt hangs, and to write their stacks, before any training is ended."""
STALL_LOOK_S = 60.0
FINISHED_PATIENCE_S = 300.0
"""For a training that has saved its last step, to exit: a tracker may still be sending, or hang for ever."""
_DIE_S = 10.0
"""For a killed training to be gone: one that waits for a dead disk is not."""


class RunFolderGoneError(SeddError):
    """The run folder was deleted or moved: nothing that the training does can be kept."""


def watch(task: Task, meeting: Meeting, trainings: Trainings, box: SignalBox) -> Ending:
    """Wait until the training has ended, or until the next attempt has to be secured without waiting for it.

    Raises:
        RunFolderGoneError: the run folder is gone; the training was killed.
    """
    hangs = HangWatch(task, meeting, trainings)
    watching = _Watch(task, meeting, trainings, box, query_kill_wait_s(task), Presence(task.run), hangs)
    while not watching.is_over():
        time.sleep(POLL_S)
    if not is_gone(task.run.manifest):
        return watching.ending()
    while is_gone(task.run.manifest):  # the training may have failed for just that
        watching.require_folder(time.monotonic())
        time.sleep(POLL_S)
    return folder_was_away()


def folder_was_away() -> Ending:
    """An ending that another attempt may follow."""
    why = "the run folder was away for a while, and the training ended"
    return Ending(exit_code=-signal.SIGKILL, signals=frozenset(), time_left_s=None, rank=0, error=why)


@dataclass(slots=True)
class _Watch:
    """What has been seen so far. Times are those of `time.monotonic`."""

    task: Task
    meeting: Meeting
    trainings: Trainings
    box: SignalBox
    kill_wait_s: float
    presence: Presence
    hangs: HangWatch
    began: float = field(default_factory=time.monotonic)
    next_look: float = field(default_factory=lambda: time.monotonic() + LOOK_S)
    passed_on: set[int] = field(default_factory=set)
    secure_by: float | None = None
    """When the next attempt must be secured; None: nothing has asked the training to stop."""
    peers_grace: tuple[float, float] | None = None
    """Since when, and until when, the processes that are left may go on though another one has ended."""
    events_at_stop: int | None = None
    """How many events there were when the training was asked to stop."""
    peers_told: bool = False
    first_codes: dict[int, int] = field(default_factory=dict)
    """Of the processes that ended by themselves, before any other was ended for it."""
    is_superseded: bool = False
    is_hung: bool = False
    was_killed: bool = False
    """By this entry: no process ended by itself."""
    next_stall_look: float = field(default_factory=lambda: time.monotonic() + STALLED_S)
    stall_told: bool = False
    rungs_passed: int = 0
    """How many rungs the training has passed in this attempt: each time, fellows that wait may have won, too."""
    finished_by: float | None = None
    """When a training whose last step is saved must have ended; None: it is not yet."""

    def is_over(self) -> bool:
        """Do what is due; whether there is nothing left to wait for."""
        now = time.monotonic()
        self._pass_on(now)
        if now > self.next_look:
            self.next_look = now + LOOK_S
            self._look(now)
        if not self.is_hung and self.hangs.is_hung(now):  # also when asked to stop: it will not save
            self.is_hung = self.peers_told = True
            is_alone = self.task.experiment.resources.ranks == len(self.trainings.processes)
            self.peers_grace = (now, now + (0.0 if is_alone else _STACKS_S))
        self._mind_peers(now)
        if self.task.environment.is_first and not self.stall_told and now > self.next_stall_look:
            self._mind_stall(now)
        if self.finished_by is not None and now > self.finished_by:
            print("all is saved, and the training does not exit: it is killed", flush=True)
            self._kill()
            return True
        if self.was_killed or all(code is not None for code in self._codes().values()):
            return True
        return self.task.environment.is_first and self.secure_by is not None and now > self.secure_by

    def ending(self) -> Ending:
        """How it ended: the exit that explains the others."""
        limit_s, elapsed_s = self.task.limit_s, time.monotonic() - self.began
        left_s = None if limit_s is None else limit_s - elapsed_s
        if self.is_superseded:
            return Ending(exit_code=Exit.SUPERSEDED, signals=frozenset(), time_left_s=None, rank=0)
        ended = {rank: code for rank, code in self._codes().items() if code is not None}
        is_bad = any(code not in ENDED_WELL for code in self.first_codes.values())
        codes: dict[int, int | None] = {**(self.first_codes if is_bad else ended)}
        codes = codes or {self.task.environment.rank: None}
        rank, code = max(codes.items(), key=lambda item: -1 if item[1] is None else severity(item[1]))
        if self.was_killed and not self.first_codes and code is not None:
            code = (
                Exit.PEER_LOST
            )  # it did not end by itself: a hang, or what ended another entry's, has its event
        signals = frozenset(self.box.received | self.passed_on)
        return Ending(exit_code=code, signals=signals, time_left_s=left_s, rank=rank)

    def _codes(self) -> dict[int, int | None]:
        return {rank: process.poll() for rank, process in self.trainings.processes.items()}

    def _pass_on(self, now: float) -> None:
        """Signals to the training; the entry's own where it keeps the time limit itself."""
        limit_s = self.task.limit_s
        is_asked = any(map(is_stop, self.passed_on))  # SIGCONT, as after a suspension, asks for nothing
        if limit_s is not None and now - self.began > limit_s and not is_asked:
            self._tell(signal.SIGUSR2, now)
        for number in sorted(self.box.received - self.passed_on):
            self._tell(number, now)

    def _tell(self, number: int, now: float) -> None:
        self.passed_on.add(number)
        for process in self.trainings.processes.values():
            process.send_signal(number)
        if is_stop(number) and self.task.environment.is_first:
            events = self._events()
            self.events_at_stop = len(events)
            due = now + seconds_to_secure(self._stop_facts(events), now=dt.datetime.now(dt.UTC))
            self.secure_by = due if self.secure_by is None else min(due, self.secure_by)

    def _events(self) -> Sequence[Event]:
        """The run's; empty where they cannot be read just now: to fail would end a training that is about to save."""
        try:
            return read_events(self.task.run.events)
        except RunError as e:
            print(e.message, flush=True)
            return ()

    def _stop_facts(self, events: Sequence[Event]) -> StopFacts:
        node = self.task.environment
        return StopFacts(
            executor=node.executor,
            job=query_job_fact(self.task, events),
            restarts=node.restarts,
            kill_wait_s=self.kill_wait_s,
            lead_s=node.lead_s,
            signals=frozenset(self.passed_on),
            save_s=slowest_save_s(events),
        )

    def _look(self, now: float) -> None:
        """What the run folder says: that another attempt has begun, rank 0 has ended, a user has cancelled it."""
        self.require_folder(now)
        try:
            events = read_events(self.task.run.events)
        except RunError:
            return  # a file server that fails for a moment
        if newest_attempt(events) > self.meeting.attempt:
            self._kill()  # at once: it would save if it were asked
            self.is_superseded = True
        elif starts_in_job(events, self.meeting.attempt):
            self._kill()
        elif self.peers_grace is None and (until_s := self._others_are_over(events)):
            self.peers_grace = (now, now + until_s)
        elif signal.SIGTERM not in self.passed_on and is_cancelled(events):
            self._tell(signal.SIGTERM, now)
        elif self.secure_by is not None and _has_saved(
            events, self.events_at_stop or 0, self.meeting.attempt
        ):
            self.secure_by = min(self.secure_by, now + EXIT_S)
        if now > self.began + PREPARE_AFTER_S and self.secure_by is None and not self.passed_on:
            self.trainings.stand_by()
        self._mind_fellows(events)
        if self.finished_by is None and is_finished(events):
            self.finished_by = now + FINISHED_PATIENCE_S

    def _others_are_over(self, events: Sequence[Event]) -> float:
        """How long our training may continue when those of other entries failed, or were decided on; 0: they go on."""
        attempt, is_first = self.meeting.attempt, self.task.environment.is_first
        if why := find_hang(events, attempt=attempt):
            write_hang_stacks(self.task, self.trainings, why)
            self.peers_told = True
            return _STACKS_S
        if not is_first and is_decided(events, attempt):
            return DECIDED_GRACE_S  # rank 0 has ended: they wait in vain
        own = self.trainings.processes.keys()
        has_failed = any(
            e.event == "failed" and e.attempt == attempt and e.get("rank") not in own for e in events
        )
        return PEER_GRACE_S if has_failed else 0.0

    def _mind_fellows(self, events: Sequence[Event]) -> None:
        """When the training has passed a rung, let those start that are known to pass it now."""
        passed = sum(e.event == "promoted" and e.attempt == self.meeting.attempt for e in events)
        if self.task.environment.is_first and passed > self.rungs_passed:
            begin_to_wake(self.task.run)
        self.rungs_passed = max(passed, self.rungs_passed)

    def require_folder(self, now: float) -> None:
        """Raises: RunFolderGoneError when the run folder has been away for a while; the training is killed."""
        if self.presence.is_gone(now):
            self._kill()
            raise RunFolderGoneError(describe_absence(self.task.run))

    def _mind_stall(self, now: float) -> None:
        """Tell a training that stands still to whom the user wants it told."""
        self.next_stall_look = now + STALL_LOOK_S
        beat = read_heartbeat(self.task.run.heartbeat)
        if beat is not None and beat.attempt == self.meeting.attempt and is_stalled(beat):
            self.stall_told = True
            begin_to_tell(self.task.run)

    def _mind_peers(self, now: float) -> None:
        """Once a process has ended the others get a while; after half of it they are asked to stop, then killed."""
        codes = self._codes()
        ended = {rank: code for rank, code in codes.items() if code is not None}
        if ended and len(ended) < len(codes) and self.peers_grace is None:
            self.first_codes = ended
            is_well = all(code in ENDED_WELL for code in ended.values())
            self.peers_grace = (now, now + (PATIENCE_S if is_well else PEER_GRACE_S))
        if self.peers_grace is None:
            return
        since, until = self.peers_grace
        if now > until:
            self._kill()
        elif now > (since + until) / 2 and not self.peers_told:
            self.peers_told = True
            for process in self.trainings.processes.values():
                process.terminate()

    def _kill(self) -> None:
        self.was_killed = True
        for process in self.trainings.processes.values():
            process.kill()
        deadline = time.monotonic() + _DIE_S
        while any(code is None for code in self._codes().values()) and time.monotonic() < deadline:
            time.sleep(POLL_S / 10)


def _has_saved(events: Sequence[Event], since: int, attempt: int) -> bool:
    """Whether the training has written its last checkpoint after it was asked to stop."""
    return any(
        e.event == "checkpoint" and e.attempt == attempt and e.get("reason") in ("stop", "last")
        for e in events[since:]
    )
