"""A job's folder on its node: private, its own, with room; nobody else's is touched; none is left behind."""

import os
import subprocess
from pathlib import Path

import pytest

from sedd.rundir import node_folder
from sedd.rundir.node_folder import (
    STALE_S,
    entry_name,
    find_folders,
    is_private,
    make_folder,
    places,
    remove_folders,
    remove_stale,
)

NODE = entry_name(os.getpid()).rpartition("-")[2]
ENTRY, RUN, OTHER = f"7-70-{NODE}", Path("/runs/a/1"), Path("/runs/a/2")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (folder := tmp_path / "node").mkdir()
    return folder


def make(node: Path, run: Path = RUN, entry: str = ENTRY, bytes_: int = 1) -> Path:
    return make_folder(run, entry, bytes_=bytes_, asked=str(node), environ={})


def test_it_is_private_and_found_again_by_its_own_job_alone(node: Path) -> None:
    folder = make(node)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert make(node) == folder
    assert find_folders(RUN, ENTRY, asked=str(node), environ={}) == [folder]
    assert find_folders(RUN, f"8-80-{NODE}", asked=str(node), environ={}) == []
    assert find_folders(OTHER, ENTRY, asked=str(node), environ={}) == []


@pytest.mark.parametrize("trap", ["readable by others", "a link", "a file"])
def test_what_somebody_put_in_its_place_is_neither_used_nor_removed(node: Path, trap: str) -> None:
    folder = make(node)
    folder.rmdir()
    if trap == "readable by others":
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    elif trap == "a link":
        folder.symlink_to(node)
    else:
        folder.touch()
    with pytest.raises(OSError, match="somebody else's"):
        make(node)
    assert find_folders(RUN, ENTRY, asked=str(node), environ={}) == []
    remove_folders(RUN, ENTRY, asked=str(node), environ={})
    assert os.path.lexists(folder)


def test_a_folder_of_another_user_is_not_private(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(node)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not is_private(folder)


def test_without_room_it_is_not_made_and_the_next_place_is_tried(
    node: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match=r"MiB free, .* are needed"):
        make(node, bytes_=1 << 60)
    (small := tmp_path / "small").mkdir()
    monkeypatch.setattr(node_folder, "places", lambda asked, environ: [small, node])
    monkeypatch.setattr(node_folder, "room", lambda place: 10 if place == small else 1000)
    assert make_folder(RUN, ENTRY, bytes_=100, asked=None, environ={}).parent == node


def test_places_are_the_jobs_own_first_and_what_is_asked_for_alone(node: Path) -> None:
    assert places(None, {"SLURM_TMPDIR": str(node), "TMPDIR": "/nowhere"})[0] == node
    assert places("$BASE/node", {"BASE": str(node.parent)}) == [node]
    assert places("$BASE/node", {}) == []


def test_a_job_limit_on_memory_counts_where_files_lie_in_memory(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_folder, "_kind", lambda place: "tmpfs")
    monkeypatch.setattr(node_folder, "_memory_left", lambda: iter([node_folder.SPARE_BYTES + 5]))
    assert node_folder.room(node) == 5


def test_a_network_file_system_is_not_the_nodes(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_folder, "_kind", lambda place: "nfs4" if place == node else "ext4")
    assert node not in places(None, {"TMPDIR": str(node)})


def test_what_a_killed_job_left_is_removed_and_what_lives_is_not(node: Path) -> None:
    living = entry_name(os.getpid())
    ended = subprocess.Popen(["sleep", "60"])
    gone = entry_name(ended.pid)
    ended.kill()
    ended.wait()
    mine, before = make(node), make(node, entry=f"6-60-{NODE}")
    theirs, left = make(node, OTHER, living), make(node, OTHER, gone)
    foreign = node / f"sedd-state-99999-0123456789abcdef-1-1-{NODE}"
    foreign.mkdir(mode=0o700)
    remove_stale(RUN, ENTRY, asked=str(node), environ={})
    assert [mine.exists(), before.exists(), theirs.exists(), left.exists()] == [True, False, True, True]
    remove_stale(RUN, ENTRY, asked=str(node), environ={}, now=left.stat().st_mtime + STALE_S + 1)
    assert [mine.exists(), theirs.exists(), left.exists(), foreign.exists()] == [True, True, False, True]


def test_what_ranks_write_into_folders_of_their_own_is_a_sign_of_life(node: Path) -> None:
    """Of a job whose processes are not seen from here."""
    folder = make(node, OTHER, f"999999-1-{NODE}")
    (folder / "rank-1").mkdir()
    os.utime(folder, (0, 0))
    remove_stale(RUN, ENTRY, asked=str(node), environ={})
    assert folder.exists()
    os.utime(folder / "rank-1", (0, 0))
    os.utime(folder, (0, 0))
    remove_stale(RUN, ENTRY, asked=str(node), environ={})
    assert not folder.exists()


def test_a_rank_keeps_what_another_rank_of_its_run_has_on_the_node(node: Path) -> None:
    """Under SLURM each has an entry, and so a folder, of its own."""
    own, fellows = make(node), make(node, entry=entry_name(os.getpid()))
    remove_stale(RUN, ENTRY, asked=str(node), environ={})
    assert [own.exists(), fellows.exists()] == [True, True]


def test_the_end_of_a_job_removes_its_own_and_not_a_living_ones(node: Path) -> None:
    living = entry_name(os.getpid())
    own, other_job, other_run = make(node), make(node, entry=living), make(node, OTHER)
    remove_folders(RUN, ENTRY, asked=str(node), environ={})
    assert [own.exists(), other_job.exists(), other_run.exists()] == [False, True, True]


def test_in_a_folder_that_nodes_share_each_removes_its_own_alone(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another node's living job nor, however old, its killed one: their processes cannot be seen from here."""
    uname = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "another-node", *uname[2:])))
    there = make(node, entry=entry_name(os.getpid()))
    monkeypatch.undo()
    here = make(node, entry=f"6-60-{NODE}")
    remove_stale(RUN, ENTRY, asked=str(node), environ={}, now=there.stat().st_mtime + 2 * STALE_S)
    assert [here.exists(), there.exists()] == [False, True]
    for entry in (ENTRY, None):
        remove_folders(RUN, entry, asked=str(node), environ={})
        assert there.exists()
