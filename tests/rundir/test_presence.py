"""A run folder that goes away is noticed; one that is hidden for a moment, or may not be read, is not gone."""

import subprocess
import sys
from pathlib import Path

import pytest

from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.rundir.presence import GRACE_S, Presence, is_gone


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = create_run(tmp_path, "small", "20261122-080000-aaaaaaaa", "name: small\n")
    write_manifest(run, {})
    return run


def test_a_folder_counts_as_gone_when_it_was_away_for_a_while(run: RunDir, tmp_path: Path) -> None:
    presence, away = Presence(run), tmp_path / "away"
    assert not presence.is_gone(0.0)
    run.path.rename(away)
    assert not presence.is_gone(1.0)
    assert not presence.is_gone(1.0 + GRACE_S)
    away.rename(run.path)
    assert not presence.is_gone(2.0 + GRACE_S)
    run.path.rename(away)
    assert not presence.is_gone(100.0)
    assert presence.is_gone(100.1 + GRACE_S)


def test_what_may_not_be_looked_at_is_not_gone(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    assert not is_gone(run.manifest)


PROGRAM = """
import sys, time
from pathlib import Path
from sedd.rundir import presence
from sedd.rundir.layout import RunDir
presence.LOOK_S, presence.GRACE_S = 0.05, 0.1
presence.exit_without_folder(RunDir(Path(sys.argv[1])))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_process_without_its_folder_says_why_and_ends_and_makes_nothing_anew(
    run: RunDir, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        run.path.rename(tmp_path / "away")
        assert process.wait(30) == 1
        said = process.stdout.read()
    assert said == f"the run folder {run.path} is gone: deleted or moved; the training was ended\n"
    assert list(run.path.parent.iterdir()) == []
