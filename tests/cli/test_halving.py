"""A halving sweep from `sedd submit` to its end, as a user sees it in a terminal of 80 columns."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sedd.launch.local_processes import end_all, find_members
from sedd.rundir.layout import RunDir
from tests.command_line import sedd
from tests.halving.tiny_sweep import write_spec

OUTLOOK = "halving: of 2 points 1 goes on from step 2; 75% of all steps"


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """The root of the runs, and what the submission that waited for the end has printed."""
    folder = tmp_path_factory.mktemp("halved")
    points = "grid: {training.learning_rate: [1.0e-6, 1.0e-2]}"
    spec = write_spec(folder, points=points, rungs=(2,), steps=4, every=2, keep="1/2", parallel=2)
    runs = folder / "runs"
    yield runs, sedd("submit", spec, "--wait", runs=runs)
    for run in map(RunDir, runs.glob("halved/2*")):
        if find_members(run):
            end_all(run, grace_s=5.0)


def shown(swept: tuple[Path, object], *arguments: str) -> list[str]:
    """The lines of a command; each fits into 80 columns, unless it holds a path."""
    done = sedd(*arguments, runs=swept[0])
    assert done.returncode == 0, done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    return lines


def test_submit_says_beforehand_what_will_be_trained_and_that_it_succeeded(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    done = swept[1]
    assert done.returncode == 0, done.stderr
    assert f"  {OUTLOOK}" in done.stdout.splitlines()


def test_status_shows_who_was_stopped_where_and_what_that_saved(swept: tuple[Path, object]) -> None:
    lines = shown(swept, "status", "halved")
    text = "\n".join(lines)
    assert "halved  2 runs: 1 completed, 1 stopped by rule" in lines
    (loser,) = [line for line in lines if line.startswith("  learning_rate=1.0e-06")]
    assert re.search(r"stopped .* 2/4 2nd of 2 at step 2$", loser)
    (winner,) = [line for line in lines if "learning_rate=0.01 " in line and "4/4" in line]
    assert "completed" in winner
    assert re.search(r"^halving: 1 of 2 points stopped, 75% of 8 steps trained", text, re.M)
    assert re.search(r"^best: learning_rate=0.01: \d\.\d{4} ± \d\.\d{4} nats$", text, re.M)
    assert "points stopped by rule are compared as they were at their rung" in lines


def test_status_of_a_stopped_point_tells_its_story(swept: tuple[Path, object]) -> None:
    runs = json.loads(sedd("status", "halved", "--json", runs=swept[0]).stdout)["runs"]
    (loser,) = [run for run in runs if run["state"].startswith("stopped")]
    lines = shown(swept, "status", loser["id"])
    assert lines[0].endswith("  stopped by rule")
    assert lines[1] == "2nd of 2 at step 2, 1 of 2 go on"
    assert any(re.search(r"  came to the rung at step 2, validation \d\.\d{4}$", line) for line in lines)
    done = sedd("requeue", loser["id"], runs=swept[0])
    assert done.returncode == 1
    assert "was stopped by rule" in done.stderr


def test_compare_and_usage_tell_the_same_of_it(
    swept: tuple[Path, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(swept, "compare", "halved")
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["1", "learning_rate=0.01"],
        ["2", "learning_rate=1.0e-06"],
    ]
    assert "stopped by rule, each at the rung where it was: #2" in " ".join(lines)
    (told,) = [line for line in shown(swept, "status", "halved") if line.startswith("halving:")]
    assert told in " ".join(lines)
    assert told in shown(swept, "usage", "halved")
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, shown(swept, "usage", "halved"))) <= 50
