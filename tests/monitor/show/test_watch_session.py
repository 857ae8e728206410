"""`sedd status --watch` as a person uses it: keys in, screen out."""

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sedd.rundir.events import read_events
from tests.launch.conftest import LocalRuns, local, story, wait_for_end, wait_for_steps
from tests.monitor.terminal import Terminal

__all__ = ["local"]  # the fixture

ALPHA, BETA = "20261122-080000-a", "20261122-090000-b"


@pytest.fixture
def open_on() -> Iterator[Callable[[Path], Terminal]]:
    opened: list[Terminal] = []

    def open_one(runs: Path) -> Terminal:
        opened.append(Terminal(runs))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


@pytest.fixture
def terminal(farm: Any, open_on: Callable[[Path], Terminal]) -> Terminal:
    """On two runs: alpha, completed, with a log; beta, just submitted."""
    for name, identity in (("alpha", ALPHA), ("beta", BETA)):
        run = farm.run(name, identity, executor="local")
        run.now = dt.datetime.now(dt.UTC)
        run.submitted(ago_s=5, job_id="x:1:1")
        if name == "alpha":
            run.event("completed", step=9)
            (run.folder.logs / "1_0.out").write_text("".join(f"line {k}.\n" for k in range(200)))
    shown = open_on(farm.root)
    assert shown.until("alpha", "beta"), shown.screen
    return shown


def test_a_filter_is_typed_kept_and_cleared(terminal: Terminal) -> None:
    terminal.press("/alp")
    assert terminal.until("/alp▏", "alpha", without="beta"), terminal.screen
    terminal.press("\r")
    assert terminal.until("/alp", "q quit", without="beta"), terminal.screen
    terminal.press("\x1b")
    assert terminal.until("beta", without="/alp"), terminal.screen


def test_every_order_is_named(terminal: Terminal) -> None:
    for order in ("state", "loss", "eta", "name", "newest"):
        terminal.press("s")
        assert terminal.until(f"by {order}"), terminal.screen


def test_runs_that_ended_long_ago_come_with_a(farm: Any, open_on: Callable[[Path], Terminal]) -> None:
    old = farm.run("old", ALPHA, executor="local").submitted(ago_s=9e5).event("cancelled", ago_s=8e5, by="me")
    new = farm.run("new", BETA, executor="local")
    new.now = dt.datetime.now(dt.UTC)
    new.submitted(ago_s=1)
    old.event("preflight", ago_s=8e5, side="login", ok=True)
    terminal = open_on(farm.root)
    assert terminal.until("new", without="old"), terminal.screen
    terminal.press("a")
    assert terminal.until("old", "new"), terminal.screen
    terminal.press("a")
    assert terminal.until("new", without="old"), terminal.screen


def test_a_run_is_opened_scrolled_to_its_end_and_closed(terminal: Terminal) -> None:
    terminal.press("\x1b[B\r")  # beta is newer, so first
    assert terminal.until(f"alpha  {ALPHA}", "completed at step 9"), terminal.screen
    terminal.resize(8, 80)
    assert terminal.until("completed", without="sedd report"), terminal.screen
    terminal.press("\x1b[6~" * 20)
    assert terminal.until("sedd report", without="completed at step 9"), terminal.screen
    terminal.press("k" * 3)  # at once: what was scrolled past the end is not owed
    assert terminal.until("folder", without="sedd report"), terminal.screen
    terminal.press("q")
    assert terminal.until("beta"), terminal.screen


def test_a_log_is_followed_and_scrolled_up(terminal: Terminal, farm: Any) -> None:
    terminal.press("jl")
    assert terminal.until("line 199.", "1_0.out"), terminal.screen
    with open(next(farm.root.glob("alpha/*/logs/1_0.out")), "a") as log:
        log.write("and on it goes\n")
    assert terminal.until("and on it goes"), terminal.screen
    terminal.press("k" * 5)
    assert terminal.until("line 195.", without="line 197."), terminal.screen
    terminal.press("\x1b[5~" * 30)
    assert terminal.until("line 0.", "line 1."), terminal.screen


def test_a_wider_terminal_shows_more_columns(terminal: Terminal) -> None:
    assert "interrupted by" not in terminal.screen
    terminal.resize(30, 150)
    assert terminal.until("interrupted by"), terminal.screen
    terminal.resize(10, 60)
    assert terminal.until("alpha", "beta", without="interrupted by"), terminal.screen


def test_a_run_that_vanishes_leaves_the_table_and_an_open_page(terminal: Terminal, farm: Any) -> None:
    terminal.press("j\r")
    assert terminal.until(f"alpha  {ALPHA}"), terminal.screen
    shutil.rmtree(farm.root / "alpha")
    assert terminal.until("has vanished"), terminal.screen
    terminal.press("q")
    assert terminal.until("beta", without="alpha"), terminal.screen
    shutil.rmtree(farm.root)
    assert terminal.until("No run to show"), terminal.screen
    terminal.press("q")
    assert terminal.exit_code() == 0


def test_ctrl_c_quits(terminal: Terminal) -> None:
    terminal.press("\x03")
    assert terminal.exit_code() == 0


def test_a_real_run_is_moved_on_and_cancelled_after_a_question(
    local: LocalRuns, open_on: Callable[[Path], Terminal]
) -> None:
    run = local.start_one(plan="endless")
    wait_for_steps(run, 3)
    terminal = open_on(local.runs)
    assert terminal.until("small"), terminal.screen
    terminal.press("r")
    assert terminal.until(f"requeue small {run.id}?"), terminal.screen
    terminal.press("n")
    assert terminal.until("q quit", without="requeue small"), terminal.screen
    terminal.press("ry")
    assert terminal.until("requeue small: saves, then starts again"), terminal.screen
    assert terminal.until("×2"), terminal.screen
    terminal.press("cy")
    assert wait_for_end(run, timeout_s=180).event == "cancelled"
    assert terminal.until("cancelled"), terminal.screen
    assert "requeued:moved" in story(run)
    asked = next(event for event in read_events(run.events) if event.event == "stop_requested")
    assert asked.get("by") == "sedd requeue"
