"""`sedd status --watch` on a terminal."""

import contextlib
import datetime as dt
import fcntl
import io
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sedd.monitor.facts import Facts
from sedd.monitor.gather import Gatherer
from sedd.monitor.screen import Action, Mode, Screen
from sedd.monitor.snapshot import Snapshot
from sedd.monitor.watch import render


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def draw(screen: Screen, zoo: Snapshot, *, width: int = 80, height: int = 24) -> str:
    facts = Gatherer(alive=lambda h: None).gather(
        [v.run for v in zoo.runs if v.executor == "local"], now=zoo.taken
    )
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, highlight=False).print(
        render(screen, Facts(taken=zoo.taken, runs=facts.runs), zoo, size=(width, height))
    )
    return stream.getvalue()


def test_the_table_fills_the_terminal(zoo: Snapshot, golden: Callable[[str, str], None]) -> None:
    text = draw(Screen(), zoo)
    golden("watch_80.txt", text)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 6), (200, 60), (20, 3)])
def test_every_mode_fits_every_terminal(zoo: Snapshot, mode: Mode, width: int, height: int) -> None:
    done = next(v.id for v in zoo.runs if v.name == "quickstart")
    screen = Screen(mode=mode, chosen=done, action=Action.CANCEL)
    lines = draw(screen, zoo, width=width, height=height).splitlines()
    assert len(lines) <= max(height, 4)
    assert all(cell_len(line) <= width for line in lines)


def test_the_chosen_run_is_always_in_sight(zoo: Snapshot) -> None:
    for view in zoo.runs:
        assert view.name[:15] in draw(Screen(chosen=view.id), zoo, height=8)


class Terminal:
    """`sedd status --watch` in a pseudo-terminal."""

    def __init__(self, runs: Any) -> None:
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.environ |= {"SEDD_RUNS": str(runs), "TERM": "xterm", "PATH": "/nowhere"}
            os.execv(sys.executable, [sys.executable, "-m", "sedd", "status", "--watch"])
        self.resize(24, 80)
        self.seen = ""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        self.seen = ""
        os.write(self.handle, keys.encode())

    def until(self, text: str, *, timeout_s: float = 20) -> bool:
        """Whether `text` is drawn in time."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if select.select([self.handle], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.handle, 65536).decode("utf-8", "replace")
            if text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen):
                return True
        return False

    def exit_code(self) -> int:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if select.select([self.handle], [], [], 0.05)[0]:
                    os.read(self.handle, 65536)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        return -1

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.handle)


@pytest.fixture
def terminal(farm: Any) -> Iterator[Terminal]:
    for name, identity in (("alpha", "20261122-080000-a"), ("beta", "20261122-090000-b")):
        run = farm.run(name, identity, executor="local")
        run.now = dt.datetime.now(dt.UTC)
        run.submitted(ago_s=5, job_id="x:1:1")
        if name == "alpha":
            run.event("completed", step=9)
    opened = Terminal(farm.root)
    yield opened
    opened.close()


def test_a_session(terminal: Terminal, farm: Any) -> None:
    assert terminal.until("beta")
    terminal.press("a")
    assert terminal.until("alpha")
    terminal.resize(30, 132)
    terminal.press("/alp\r")
    assert terminal.until("/alp")
    terminal.press("\r")
    assert terminal.until("submitted as job x:1:1")
    terminal.press("c")
    assert terminal.until("cancel alpha 20261122-080000-a?")
    terminal.press("n")
    shutil.rmtree(farm.root / "alpha")
    assert terminal.until("No run to show")
    terminal.press("q")
    assert terminal.exit_code() == 0


def test_ctrl_c_quits(terminal: Terminal) -> None:
    assert terminal.until("beta")
    terminal.press("\x03")
    assert terminal.exit_code() == 0


def test_without_a_terminal_it_is_bad_usage(farm: Any) -> None:
    command = [sys.executable, "-m", "sedd", "status", "--watch"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"SEDD_RUNS": str(farm.root)}
    )
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
