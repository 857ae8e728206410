"""Ask SLURM about the jobs of all runs, seldom, and keep its last answer while it does not answer."""

import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.identity import JobIdentity, is_same_job, query_cluster_name
from sedd.cluster.jobs import JobFact
from sedd.cluster.sacct import parse_sacct, query_sacct
from sedd.cluster.site import SiteConfig, query_config
from sedd.cluster.squeue import parse_squeue, query_squeue
from sedd.cluster.users import user_name
from sedd.errors import ClusterError
from sedd.monitor.read.facts import QueueFacts

INTERVAL_S = 10.0
"""Sites ask for no more than this."""
TIMEOUT_S = 10.0
_LONGEST_S = 300.0
_PATIENCE = 20.0
"""After an answer that took d seconds, the next question waits at least this many d."""

Query = Callable[[Sequence[str]], str]


class Queue:
    """Keeps SLURM's last answer; asks again when it is due."""

    def __init__(
        self,
        *,
        squeue: Query = lambda users: query_squeue(users, timeout_s=TIMEOUT_S),
        sacct: Query = lambda ids: query_sacct(ids, timeout_s=TIMEOUT_S),
        config: Callable[[], SiteConfig] = lambda: query_config(timeout_s=TIMEOUT_S),
        cluster: Callable[[], str | None] = lambda: query_cluster_name(timeout_s=TIMEOUT_S),
        clock: Callable[[], float] = time.monotonic,
        uid: int | None = None,
    ) -> None:
        """`uid` is who asks, by default this process's user."""
        self._squeue, self._sacct, self._config, self._clock = squeue, sacct, config, clock
        self._query_cluster = cluster
        self._cluster: str | None = None
        self._is_cluster_known = False
        self._uid = os.geteuid() if uid is None else uid
        self._site: SiteConfig | None = None
        self._visible: frozenset[str | None] = frozenset()
        self._jobs: dict[str, JobFact] = {}
        self._said: dict[str, list[JobFact]] = {}
        self._past: dict[str, tuple[JobFact, ...]] = {}
        self._compared: dict[str, tuple[JobFact, JobIdentity, bool]] = {}
        self._has_accounting = True
        self._facts = QueueFacts()
        self._due = 0.0
        self._wait_s = INTERVAL_S

    @property
    def facts(self) -> QueueFacts:
        return self._facts

    @property
    def is_due(self) -> bool:
        """Whether the last question is long enough ago."""
        return self._clock() >= self._due

    def refresh(self, users: Sequence[str], *, now: dt.datetime, names_cluster: bool = False) -> None:
        """Ask squeue for the jobs of `users`, if that is due; and, once, for the cluster's name if that matters."""
        if not self.is_due:
            return
        begun = self._clock()
        try:
            answer = self._squeue(users)
            if names_cluster and not self._is_cluster_known:
                self._cluster, self._is_cluster_known = self._query_cluster(), True
            self._jobs = _by_id(self._parse(answer))
        except ClusterError as e:
            since = self._facts.down_since or now
            self._facts = QueueFacts(asked=self._facts.asked, down_since=since, error=e.message)
            self._wait_s = min(2 * self._wait_s, _LONGEST_S)
        else:
            self._visible = frozenset({job.user for job in self._jobs.values()})
            self._ask_what_is_private(users)
            self._facts = QueueFacts(asked=now)
            self._wait_s = min(max(INTERVAL_S, _PATIENCE * (self._clock() - begun)), _LONGEST_S)
        self._due = self._clock() + self._wait_s

    def hides(self, owner_uid: int) -> bool:
        """Whether that a job of this owner was not in the answer says nothing: SLURM shows us no job of theirs."""
        if self._site is None or not self._site.hides_jobs(owner_uid=owner_uid, from_uid=self._uid):
            return False
        return user_name(owner_uid) not in self._visible

    def _ask_what_is_private(self, users: Sequence[str]) -> None:
        """Once, and only where it matters: among the runs are other people's, and squeue said nothing of theirs."""
        own = {user_name(self._uid)}
        if self._site is not None or self._uid == 0 or not set(users) - own - self._visible:
            return
        try:
            self._site = self._config()
        except ClusterError:
            return  # it has answered squeue just now: the next refresh asks again

    def _parse(self, text: str) -> list[JobFact]:
        """The jobs; those of a line that was there last time are the same objects."""
        old = self._said
        self._said = {line: old[line] if line in old else parse_squeue(line) for line in text.splitlines()}
        return [job for jobs in self._said.values() for job in jobs]

    @property
    def jobs(self) -> tuple[JobFact, ...]:
        """Every job of the last answer."""
        return tuple({id(job): job for job in self._jobs.values()}.values())

    def other_cluster(self, identity: JobIdentity) -> str:
        """The cluster of the job, where that is another one than answers here; else nothing."""
        if self._cluster is None or identity.cluster is None or identity.cluster == self._cluster:
            return ""
        return identity.cluster

    def find(self, identity: JobIdentity) -> tuple[JobFact | None, JobFact | None]:
        """The job as the last answer had it, else as slurmdbd remembers it; and another job that has its id now."""
        shown = self._jobs.get(identity.job_id)
        if shown is not None and self._is_same(identity, shown):
            return shown, None
        remembered = reversed(self._past.get(identity.job_id, ()))
        job = next((fact for fact in remembered if self._is_it(identity, fact)), None)
        return job, None if job else shown

    def _is_same(self, identity: JobIdentity, job: JobFact) -> bool:
        """As `_is_it`, remembered: ten thousand jobs stay the same from one answer to the next."""
        known = self._compared.get(identity.job_id)
        if known is None or known[0] is not job or known[1] is not identity:
            known = self._compared[identity.job_id] = (job, identity, self._is_it(identity, job))
        return known[2]

    def _is_it(self, identity: JobIdentity, job: JobFact) -> bool:
        return is_same_job(identity, job, cluster=self._cluster)

    def recall(self, job_ids: Iterable[str]) -> None:
        """Ask slurmdbd, once for each id, about jobs that squeue has forgotten; without slurmdbd, nothing."""
        unknown = [i for i in job_ids if i not in self._past]
        if not unknown or not self._has_accounting or self._facts.down_since is not None:
            return
        found: list[JobFact] = []
        try:
            found = parse_sacct(self._sacct(unknown))
        except SlurmUnreachableError:
            self._has_accounting = False
            return
        except ClusterError:
            pass  # slurmdbd refuses: as if it knew none of them
        by_id: dict[str, list[JobFact]] = {i: [] for i in unknown}
        for fact in found:
            for name in {fact.job_id, fact.slurm_id or fact.job_id} & by_id.keys():
                by_id[name].append(fact)
        self._past |= {i: tuple(facts) for i, facts in by_id.items()}


class BackgroundQueue(Queue):
    """Asks in a thread once it has a first answer: a SLURM that takes ten seconds to fail holds up no heartbeat."""

    def refresh(self, users: Sequence[str], *, now: dt.datetime, names_cluster: bool = False) -> None:
        if self.facts == QueueFacts():
            super().refresh(users, now=now, names_cluster=names_cluster)
        elif self.is_due and (self._asking is None or not self._asking.is_alive()):
            self._asking = threading.Thread(
                target=super().refresh,
                args=[users],
                kwargs={"now": now, "names_cluster": names_cluster},
                daemon=True,
            )
            self._asking.start()

    _asking: threading.Thread | None = None


def _by_id(jobs: Sequence[JobFact]) -> dict[str, JobFact]:
    """Jobs by every name they answer to; of a job's several facts the last."""
    return {job.slurm_id: job for job in jobs if job.slurm_id} | {job.job_id: job for job in jobs}
