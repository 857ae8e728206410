"""The context in which checks run: experiment, profile, run folder, side, shared answers."""

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from sedd.cluster.profile import LocalProfile, Profile, SlurmProfile
from sedd.cluster.site import Node, Partition, SiteConfig, query_config, query_nodes, query_partitions
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.spec.task import TaskSpec

SLURM_TIMEOUT_S = 3.0
"""Longest wait for one answer of SLURM: the whole login side takes at most 5 s."""

T = TypeVar("T")


class Side(StrEnum):
    """Where a check runs."""

    LOGIN = "login"
    """Where `sedd submit` is typed: no torch import."""
    NODE = "node"
    """Where the training will run, before its first step."""


class Once(Generic[T]):
    """A question asked at most once, whichever of the checks running side by side needs it first.

    A question that failed fails the same way for everybody.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self.answer: T | None = None
        """None: not yet, or it failed."""
        self._error: Exception | None = None
        self._asked = False

    def __call__(self) -> T:
        with self._lock:
            if not self._asked:
                try:
                    self.answer = self._ask()
                except Exception as e:
                    self._error = e
                self._asked = True
        if self._error is not None:
            raise self._error
        return self.answer  # type: ignore[return-value] # set by _ask, which may well return None


class Answers:
    """Answers to questions that are asked once for all checks, all points of a sweep, all specs of a command.

    Two looks at the same disk would differ by a little, and be told twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions: dict[Hashable, Once[Any]] = {}

    def once(self, question: Hashable, ask: Callable[[], T]) -> T:
        """The answer; `ask` is called the first time that the question comes up."""
        with self._lock:
            asked = self._questions.setdefault(question, Once(ask))
        answer: T = asked()
        return answer

    def known(self, question: Hashable, kind: type[T]) -> T | None:
        """The answer to a question that has been answered; never waits for one."""
        asked = self._questions.get(question)
        return asked.answer if asked and isinstance(asked.answer, kind) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """What SLURM says of the site; every question raises SlurmUnreachable or ClusterError without an answer."""

    config: Callable[[], SiteConfig]
    partitions: Callable[[], list[Partition]]
    nodes: Callable[[], list[Node]]


def real_slurm(answers: Answers | None = None) -> Slurm:
    """SLURM itself, each question asked once."""
    known = answers or Answers()
    return Slurm(
        config=lambda: known.once("config", lambda: query_config(timeout_s=SLURM_TIMEOUT_S)),
        partitions=lambda: known.once("partitions", lambda: query_partitions(timeout_s=SLURM_TIMEOUT_S)),
        nodes=lambda: known.once("nodes", lambda: query_nodes(timeout_s=SLURM_TIMEOUT_S)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """One experiment at one place, seen from one side."""

    side: Side
    experiment: TaskSpec
    profile: Profile
    folder: Path
    """Where run folders are made (login), or the run folder itself (node)."""
    environ: Mapping[str, str]
    run: RunDir | None = None
    """The run; None on the login side, and in a node check without a job."""
    rank: int = 0
    ranks_size: int = 1
    local_rank: int = 0
    slurm: Slurm = field(default_factory=real_slurm)
    answers: Answers = field(default_factory=Answers)
    request: tuple[TaskSpec, ...] = ()
    """All runs that are submitted together, this one among them; see `runs_together`."""
    parallel: int | None = None
    """Runs of the request that may go on at the same time."""
    point: str = ""
    """Which of a sweep's runs this is, in words."""
    changed: RunDir | None = None
    """On the login side: the run that is there already, and is to go on with this spec."""
    awaited: Mapping[Path, str] = field(default_factory=dict)
    """Files and folders that are not there yet, and the earlier stage of the plan that makes each."""

    @property
    def training_run(self) -> Experiment:
        """What is asked for, to a check whose `tasks` are trainings alone."""
        assert isinstance(self.experiment, Experiment)
        return self.experiment

    @property
    def runs_together(self) -> tuple[TaskSpec, ...]:
        """The runs that share disk and queue: all points of a sweep, or this one."""
        return self.request or (self.experiment,)

    @property
    def training_runs(self) -> tuple[Experiment, ...]:
        """The trainings among the runs that are submitted together."""
        return tuple(run for run in self.runs_together if isinstance(run, Experiment))

    @property
    def runs_at_once(self) -> int:
        """How many of the runs that are submitted together may go on at the same time; on a node it is one."""
        return 1 if self.side is Side.NODE else min(self.parallel or 1, len(self.runs_together))

    @property
    def cards_of_each(self) -> int:
        """Cards of this machine that each of them has: as many as the one that wants most."""
        runs = (self.experiment,) if self.side is Side.NODE else self.runs_together
        return max(run.resources.gpus_per_node for run in runs)

    @property
    def cards_at_once(self) -> int:
        """Cards of this machine that they have together."""
        return self.runs_at_once * self.cards_of_each

    @property
    def site(self) -> SlurmProfile | None:
        """The profile of a SLURM site, or None on this machine alone."""
        return None if isinstance(self.profile, LocalProfile) else self.profile

    @property
    def is_first_here(self) -> bool:
        """Whether this process looks at what all processes of the node share."""
        return self.local_rank == 0

    @property
    def runs_here(self) -> bool:
        """Whether this machine is the one that trains: the node side, or a run without a scheduler."""
        return self.side is Side.NODE or self.site is None

    def maker_of(self, path: Path) -> str | None:
        """The stage of the plan that is still to make this file or folder; None: it must be there already."""
        return next((stage for made, stage in self.awaited.items() if path.is_relative_to(made)), None)

    def query_own_partitions(self) -> list[Partition]:
        """The partitions that the profile names, else the site's default; those SLURM does not know are left out."""
        partitions, asked = self.slurm.partitions(), self.site.partition if self.site else None
        if asked is None:
            return [p for p in partitions if p.is_default]
        names = [name.strip() for name in asked.split(",")]
        return [p for p in partitions if p.name in names]

    def query_own_nodes(self) -> list[Node]:
        """The nodes of these partitions."""
        names = {p.name for p in self.query_own_partitions()}
        return [node for node in self.slurm.nodes() if names & set(node.partitions)]
