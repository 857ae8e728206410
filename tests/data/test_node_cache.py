"""Stores on a disk of the node: copied once, checked, found again; where that fails, the shared one."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.data import node_cache as stage
from sedd.data.build import build_store
from sedd.data.node_cache import stage_store
from sedd.data.store import TokenStore
from sedd.data.verify import verify_store
from sedd.errors import DataError
from sedd.spec.build import BuildOptions
from tests.data.proteins import made_up_proteins, write_fasta


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    source = write_fasta(tmp_path / "a.fasta", made_up_proteins(200))
    return build_store([source], tmp_path / "shared.store").path


def test_the_copy_is_whole_and_the_next_attempt_finds_it(shared: Path, tmp_path: Path):
    first = stage_store(shared, str(tmp_path / "node"))
    assert first.problem is None
    assert first.copied_bytes > 0
    assert first.store.path.parent == tmp_path / "node"
    assert verify_store(first.store.path) == []
    again = stage_store(shared, str(tmp_path / "node"))
    assert (again.store.path, again.copied_bytes, again.problem) == (first.store.path, 0, None)


def test_variables_are_those_of_the_node(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "job 7"))
    assert stage_store(shared, "$SLURM_TMPDIR/sedd").store.path.parent == tmp_path / "job 7" / "sedd"
    monkeypatch.delenv("SLURM_TMPDIR")
    staged = stage_store(shared, "$SLURM_TMPDIR/sedd")
    assert staged.store.path == shared
    assert "$SLURM_TMPDIR" in str(staged.problem)


def test_another_store_is_another_copy(shared: Path, tmp_path: Path):
    source = write_fasta(tmp_path / "b.fasta", made_up_proteins(100, seed=1))
    other = build_store([source], tmp_path / "other.store").path
    copies = {stage_store(path, str(tmp_path / "node")).store.path for path in (shared, other)}
    assert len(copies) == 2


def test_without_space_the_shared_store_is_read(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stage, "_SPARE_BYTES", 1 << 60)
    staged = stage_store(shared, str(tmp_path / "node"))
    assert staged.store.path == shared
    assert "GiB free, the store needs" in str(staged.problem)
    assert not list((tmp_path / "node").glob("*.store"))


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(shared: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    staged = stage_store(shared, str(tmp_path / "file" / "node"))
    assert staged.store.path == shared
    assert staged.problem


def test_a_damaged_store_is_not_spread(shared: Path, tmp_path: Path):
    tokens = shared / "train" / "tokens-00000.npy"
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(DataError, match=r"tokens-00000\.npy: the content has changed"):
        stage_store(shared, str(tmp_path / "node"))
    assert [path.suffix for path in (tmp_path / "node").iterdir()] == [".lock"]


def test_what_a_killed_copier_left_is_not_taken_for_a_copy(shared: Path, tmp_path: Path):
    copy = stage_store(shared, str(tmp_path / "node")).store.path
    shutil.copytree(copy, copy.with_suffix(".copying"))
    (copy / "train" / "offsets.npy").unlink()
    staged = stage_store(shared, str(tmp_path / "node"))
    assert staged.copied_bytes > 0
    assert verify_store(copy) == []
    assert not copy.with_suffix(".copying").exists()


COPY = """
import sys
from pathlib import Path
from sedd.data.node_cache import stage_store
print(stage_store(Path(sys.argv[1]), sys.argv[2]).copied_bytes)
"""


def test_of_the_processes_of_a_node_one_copies(shared: Path, tmp_path: Path):
    command = [sys.executable, "-c", COPY, str(shared), str(tmp_path / "node")]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    copied = [int(rank.communicate(timeout=300)[0]) for rank in ranks]
    assert sum(count > 0 for count in copied) == 1


def test_a_store_of_the_same_content_in_other_files_does_not_replace_a_copy_that_is_read(tmp_path: Path):
    """One that was extended has a file more than one that was built at once, and their content has one name."""
    proteins = made_up_proteins(120)
    halves = [
        write_fasta(tmp_path / f"{n}.fasta", part) for n, part in enumerate((proteins[:60], proteins[60:]))
    ]
    half = build_store(halves[:1], tmp_path / "half.store").path
    extended = build_store(halves[1:], tmp_path / "extended.store", BuildOptions(onto=half)).path
    whole = build_store([write_fasta(tmp_path / "all.fasta", proteins)], tmp_path / "whole.store").path
    reading = stage_store(whole, str(tmp_path / "node")).store
    assert stage_store(extended, str(tmp_path / "node")).problem is None
    train, original = reading.split("train"), TokenStore.open(whole).split("train")
    assert TokenStore.open(extended).content_hash == reading.content_hash
    assert [train.tokens(n).tolist() for n in range(train.sequences)] == [
        original.tokens(n).tolist() for n in range(train.sequences)
    ]


def test_a_copy_is_this_users_alone_whatever_the_umask(shared: Path, tmp_path: Path):
    before = os.umask(0)
    try:
        copy = stage_store(shared, str(tmp_path / "node")).store.path
    finally:
        os.umask(before)
    assert f"-{os.geteuid()}-" in copy.name
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert stat.S_IMODE(copy.with_suffix(".lock").stat().st_mode) == 0o600


@pytest.mark.parametrize("planted", ["open to all", "link"])
def test_what_others_may_have_put_in_its_place_is_not_read(shared: Path, tmp_path: Path, planted: str):
    copy = stage_store(shared, str(tmp_path / "node")).store.path
    if planted == "link":
        copy.rename(tmp_path / "theirs")
        copy.symlink_to(tmp_path / "theirs")
    else:
        copy.chmod(0o777)
    staged = stage_store(shared, str(tmp_path / "node"))
    assert staged.store.path == shared
    assert "somebody else's" in str(staged.problem)


def test_a_link_in_the_place_of_the_lock_empties_no_file(shared: Path, tmp_path: Path):
    lock = stage_store(shared, str(tmp_path / "node")).store.path.with_suffix(".lock")
    mine = tmp_path / "mine"
    mine.write_text("a thesis")
    lock.unlink()
    lock.symlink_to(mine)
    assert stage_store(shared, str(tmp_path / "node")).store.path == shared
    assert mine.read_text() == "a thesis"
