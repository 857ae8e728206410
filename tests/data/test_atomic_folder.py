import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sedd.data.atomic_folder import AppearedError, atomic_folder, restore_replaced


class KilledError(Exception):
    pass


def _left_behind(output: Path, name: str, *, age_s: float = 0.0) -> Path:
    """What a build of another machine has left; its process number is one that lives here."""
    folder = output.with_name(f".{output.name}.building-{name}-{os.getpid()}")
    (folder / "parts").mkdir(parents=True)
    changed = time.time() - age_s
    for path in (folder / "parts", folder):
        os.utime(path, (changed, changed))
    return folder


def _build(output: Path, owner: str = "") -> None:
    with atomic_folder(output, owner=owner) as folder:
        (folder / "content").touch()


def test_an_owner_removes_what_it_left_on_another_machine(tmp_path: Path):
    ours = _left_behind(tmp_path / "store", "run-1@node-7")
    _build(tmp_path / "store", owner="run-1")
    assert not ours.exists()
    assert (tmp_path / "store" / "content").exists()


@pytest.mark.parametrize("owner", ["", "run-1"])
def test_what_another_builds_elsewhere_stays_until_it_has_not_changed_for_a_day(owner: str, tmp_path: Path):
    """`@node-7` has no owner: somebody typed `sedd data build` there. Nor do two of those own one another."""
    others = [
        _left_behind(tmp_path / "store", name, age_s=80_000)
        for name in ("run-2@node-7", "@node-7", "run@node-7")
    ]
    old = _left_behind(tmp_path / "store", "run-3@node-7", age_s=90_000)
    elsewhere = _left_behind(tmp_path / "another", "run-3@node-7", age_s=90_000)
    _build(tmp_path / "store", owner)
    assert all(other.exists() for other in others)
    assert not old.exists()
    assert elsewhere.exists()


def test_a_file_that_grows_deep_inside_keeps_a_folder(tmp_path: Path):
    theirs = _left_behind(tmp_path / "store", "run-2@node-7", age_s=90_000)
    (theirs / "parts" / "tokens").touch()
    changed = time.time() - 90_000
    for path in (theirs / "parts", theirs):
        os.utime(path, (changed, changed))
    _build(tmp_path / "store")
    assert theirs.exists()


def test_a_block_that_fails_leaves_nothing_and_the_old_folder(tmp_path: Path):
    _build(tmp_path / "store")
    with suppress(KilledError), atomic_folder(tmp_path / "store", replace=True) as folder:
        (folder / "half").touch()
        raise KilledError
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["content"]


@pytest.mark.parametrize("replace", [True, False])
def test_what_appears_meanwhile_stays_unless_it_may_be_replaced(replace: bool, tmp_path: Path):
    with suppress(AppearedError), atomic_folder(tmp_path / "store", replace=replace) as folder:
        (folder / "ours").touch()
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "content").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["ours" if replace else "content"]


def test_a_writer_killed_between_both_renames_costs_nothing(tmp_path: Path):
    """The old folder has made room, and the new one has not taken its place."""
    output = tmp_path / "store"
    _build(output)
    rename = (
        "import os, signal, sys, pathlib; from sedd.data import atomic_folder as a\n"
        "real = os.rename\n"
        "def rename(*paths):\n"
        "    real(*paths)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.rename = rename\n"
        "with a.atomic_folder(pathlib.Path(sys.argv[1]), replace=True): pass\n"
    )
    assert subprocess.run([sys.executable, "-c", rename, output]).returncode == -signal.SIGKILL
    assert not output.exists()
    restore_replaced(output)
    assert (output / "content").exists()
    _build(tmp_path / "other")
    with atomic_folder(output, replace=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "store"]
