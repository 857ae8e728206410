"""SLURM is asked seldom, and its silence is survived."""

import datetime as dt
import itertools
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.identity import JobIdentity
from sedd.cluster.jobs import JobFact
from sedd.cluster.site import SiteConfig
from sedd.errors import ClusterError
from sedd.monitor.read import queue as queue_module
from sedd.monitor.read.queue import INTERVAL_S, BackgroundQueue, Queue
from tests.monitor.conftest import token_of
from tests.preflight.slurm_facts import config as site_config

T = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
T_S = int(T.timestamp())


class Site:
    """A SLURM whose answers and delays are set by hand."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.time = 0.0
        self.takes_s = 0.1
        self.down = False
        self.asked: list[float] = []

    def squeue(self, users: object) -> str:
        self.asked.append(self.time)
        self.time += self.takes_s
        if self.down:
            raise SlurmUnreachableError("squeue: unable to contact slurm controller")
        return self.line

    def queue(self) -> Queue:
        return Queue(squeue=self.squeue, sacct=self.squeue, clock=lambda: self.time)

    def watch(self, queue: Queue, seconds: float) -> list[float]:
        """Refresh twice a second; when squeue was asked."""
        self.asked = []
        end = self.time + seconds
        while self.time < end:
            queue.refresh(["ada"], now=T + dt.timedelta(seconds=self.time))
            self.time += 0.5
        return self.asked


def identity(job_id: str, **fields: object) -> JobIdentity:
    known: dict[str, object] = {"job_id": job_id, "noted_at": T, "user": "ada", "token": token_of(job_id)}
    return JobIdentity(**known | fields)  # type: ignore[arg-type] # test facts


def seen(queue: Queue, job_id: str) -> JobFact | None:
    """The job that a run has submitted under this id, as the queue shows it."""
    return queue.find(identity(job_id))[0]


def gaps(moments: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(moments)]


def test_squeue_is_asked_no_more_than_every_ten_seconds(squeue_line: Callable[..., str]) -> None:
    site = Site(squeue_line())
    asked = site.watch(site.queue(), 65)
    assert len(asked) >= 5
    assert min(gaps(asked)) >= INTERVAL_S


def test_a_slow_slurm_is_asked_less_often(squeue_line: Callable[..., str]) -> None:
    site = Site(squeue_line())
    site.takes_s = 4.0
    assert min(gaps(site.watch(site.queue(), 400))) >= 80


def test_a_silent_slurm_is_asked_less_and_less_and_what_it_said_is_kept(
    squeue_line: Callable[..., str],
) -> None:
    site = Site(squeue_line())
    queue = site.queue()
    queue.refresh(["ada"], now=T)
    site.down = True
    site.time = 20
    asked = site.watch(queue, 1500)
    assert gaps(asked) == sorted(gaps(asked))
    assert 250 < gaps(asked)[-1] <= 310
    assert seen(queue, "4711") is not None
    assert queue.facts.down_since == T + dt.timedelta(seconds=20)
    assert queue.facts.asked == T
    assert "unable to contact" in (queue.facts.error or "")
    site.down = False
    site.watch(queue, 400)
    assert queue.facts.down_since is None


def test_array_tasks_answer_to_their_own_name(squeue_line: Callable[..., str]) -> None:
    site = Site(squeue_line("120_[0-2]", "PENDING") + squeue_line("120_3"))
    queue = site.queue()
    queue.refresh(["ada"], now=T)
    assert str(seen(queue, "120_2").state) == "pending"  # type: ignore[union-attr] # None would fail here too
    assert str(seen(queue, "120_3").state) == "running"  # type: ignore[union-attr] # the same


def test_without_slurmdbd_sacct_is_asked_once(squeue_line: Callable[..., str]) -> None:
    site = Site("")
    queue = site.queue()
    queue.refresh(["ada"], now=T)
    site.down = True
    queue.recall(["1"])
    count = len(site.asked)
    queue.recall(["1", "2"])
    assert len(site.asked) == count
    assert seen(queue, "1") is None


def test_in_the_background_only_the_first_question_is_waited_for() -> None:
    answer = threading.Event()
    asked: list[Sequence[str]] = []

    def squeue(users: Sequence[str]) -> str:
        asked.append(users)
        assert len(asked) == 1 or answer.wait(10)
        return ""

    clock = itertools.count()
    queue = BackgroundQueue(squeue=squeue, clock=lambda: 1000.0 * next(clock))
    queue.refresh(["ada"], now=T)
    assert queue.facts.asked == T
    later = T + dt.timedelta(seconds=60)
    queue.refresh(["ada"], now=later)
    queue.refresh(["ada"], now=later)
    assert queue.facts.asked == T
    answer.set()
    deadline = time.monotonic() + 10
    while queue.facts.asked != later and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (queue.facts.asked, len(asked)) == (later, 2)


def test_a_site_that_hides_jobs_is_asked_about_it_once_and_only_where_it_matters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ada (1001) looks at runs of her own, of bob (1002) and of eve (1003), who shows her hers."""
    names = {1001: "ada", 1002: "bob", 1003: "eve"}
    monkeypatch.setattr(queue_module, "user_name", names.get)
    line = "1|1|RUNNING|None|v100-1|0|0|0|1:00|0|gpu|{}|a|\n"
    asked: list[int] = []
    answers: list[SiteConfig | ClusterError] = [ClusterError("busy"), site_config(private=("jobs",))]

    def config() -> SiteConfig:
        asked.append(1)
        answer = answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    clock = itertools.count()
    queue = Queue(
        squeue=lambda users: line.format("ada") + line.format("eve"),
        config=config,
        clock=lambda: 1000.0 * next(clock),
        uid=1001,
    )
    queue.refresh(["ada"], now=T)
    assert not asked
    queue.refresh(["ada", "bob"], now=T)  # the question fails
    assert not queue.hides(1002)
    for _ in range(2):
        queue.refresh(["ada", "bob", "eve"], now=T)
    assert len(asked) == 2
    assert [queue.hides(uid) for uid in names] == [False, True, False]


def test_root_is_shown_everything() -> None:
    queue = Queue(squeue=lambda users: "", config=lambda: pytest.fail("asked"), uid=0)
    queue.refresh(["bob"], now=T)
    assert not queue.hides(1002)


def test_lines_that_stayed_are_the_same_jobs(squeue_line: Callable[..., str]) -> None:
    line = squeue_line("1").strip()
    answers = iter([line, line + "\n" + squeue_line("2")])
    clock = itertools.count()
    queue = Queue(squeue=lambda users: next(answers), clock=lambda: 1000.0 * next(clock))
    queue.refresh(["ada"], now=T)
    first = seen(queue, "1")
    queue.refresh(["ada"], now=T)
    assert first is not None
    assert seen(queue, "1") is first
    assert seen(queue, "2") is not None


@pytest.mark.parametrize(
    ("line", "about"),
    [
        ({"comment": "sedd token=ffffffffffffffff"}, {}),
        ({"comment": "", "user": "eve"}, {}),
        ({"comment": "", "submitted": "1795338800"}, {}),
        ({"comment": "", "submitted": "1795348801"}, {"submitted_at": T}),
        ({}, {"cluster": "another"}),
    ],
    ids=["token", "user", "long before", "exact time", "cluster"],
)
def test_another_job_with_the_id_is_not_the_runs(
    line: dict[str, str], about: dict[str, object], squeue_line: Callable[..., str]
) -> None:
    queue = Queue(squeue=lambda users: squeue_line("7", **line), cluster=lambda: "one")
    queue.refresh(["ada"], now=T, names_cluster=True)
    job, stranger = queue.find(identity("7", **about))
    assert job is None
    assert stranger is not None
    assert stranger.job_id == "7"


def test_of_a_job_whose_comment_the_site_has_rewritten_user_and_time_are_proof(
    squeue_line: Callable[..., str],
) -> None:
    queue = Queue(squeue=lambda users: squeue_line("7", comment="checked by the site"))
    queue.refresh(["ada"], now=T)
    assert seen(queue, "7") is not None


SACCT = "7|7|{}|0:0|{}|Unknown|1795349999|1:00|v100-1|gpu|{}|x\n"


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([("FAILED", T_S, "ada")], "failed"),
        ([("REQUEUED", T_S, "ada"), ("TIMEOUT", T_S + 5000, "ada")], "timeout"),
        ([("NODE_FAIL", T_S, "ada"), ("COMPLETED", T_S + 9000, "eve")], "node_fail"),
        ([("RUNNING", T_S, "ada"), ("COMPLETED", T_S + 9000, "ada")], "running"),
        ([("COMPLETED", T_S + 9000, "ada")], None),
        ([("COMPLETED", T_S - 9000, "ada")], None),
    ],
    ids=["the job", "requeued", "the user's is before", "state was lost", "later", "earlier"],
)
def test_slurmdbd_tells_of_the_runs_job_not_of_another_with_its_id(
    lines: list[tuple[str, int, str]], state: str | None
) -> None:
    answer = "".join(SACCT.format(*line) for line in lines)
    queue = Queue(squeue=lambda users: "", sacct=lambda ids: answer)
    queue.refresh(["ada"], now=T)
    queue.recall(["7"])
    job = seen(queue, "7")
    assert (str(job.state) if job else None) == state


def test_the_cluster_is_asked_for_its_name_once_and_only_where_a_run_names_one() -> None:
    asked: list[int] = []

    def cluster() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise SlurmUnreachableError("scontrol: no answer")
        return "one"

    clock = itertools.count()
    queue = Queue(squeue=lambda users: "", cluster=cluster, clock=lambda: 1000.0 * next(clock))
    queue.refresh(["ada"], now=T)
    assert not asked
    queue.refresh(["ada"], now=T, names_cluster=True)
    assert queue.facts.down_since is not None, "whose jobs squeue shows is not known"
    for _ in range(3):
        queue.refresh(["ada"], now=T, names_cluster=True)
    assert len(asked) == 2
    assert queue.other_cluster(identity("7", cluster="two")) == "two"
    assert queue.other_cluster(identity("7", cluster="one")) == ""
    assert queue.other_cluster(identity("7")) == ""
