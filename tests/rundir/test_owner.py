"""Several people share a folder of runs: whose run a name means, and who may end or continue it."""

import os
import shutil
from pathlib import Path

import pytest

from sedd.errors import RunError, UsageError
from sedd.halving.fellows import parse_halving, read_group
from sedd.rundir.events import read_events
from sedd.rundir.find import find_run, find_runs
from sedd.rundir.layout import RunDir, create_run, read_manifest, write_manifest
from sedd.rundir.lock import alone, one_action
from sedd.rundir.owner import other_owner, require_own
from sedd.rundir.plan_record import (
    PREFIX,
    PlanRecord,
    StageRecord,
    find_own_plan,
    find_plan,
    list_plans,
    write_plan,
)
from tests.command_line import BY_PERMISSION, by_permission, sedd
from tests.experiments.runs import make_run

ANOTHER = 4711
"""A user who has no name here."""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")


@pytest.fixture
def runs(tmp_path: Path) -> tuple[RunDir, RunDir]:
    """Of one name: a run of this user, and a newer one of another, in folders that both may write, as a group does."""
    own, other = (make_run(tmp_path, number, seed=number, ended="gave_up") for number in range(2))
    for path in (other.path, *other.path.rglob("*")):
        os.chown(path, ANOTHER, ANOTHER)
        path.chmod(0o777 if path.is_dir() else 0o644)
    return own, other


def test_a_name_means_ones_own_newest_run_and_an_id_any(tmp_path: Path, runs: tuple[RunDir, RunDir]) -> None:
    own, other = runs
    assert other.id > own.id
    for text in (own.name, f"{own.name}/", str(own.path.parent)):
        assert find_run(text, tmp_path) == own
    assert find_run(other.id, tmp_path) == other
    for path in (own.path, *own.path.rglob("*")):
        os.chown(path, ANOTHER, ANOTHER)
    assert find_run(own.name, tmp_path) == other, "who has no run of that name means the newest of all"


def test_a_run_of_another_is_changed_only_by_who_may_write_its_events(runs: tuple[RunDir, RunDir]) -> None:
    own, other = runs
    with by_permission():
        assert (other_owner(own), other_owner(other)) == (None, str(ANOTHER))
        with pytest.raises(RunError, match=f"belongs to {ANOTHER}, who alone may change it"):
            require_own(other)
        other.events.chmod(0o666)
        assert require_own(other) == other


@pytest.mark.parametrize("command", [("cancel",), ("requeue",), ("extend", "--steps", "90"), ("train",)])
def test_commands_leave_the_run_of_another_as_it_is(
    tmp_path: Path, runs: tuple[RunDir, RunDir], command: tuple[str, ...]
) -> None:
    _, other = runs
    before, files = read_events(other.events), sorted(other.path.rglob("*"))
    done = sedd(command[0], other.id, *command[1:], runs=tmp_path, by=BY_PERMISSION)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        f"error: {other.name}/{other.id} belongs to {ANOTHER}, who alone may change it"
    )
    assert (read_events(other.events), sorted(other.path.rglob("*"))) == (before, files)


def test_status_tells_whose_run_it_is_where_it_is_anothers(
    tmp_path: Path, runs: tuple[RunDir, RunDir]
) -> None:
    own, other = runs
    lines = sedd("status", other.id, runs=tmp_path, by=BY_PERMISSION).stdout.splitlines()
    assert f"owner     {ANOTHER}" in lines
    offered = [line.split()[1] for line in lines if line.startswith("sedd ")]
    assert offered
    assert not {"cancel", "requeue", "train"} & set(offered)
    assert "owner" not in sedd("status", own.id, runs=tmp_path, by=BY_PERMISSION).stdout


def test_no_lock_is_left_where_one_may_do_nothing(runs: tuple[RunDir, RunDir]) -> None:
    """It would be a file of this user, which its owner could then not lock."""
    own, other = runs
    with by_permission():
        for run in runs:
            with one_action(run):
                pass
    assert (own.path / ".action.lock").exists()
    assert not (other.path / ".action.lock").exists()


def test_a_plans_name_means_ones_own_newest_plan_and_an_id_any(
    tmp_path: Path, runs: tuple[RunDir, RunDir]
) -> None:
    stages = [StageRecord(name="train", task="train", runs=(run,), waits={}, by_point=()) for run in runs]
    own, other = (
        PlanRecord(name="study", folder=tmp_path / "study" / f"{PREFIX}{number}", stages=(stage,))
        for number, stage in enumerate(stages)
    )
    before = os.umask(0o002)  # as in many a group
    try:
        for plan in (own, other):
            write_plan(plan, "")
    finally:
        os.umask(before)
    for path in (other.folder, *other.folder.iterdir()):
        os.chown(path, ANOTHER, os.getegid())
    with by_permission():
        assert find_plan("study", tmp_path) == find_plan(own.id, tmp_path) == own
        assert find_plan(other.id, tmp_path) == other
        assert find_own_plan("study", tmp_path) == own
        assert list_plans(tmp_path) == [own, other]
        shutil.rmtree(own.folder)
        assert find_plan("study", tmp_path) == other, "who has no plan of that name means the newest of all"
        assert find_own_plan("study", tmp_path) is None


def test_folders_into_which_another_lets_nobody_look_hinder_no_search(
    tmp_path: Path, runs: tuple[RunDir, RunDir]
) -> None:
    own, other = runs
    for private in (other.path, tmp_path / "theirs"):
        private.mkdir(exist_ok=True)
        os.chown(private, ANOTHER, ANOTHER)
        private.chmod(0o700)
    with by_permission():
        assert find_runs(own.name, tmp_path) == [own]
        assert find_plan(f"{PREFIX}7", tmp_path) is None
        with pytest.raises(UsageError, match="no run 'sweep-7'"):
            find_runs("sweep-7", tmp_path)


def test_a_halving_sweep_reads_no_run_into_which_it_may_not_look(
    runs: tuple[RunDir, RunDir],
) -> None:
    own, other = runs
    place = {"group": "sweep-7", "rungs": [10], "keep": "1/2", "points": 1, "index": 0}
    write_manifest(own, read_manifest(own) | {"halving": place})
    halving = parse_halving(place)
    assert halving is not None
    other.path.chmod(0o700)
    with by_permission():
        assert [fellow.run for fellow in read_group(own, halving).fellows.values()] == [own]
        own.path.chmod(0)
        with pytest.raises(RunError, match="cannot read"):
            read_group(own, halving)
        own.path.chmod(0o700)


def test_a_lock_may_be_held_by_all_who_may_write_into_its_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    lock = tmp_path / "name" / ".submit.lock"
    before = os.umask(0o022)
    try:
        with alone(lock, patience_s=1):
            pass
    finally:
        os.umask(before)
    for path in (lock.parent, lock):
        os.chown(path, ANOTHER, ANOTHER)
    with by_permission(), alone(lock, patience_s=1):
        pass
    lock.chmod(0o644)
    with by_permission(), pytest.raises(RunError, match=f"cannot write {lock}: "), alone(lock, patience_s=1):
        pass
    lock.unlink()
    lock.parent.chmod(0o755)
    with by_permission(), pytest.raises(RunError, match="cannot write into"), alone(lock, patience_s=1):
        pass


@pytest.mark.parametrize(
    ("above", "umask", "mode"),
    [
        (0o2775, 0o022, 0o2775), (0o1777, 0o022, 0o1777), (0o770, 0o077, 0o770),
        (0o755, 0o022, 0o755), (0o755, 0o077, 0o700), (0o700, 0o022, 0o755),
    ],
)  # fmt: skip
def test_the_folder_of_a_name_is_open_to_all_who_write_beside_it(
    tmp_path: Path, above: int, umask: int, mode: int
) -> None:
    """Where others may not write into the folder of runs, the umask alone decides."""
    root = tmp_path / "runs"
    root.mkdir()
    root.chmod(above)
    before = os.umask(umask)
    try:
        run = create_run(root, "name", "20261201-000000-00000000", "")
    finally:
        os.umask(before)
    assert run.path.parent.stat().st_mode & 0o7777 == mode
    kept = 0o777 & ~umask
    assert run.path.stat().st_mode & 0o777 == kept, "a run is its owner's"
