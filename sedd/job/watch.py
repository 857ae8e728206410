"""Watch an attempt's training: pass signals on, see what the run folder says, know when its time is up."""

import datetime as dt
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sedd.cluster.jobs import JobFact
from sedd.cluster.site import query_config
from sedd.errors import ClusterError, RunError, SeddError
from sedd.job.attempt import Meeting, Running, Task
from sedd.job.causes import Ending, is_finished, is_stop
from sedd.job.deadline import EXIT_S, PATIENCE_S, StopFacts, seconds_to_secure
from sedd.job.final_events import is_decided
from sedd.job.own_job import query_own_fact
from sedd.job.processes import SignalBox
from sedd.notify.stall import STALLED_S, begin_to_tell, is_stalled
from sedd.rundir.attempts import is_cancelled, slowest_save_s
from sedd.rundir.events import Event, read_events
from sedd.rundir.exits import Exit
from sedd.rundir.fence import newest_attempt
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.presence import Presence, describe_absence, is_gone

POLL_S = 0.1
LOOK_S = 2.0
"""Between two looks at events.jsonl: is the run cancelled, or another attempt's by now?"""
PEER_GRACE_S = 10.0
"""For the ranks that are left when one has failed: they hang in a collective and cannot save."""
STALL_LOOK_S = 60.0
FINISHED_PATIENCE_S = 300.0
"""For a training that has saved its last step, to exit: a tracker may still be sending, or hang for ever."""
_ASK_TIMEOUT_S = 5.0
_KILL_WAIT_S = 10.0
"""Where SLURM does not answer; its own default is 30 s."""


class RunFolderGoneError(SeddError):
    """The run folder was deleted or moved: nothing that the training does can be kept."""


def watch(task: Task, meeting: Meeting, running: Running, box: SignalBox) -> Ending:
    """Wait until the training has ended, or until the next attempt has to be secured without waiting for it.

    Raises:
        RunFolderGoneError: the run folder is gone; the training was killed.
    """
    watching = _Watch(task, meeting, running, box, query_kill_wait_s(task), Presence(task.run))
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
    running: Running
    box: SignalBox
    kill_wait_s: float
    presence: Presence
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
    next_stall_look: float = field(default_factory=lambda: time.monotonic() + STALLED_S)
    stall_told: bool = False
    finished_by: float | None = None
    """When a training whose last step is saved must have ended; None: it is not yet."""

    def is_over(self) -> bool:
        """Do what is due; whether there is nothing left to wait for."""
        now = time.monotonic()
        self._pass_on(now)
        if now > self.next_look:
            self.next_look = now + LOOK_S
            self._look(now)
        self._mind_peers(now)
        if self.task.environment.is_first and not self.stall_told and now > self.next_stall_look:
            self._mind_stall(now)
        if self.finished_by is not None and now > self.finished_by:
            print("all is saved, and the training does not exit: it is killed", flush=True)
            self._kill()
            return True
        if self.is_superseded or all(code is not None for code in self._codes().values()):
            return True
        return self.task.environment.is_first and self.secure_by is not None and now > self.secure_by

    def ending(self) -> Ending:
        """How it ended: the exit that explains the others."""
        limit_s, elapsed_s = self.task.limit_s, time.monotonic() - self.began
        left_s = None if limit_s is None else limit_s - elapsed_s
        if self.is_superseded:
            return Ending(exit_code=Exit.SUPERSEDED, signals=frozenset(), time_left_s=None, rank=0)
        ended = {rank: code for rank, code in self._codes().items() if code is not None}
        is_bad = any(code not in (Exit.COMPLETED, Exit.STOPPED) for code in self.first_codes.values())
        codes: dict[int, int | None] = {**(self.first_codes if is_bad else ended)}
        codes = codes or {self.task.environment.rank: None}
        rank, code = max(codes.items(), key=lambda item: -1 if item[1] is None else _severity(item[1]))
        signals = frozenset(self.box.received | self.passed_on)
        return Ending(exit_code=code, signals=signals, time_left_s=left_s, rank=rank)

    def _codes(self) -> dict[int, int | None]:
        return {rank: process.poll() for rank, process in self.running.items()}

    def _pass_on(self, now: float) -> None:
        """Signals to the training; the entry's own where it keeps the time limit itself."""
        limit_s = self.task.limit_s
        if limit_s is not None and now - self.began > limit_s and not self.passed_on:
            self._tell(signal.SIGUSR2, now)
        for number in sorted(self.box.received - self.passed_on):
            self._tell(number, now)

    def _tell(self, number: int, now: float) -> None:
        self.passed_on.add(number)
        for process in self.running.values():
            process.send_signal(number)
        if is_stop(number) and self.task.environment.is_first:
            events = read_events(self.task.run.events)
            self.events_at_stop = len(events)
            due = now + seconds_to_secure(self._stop_facts(events), now=dt.datetime.now(dt.UTC))
            self.secure_by = due if self.secure_by is None else min(due, self.secure_by)

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
        elif not self.task.environment.is_first and is_decided(events, self.meeting.attempt):
            self.peers_grace = self.peers_grace or (
                now,
                now + PEER_GRACE_S,
            )  # rank 0 has ended: they wait in vain
        elif signal.SIGTERM not in self.passed_on and is_cancelled(events):
            self._tell(signal.SIGTERM, now)
        elif self.secure_by is not None and _has_saved(
            events, self.events_at_stop or 0, self.meeting.attempt
        ):
            self.secure_by = min(self.secure_by, now + EXIT_S)
        if self.finished_by is None and is_finished(events):
            self.finished_by = now + FINISHED_PATIENCE_S

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
            is_well = all(code in (Exit.COMPLETED, Exit.STOPPED) for code in ended.values())
            self.peers_grace = (now, now + (PATIENCE_S if is_well else PEER_GRACE_S))
        if self.peers_grace is None:
            return
        since, until = self.peers_grace
        if now > until:
            self._kill()
        elif now > (since + until) / 2 and not self.peers_told:
            self.peers_told = True
            for process in self.running.values():
                process.terminate()

    def _kill(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


def query_kill_wait_s(task: Task) -> float:
    """From SLURM's SIGTERM to its SIGKILL."""
    if task.environment.executor != "slurm":
        return 0.0
    try:
        return float(query_config(timeout_s=_ASK_TIMEOUT_S).kill_wait_s)
    except ClusterError:
        return _KILL_WAIT_S


def query_job_fact(task: Task, events: Sequence[Event]) -> JobFact | None:
    """What SLURM shows of the job now; None where it does not answer or shows another, and under the local executor."""
    if task.environment.executor != "slurm":
        return None
    try:
        return query_own_fact(task, events, timeout_s=_ASK_TIMEOUT_S)
    except ClusterError as e:
        print(f"cannot query the job: {e.message}", flush=True)
        return None


def _has_saved(events: Sequence[Event], since: int, attempt: int) -> bool:
    """Whether the training has written its last checkpoint after it was asked to stop."""
    return any(
        e.event == "checkpoint" and e.attempt == attempt and e.get("reason") in ("stop", "last")
        for e in events[since:]
    )


def _severity(code: int) -> int:
    """Orders exits: the one that explains the others is the largest."""
    if code in (Exit.COMPLETED, Exit.STOPPED):
        return 0 if code == Exit.COMPLETED else 1
    if is_stop(-code) or code == Exit.PEER_LOST:
        return 2
    return 4 if code == Exit.NODE_FAULT or code < 0 else 3
