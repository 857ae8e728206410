"""The facts that were read about runs at one moment: the input of every decision."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sedd.cluster.jobs import JobFact
from sedd.monitor.read.history import History
from sedd.monitor.read.task_result import TaskResult
from sedd.rundir.heartbeat import Heartbeat
from sedd.rundir.layout import RunDir

EVENTS_FILE, HEARTBEAT_FILE = "events.jsonl", "heartbeat.json"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the monitor needs of manifest.json.

    Attributes:
        made: when the run folder was made.
        task: what the run does; train unless the manifest says otherwise.
        sweep: the sweep's id, or None.
        point: the sweep's dotted keys of this run.
    """

    made: dt.datetime
    task: str = "train"
    steps: int | None = None
    gpus: int | None = None
    gpu_type: str | None = None
    executor: str = ""
    sweep: str | None = None
    point: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvidence:
    """What is known of a run's job outside its folder.

    Attributes:
        job: what SLURM says of the run's own job; None when it does not know the job, or was not asked.
        stranger: the job that has the id of the run's job now and is not it; nothing is said of it but that.
        cluster: the other cluster that the job belongs to, of which the SLURM at hand knows nothing; else nothing.
        seen: when SLURM gave the answer that `job` (or its absence) is from.
        slurm_down: SLURM does not answer now; `job` is what it last said.
        hidden: SLURM shows this user no jobs of the run's owner (PrivateData): that there is none says nothing.
        disk_full: that nothing can be written to a silent run's folder, and where: `disk full: 0 B free in /scratch`.
        output: what a job that never came to our first line printed last.
        alive: whether the job's process lives; None when that cannot be seen from this machine.
    """

    job: JobFact | None = None
    stranger: JobFact | None = None
    cluster: str = ""
    seen: dt.datetime | None = None
    slurm_down: bool = False
    hidden: bool = False
    disk_full: str = ""
    output: str = ""
    alive: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run, as read.

    Attributes:
        unreadable: files that this user may not read, each with the reason.
        manifest_damage: what is wrong with manifest.json, with its line; else nothing.
        result: what a completed run of another task than training came to.
    """

    run: RunDir
    plan: Plan
    history: History = field(default_factory=History)
    beat: Heartbeat | None = None
    evidence: JobEvidence = field(default_factory=JobEvidence)
    unreadable: tuple[str, ...] = ()
    manifest_damage: str = ""
    result: TaskResult | None = None

    @property
    def damage(self) -> tuple[str, ...]:
        """Damaged files, each with its line."""
        lines = self.history.damaged
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        events = [f"{EVENTS_FILE}:{lines[0]}: damaged line, passed over{more}"] if lines else []
        return (*([self.manifest_damage] if self.manifest_damage else []), *events)

    @property
    def unread_events(self) -> str:
        """Why its events may not be read; nothing where they may."""
        return next((what for what in self.unreadable if what.startswith(EVENTS_FILE)), "")

    @property
    def unread_beat(self) -> str:
        """Why its heartbeat may not be read; nothing where it may."""
        return next((what for what in self.unreadable if what.startswith(HEARTBEAT_FILE)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """How asking SLURM went.

    Attributes:
        asked: when it last answered; None when it has not, or had not to be asked.
        down_since: since when it has not answered.
        error: what it said instead.
    """

    asked: dt.datetime | None = None
    down_since: dt.datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All runs, as read at `taken`."""

    taken: dt.datetime
    runs: tuple[RunFacts, ...]
    queue: QueueFacts = field(default_factory=QueueFacts)
