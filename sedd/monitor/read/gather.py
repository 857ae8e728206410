"""Gather all facts about runs: from their folders, and about their jobs from SLURM or this machine."""

import datetime as dt
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from sedd.cluster.jobs import JobFact
from sedd.cluster.users import user_name
from sedd.monitor.decide.state import State
from sedd.monitor.decide.verdict import decide
from sedd.monitor.read.disks import Disks
from sedd.monitor.read.facts import Facts, JobEvidence, RunFacts
from sedd.monitor.read.folder import Folder, has_ended
from sedd.monitor.read.history import History
from sedd.monitor.read.live_processes import query_alive
from sedd.monitor.read.queue import Queue
from sedd.rundir.attempts import Cause
from sedd.rundir.heartbeat import INTERVAL_S, age_s
from sedd.rundir.layout import RunDir

_LATE_S = 3 * INTERVAL_S
"""So long after the last heartbeat it is looked whether the disk is full."""


class Gatherer:
    """Facts about runs; remembers what it read. Facts that did not change are the same objects as last time."""

    def __init__(
        self, *, queue: Queue | None = None, alive: Callable[[History], bool | None] = query_alive
    ) -> None:
        self._queue = queue or Queue()
        self._alive = alive
        self._listed: list[RunDir] = []
        self._folders: list[Folder] = []

    def gather(self, runs: Iterable[RunDir], *, now: dt.datetime) -> Facts:
        """Everything known about `runs`; runs whose folder has vanished are left out."""
        is_first = not self._folders
        with _uncollected():
            self._list(list(runs))
            read = [(f, facts) for f in self._folders if (facts := f.read()) is not None]
            waiting = [folder for folder, facts in read if _needs_slurm(facts)]
            if waiting and self._queue.is_due:
                self._queue.refresh(_owners(waiting), now=now, names_cluster=_names_cluster(read))
            disks = Disks()
            seen = [self._with_evidence(folder, facts, disks, now) for folder, facts in read]
            if is_first:
                gc.freeze()  # they stay: later searches for cycles need not go through them
        if waiting and (forgotten := _forgotten(seen, now)):
            self._queue.recall(forgotten)
            seen = [self._with_evidence(folder, facts, disks, now) for folder, facts in read]
        return Facts(taken=now, runs=tuple(seen), queue=self._queue.facts)

    def _list(self, runs: list[RunDir]) -> None:
        if runs == self._listed:
            return
        known = {str(folder.run.path): folder for folder in self._folders}
        new = {(path := str(run.path)): known.get(path) or Folder(run) for run in runs}
        self._listed, self._folders = runs, list(new.values())

    def _with_evidence(self, folder: Folder, facts: RunFacts, disks: Disks, now: dt.datetime) -> RunFacts:
        if has_ended(facts.history):
            return facts
        full = disks.why_full(folder.path) if _may_wait_for_space(facts, now) else ""
        if facts.plan.executor == "slurm":
            return self._with_job(folder, facts, full)
        alive, output = self._alive(facts.history), ""
        if alive is False:
            # It may have had its last word between our reading and its end.
            facts = folder.read() or facts
            output = folder.job_output(facts) if _is_unstarted(facts) else ""
        return folder.join(facts, JobEvidence(alive=alive, disk_full=full, output=output))

    def _with_job(self, folder: Folder, facts: RunFacts, full: str) -> RunFacts:
        """The facts with what SLURM says of the run's own job, told from others by its identity."""
        asked, identity = self._queue.facts, facts.history.identity
        is_down = asked.down_since is not None
        cluster = self._queue.other_cluster(identity) if identity else ""
        job, stranger = self._queue.find(identity) if identity and not cluster else (None, None)
        hidden = job is None and self._queue.hides(folder.owner_uid)
        is_over = (job is None and not (is_down or hidden or cluster)) or (job and job.state.is_final)
        output = folder.job_output(facts) if is_over and _is_unstarted(facts) else ""
        old = folder.joined(facts)
        if old is not None and _is_same(old.evidence, job, stranger, cluster, is_down, hidden, full, output):
            last, seen = facts.history.last, old.evidence.seen
            # That SLURM has said the same again is news only for a run that had spoken since.
            if seen is asked.asked or (seen is not None and (last is None or last.t <= seen)):
                return old
        evidence = JobEvidence(
            job=job,
            stranger=stranger,
            cluster=cluster,
            seen=asked.asked,
            slurm_down=is_down,
            hidden=hidden,
            disk_full=full,
            output=output,
        )
        return folder.join(facts, evidence)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for reference cycles: reading makes a million objects and no cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _needs_slurm(facts: RunFacts) -> bool:
    return facts.plan.executor == "slurm" and not has_ended(facts.history)


def _is_unstarted(facts: RunFacts) -> bool:
    """Whether its newest job has not come to count an attempt, as far as the run's events tell."""
    return facts.history.last is not None and facts.history.last.event in ("submitted", "requeued")


def _may_wait_for_space(facts: RunFacts, now: dt.datetime) -> bool:
    """Whether an attempt that should write has not done so for a while, or ended because it could not."""
    last = facts.history.last
    if last is None:
        return False
    if facts.history.open_attempt is None:
        return last.event == "requeued" and last.get("cause") == Cause.DISK_FULL
    if (now - last.t).total_seconds() <= _LATE_S:
        return False
    return facts.beat is None or age_s(facts.beat, now=now) > _LATE_S


def _is_same(
    was: JobEvidence,
    job: JobFact | None,
    stranger: JobFact | None,
    cluster: str,
    is_down: bool,
    hidden: bool,
    full: str,
    output: str,
) -> bool:
    if was.job is not job or was.stranger is not stranger or was.cluster != cluster or was.output != output:
        return False
    return was.slurm_down is is_down and was.hidden is hidden and was.disk_full == full


def _names_cluster(read: Iterable[tuple[Folder, RunFacts]]) -> bool:
    """Whether a run that SLURM is asked about says which cluster it belongs to."""
    return any(
        facts.history.identity is not None and facts.history.identity.cluster
        for _, facts in read
        if _needs_slurm(facts)
    )


def _forgotten(runs: Sequence[RunFacts], now: dt.datetime) -> list[str]:
    """Jobs of the runs that will be called lost unless slurmdbd knows more."""
    unknown = [f for f in runs if f.evidence.job is None and f.history.job_id and _needs_slurm(f)]
    return sorted({f.history.job_id for f in unknown if decide(f, now=now).state is State.LOST})


def _owners(folders: Sequence[Folder]) -> list[str]:
    """Who made the runs, by name: whose jobs to ask SLURM for."""
    return sorted({user_name(folder.owner_uid) for folder in folders})
