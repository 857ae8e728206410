"""`sedd status --watch` on a terminal."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.read.facts import Facts
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.show.live_table import render
from sedd.monitor.show.screen import Action, Mode, Screen


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
        render(screen, Facts(taken=zoo.taken, runs=facts.runs), zoo, size=(width, height)).content
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


@pytest.mark.parametrize("mode", [Mode.TABLE, Mode.DETAIL, Mode.LOG])
def test_a_narrow_terminal_names_the_keys_that_end_something(zoo: Snapshot, mode: Mode) -> None:
    for width in (40, 60):
        keys = draw(Screen(mode=mode, chosen=zoo.runs[0].id), zoo, width=width).splitlines()[-1]
        assert all(key in keys for key in ("c cancel", "r requeue", "q "))


def test_the_chosen_run_is_always_in_sight(zoo: Snapshot) -> None:
    for view in zoo.runs:
        assert view.name[:15] in draw(Screen(chosen=view.id), zoo, height=8)


def test_without_a_terminal_it_is_bad_usage(farm: Any) -> None:
    command = [sys.executable, "-m", "sedd", "status", "--watch"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"SEDD_RUNS": str(farm.root)}
    )
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
