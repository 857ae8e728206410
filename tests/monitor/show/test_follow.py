"""Following runs until they have ended."""

import dataclasses
import datetime as dt
import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console

from sedd.cluster.command import SlurmUnreachableError
from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read.facts import Facts
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.show.follow import follow, pace_s, progress_line, wait


@contextmanager
def script(*steps: Callable[[], object], every_s: float = 0.15) -> Iterator[list[float]]:
    """Runs `steps` one after another in the background; the list gets the moment of the last one."""
    ended: list[float] = []

    def play() -> None:
        for step in steps:
            time.sleep(every_s)
            step()
        ended.append(time.monotonic())

    thread = threading.Thread(target=play)
    thread.start()
    yield ended
    thread.join()


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=100, force_terminal=terminal, highlight=False), stream


@pytest.fixture
def run(farm: Any) -> Any:
    run = farm.run("quick", executor="local", steps=100, created=dt.datetime.now(dt.UTC).isoformat())
    run.now = dt.datetime.now(dt.UTC)
    return run.submitted(ago_s=0)


@pytest.mark.parametrize("terminal", [True, False])
def test_follows_across_a_requeue_and_ends_within_a_second_of_the_last_event(
    run: Any, terminal: bool
) -> None:
    target, stream = console(terminal=terminal)
    steps = (
        lambda: run.started(ago_s=0).beat(10, ago_s=0, loss=3.0),
        lambda: run.event("stop_requested", step=50, signal="SIGTERM"),
        lambda: run.checkpoint(50, ago_s=0).event("requeued", cause="preempted", step=50),
        lambda: run.started(ago_s=0).resumed(50, ago_s=0),
        lambda: run.beat(100, ago_s=0, phase="done", loss=2.5, validation_bound=2.6),
        lambda: run.event("completed", step=100),
    )
    with script(*steps) as ended:
        (view,) = follow([run.folder], console=target, gatherer=Gatherer(alive=lambda h: True), poll_s=0.1)
        returned = time.monotonic()
    assert returned - ended[0] < 1.0
    assert (view.state, view.attempts, view.step) == (State.COMPLETED, 2, 100)
    text = stream.getvalue()
    told = ["submitted as job 4711", "attempt 1 started", "asked to stop by SIGTERM, at step 50"]
    told += [
        "requeued after a preemption, at step 50",
        "attempt 2 started",
        "resumed from step 50",
        "completed at",
    ]
    positions = [text.index(sentence) for sentence in told]
    assert positions == sorted(positions)
    assert (
        "100/100" in text
    ) is terminal  # in a log the event tells the end, and what follows only the numbers
    assert terminal or (text.count("completed"), text.count("loss 2.500")) == (1, 1)
    assert ("\x1b" in text) is terminal


def test_a_run_without_a_heartbeat_is_followed_to_its_failure(run: Any) -> None:
    target, stream = console(terminal=False)
    steps = (
        lambda: run.started(ago_s=0),
        lambda: run.event("failed", cause="crashed", error="Traceback\nValueError: no data", rank=0),
        lambda: run.event("gave_up", cause="crashed", step=0, detail="1 retry used"),
    )
    with script(*steps):
        (view,) = follow([run.folder], console=target, gatherer=Gatherer(alive=lambda h: True), poll_s=0.1)
    assert view.state is State.GAVE_UP
    assert "ValueError: no data" in stream.getvalue()


def test_a_run_that_only_seems_lost_for_a_moment_is_followed_on(run: Any) -> None:
    looks = iter([True, False, True, True])
    run.started(ago_s=0)
    target, _ = console(terminal=False)
    with script(lambda: run.event("completed", step=100), every_s=0.6):
        gatherer = Gatherer(alive=lambda h: next(looks, True))
        (view,) = follow([run.folder], console=target, gatherer=gatherer, poll_s=0.1)
    assert view.state is State.COMPLETED


def test_a_killed_run_is_given_up_after_a_second_look(run: Any) -> None:
    run.started(ago_s=0)
    begun = time.monotonic()
    (view,) = wait([run.folder], notify=print, poll_s=0.1, gatherer=Gatherer(alive=lambda h: False))
    assert view.state is State.LOST
    assert 1.5 < time.monotonic() - begun < 15


def test_wait_returns_when_the_last_of_several_ends(run: Any, farm: Any) -> None:
    other = farm.run("other", executor="local").submitted(ago_s=0).event("cancelled", by="ada")
    with script(lambda: run.event("completed", step=100)):
        gatherer = Gatherer(alive=lambda h: True)
        views = wait([run.folder, other.folder], notify=print, poll_s=0.05, gatherer=gatherer)
    assert [v.state for v in views] == [State.COMPLETED, State.CANCELLED]


def test_ctrl_c_ends_the_following_and_says_that_the_run_goes_on(run: Any) -> None:
    class Interrupted(Gatherer):
        def gather(self, runs: Any, *, now: Any) -> Facts:
            raise KeyboardInterrupt

    target, stream = console(terminal=True)
    with pytest.raises(KeyboardInterrupt):
        follow([run.folder], console=target, gatherer=Interrupted())
    assert "the runs continue" in stream.getvalue()


def test_plain_lines_come_often_at_first_and_seldom_later() -> None:
    assert pace_s(0) == 5
    assert pace_s(3600) == 180
    assert pace_s(1e6) == 300


def test_a_plain_line_has_the_numbers_that_matter(zoo: Snapshot, golden: Callable[[str, str], None]) -> None:
    lines = [progress_line(view, zoo.taken, name=f"{view.name}  ") for view in zoo.runs]
    golden("progress_lines.txt", "\n".join(line.partition("  ")[2] for line in lines) + "\n")


def test_a_slurm_that_falls_silent_is_told_once_and_the_run_followed_on(farm: Any) -> None:
    """The queue is asked every ten seconds at most; here a clock that leaps makes it due at every look."""
    run = farm.run(executor="slurm").submitted(ago_s=0, job_id="7").started(ago_s=0)
    answers: Iterator[str | None] = iter(["", None, None, "", ""])

    def squeue(users: Sequence[str]) -> str:
        answer = next(answers, "")
        if answer is None:
            raise SlurmUnreachableError("squeue: Unable to contact slurm controller (connect failure)")
        if len(said) == 2:
            run.event("completed", step=1)
        return answer

    said: list[str] = []
    clock = itertools.count()
    queue = Queue(squeue=squeue, sacct=lambda ids: "", clock=lambda: 1000.0 * next(clock))
    (view,) = wait([run.folder], notify=said.append, poll_s=0.01, gatherer=Gatherer(queue=queue))
    assert view.state is State.COMPLETED
    down = "SLURM does not answer (squeue: Unable to contact slurm controller (connect failure)); continuing"
    assert said == [down, "SLURM answers again"]


def test_a_build_is_followed_in_bytes(zoo: Snapshot) -> None:
    running = next(view for view in zoo.runs if view.state is State.RUNNING)
    build = dataclasses.replace(running, unit="bytes", step=5_000, steps=20_000, loss=None)
    assert "  5000/20000 bytes  " in progress_line(build, zoo.taken)
    assert "step" not in progress_line(build, zoo.taken)
    assert "step" not in progress_line(dataclasses.replace(build, step=0, steps=None), zoo.taken)
