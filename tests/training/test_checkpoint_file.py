"""Checkpoint files: whole or not there, whatever interrupts the writer."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sedd.errors import CheckpointError
from sedd.rundir.layout import list_checkpoints, step_of
from sedd.training import checkpoint_file
from sedd.training.checkpoint_file import (
    FORMAT,
    checkpoint_path,
    is_whole,
    newest_whole,
    prune_checkpoints,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from tests.command_line import BY_PERMISSION
from tests.disk import small_disk


def state(step: int) -> dict[str, object]:
    return {"format": FORMAT, "step": step, "weights": torch.full((1000,), float(step))}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 7, state(7))
    saved = read_checkpoint(checkpoint_path(tmp_path, 7))
    assert saved["step"] == 7
    assert torch.equal(saved["weights"], state(7)["weights"])


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "no seal", "torn seal"])
def test_a_damaged_checkpoint_is_not_whole_and_the_older_one_wins(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, state(step))
    newest = checkpoint_path(tmp_path, 2)
    content, seal = newest.read_bytes(), newest.with_suffix(".json")
    if damage == "flip":
        newest.write_bytes(content[:300] + bytes([content[300] ^ 4]) + content[301:])
    elif damage == "cut":
        newest.write_bytes(content[:-1])
    elif damage == "grow":
        newest.write_bytes(content + b"\0")
    elif damage == "no seal":
        seal.unlink()
    else:
        seal.write_text(seal.read_text()[:10])
    assert not is_whole(newest)
    assert newest_whole(tmp_path) == checkpoint_path(tmp_path, 1)


@pytest.mark.parametrize(("rest_s", "times"), [(0, 1), (60, 2)])
def test_a_checkpoint_that_is_found_and_then_read_is_summed_up_once_unless_it_has_just_been_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest_s: int, times: int
) -> None:
    write_checkpoint(tmp_path, 2, state(2))
    newest = checkpoint_path(tmp_path, 2)
    monkeypatch.setattr(checkpoint_file, "_REST_S", rest_s)
    summed: list[Path] = []
    whole = checkpoint_file._sha256
    monkeypatch.setattr(checkpoint_file, "_sha256", lambda path: (summed.append(path), whole(path))[1])
    assert newest_whole(tmp_path) == newest
    read_checkpoint(newest)
    assert summed == [newest] * times


@pytest.mark.parametrize("how", ["in place", "by another file of the same times"])
def test_what_changed_after_it_was_summed_up_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write_checkpoint(tmp_path, 2, state(2))
    newest = checkpoint_path(tmp_path, 2)
    content = newest.read_bytes()
    damaged = content[:300] + bytes([content[300] ^ 4]) + content[301:]
    monkeypatch.setattr(checkpoint_file, "_REST_S", 0)
    (tmp_path / "other").write_bytes(damaged)
    times = newest.stat()
    assert is_whole(newest)
    if how == "by another file of the same times":
        os.replace(tmp_path / "other", newest)
    else:
        time.sleep(0.05)
        newest.write_bytes(damaged)
    os.utime(newest, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_whole(newest)


def test_a_damaged_checkpoint_is_refused_with_its_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2, state(2))
    path = checkpoint_path(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"step-00000002\.pt is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("file", ["step-00000002.pt", "step-00000002.json"])
def test_a_newest_checkpoint_that_cannot_be_read_is_an_error_and_no_older_one_is_used(
    tmp_path: Path, file: str
) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, state(step))
    (tmp_path / file).unlink()
    (tmp_path / file).symlink_to(file)  # to itself: the system refuses to open it, as root, too
    for read in (newest_whole, lambda folder: is_whole(checkpoint_path(folder, 2))):
        with pytest.raises(
            CheckpointError, match=rf"^cannot read .*{file}: too many levels of symbolic links$"
        ):
            read(tmp_path)


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (errno.EACCES, "permission denied", "permission"),
        (errno.EROFS, "read-only file system", "mounted for reading"),
        (errno.EDQUOT, "disk quota exceeded", "quota"),
        (errno.ENOSPC, "no space left on device", "disk is full"),
        (errno.EIO, "input/output error", "fails"),
    ],
)
@pytest.mark.parametrize("is_torchs", [False, True])
def test_a_checkpoint_that_cannot_be_written_says_why_and_what_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, hint: str, is_torchs: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        if not is_torchs:
            raise OSError(code, "in some words")
        # The zip writer has no number of the system; the next write to the same file has.
        monkeypatch.setattr(checkpoint_file.os, "write", lambda *_: refuse_write())
        raise RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed\nmore")

    def refuse_write() -> int:
        raise OSError(code, "in some words")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(CheckpointError) as raised:
        write_checkpoint(tmp_path, 2, state(2))
    assert raised.value.message == f"cannot write {tmp_path}/step-00000002.pt: {reason}"
    assert hint in (raised.value.hint or "")
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == code
    assert not list(tmp_path.iterdir())


def test_a_folder_of_checkpoints_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    write_checkpoint(tmp_path / "checkpoints", 1, state(1))
    (tmp_path / "checkpoints").chmod(0)
    program = (
        "import sys; from pathlib import Path; from sedd.training.checkpoint_file import newest_whole\n"
        "newest_whole(Path(sys.argv[1]))"
    )
    command = [*BY_PERMISSION, sys.executable, "-c", program, str(tmp_path / "checkpoints")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (tmp_path / "checkpoints").chmod(0o700)
    assert f"CheckpointError: cannot read {tmp_path}/checkpoints: permission denied" in done.stderr
    assert newest_whole(tmp_path / "missing") is None


def test_a_checkpoint_without_its_seal_can_be_copied_elsewhere_and_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 3, state(3))
    alone = tmp_path / "copy.pt"
    alone.write_bytes(checkpoint_path(tmp_path, 3).read_bytes())
    assert read_checkpoint(alone)["step"] == 3


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_another_file_is_refused_without_running_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "strange.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"strange\.pt"):
        read_checkpoint(path)


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    path = tmp_path / "evil.pt"
    torch.save({"format": FORMAT, "step": 1, "evil": Evil()}, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"hi\n", b"garbage", b"\x80\x02}q\x00", bytes(range(256))])
def test_any_other_file_is_not_a_checkpoint(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "step.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "step.pt")


def test_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": FORMAT + 1}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match="format"):
        read_checkpoint(tmp_path / "new.pt")


def test_keep_the_newest_and_the_milestones(tmp_path: Path) -> None:
    for step in range(1, 11):
        write_checkpoint(tmp_path, step, state(step))
        prune_checkpoints(tmp_path, newest=step, keep=2, keep_every_steps=4)
    assert [step_of(p) for p in list_checkpoints(tmp_path)] == [10, 9, 8, 4]
    assert len(list(tmp_path.iterdir())) == 8  # each with its seal, and nothing else


def test_damaged_checkpoints_of_later_steps_take_no_whole_ones_place(tmp_path: Path) -> None:
    """The run had begun anew, and each of its checkpoints was removed as soon as it was written."""
    for step in (90, 100):
        write_checkpoint(tmp_path, step, state(step))
        checkpoint_path(tmp_path, step).write_bytes(b"lost by a power cut")
    for step in (10, 20, 30):
        write_checkpoint(tmp_path, step, state(step))
        prune_checkpoints(tmp_path, newest=step, keep=2, keep_every_steps=None)
        assert newest_whole(tmp_path) == checkpoint_path(tmp_path, step)
    assert [step_of(p) for p in list_checkpoints(tmp_path)] == [100, 90, 30, 20]


def test_a_full_disk_is_said_and_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="64k") as disk:
        write_checkpoint(disk, 1, state(1))
        with pytest.raises(CheckpointError, match=r"cannot write .*pt: no space left on device$"):
            write_checkpoint(disk, 2, {"format": FORMAT, "step": 2, "weights": torch.zeros(100_000)})
        assert [p.name for p in disk.glob("*.pt")] == ["step-00000001.pt"]
        assert not list(disk.glob(".*"))
        assert newest_whole(disk) == checkpoint_path(disk, 1)


@pytest.mark.parametrize("harm", ["flipped", "unsealed"])
def test_a_newest_checkpoint_that_is_passed_over_is_named(tmp_path: Path, harm: str) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, state(step))
    said: list[str] = []
    assert newest_whole(tmp_path, notify=said.append) == checkpoint_path(tmp_path, 2)
    assert said == []
    newest = checkpoint_path(tmp_path, 2)
    if harm == "flipped":
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content)
    else:
        newest.with_suffix(".json").unlink()
    assert newest_whole(tmp_path, notify=said.append) == checkpoint_path(tmp_path, 1)
    (line,) = said
    assert str(newest) in line
    assert "step-00000001.pt is used" in line


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Kill a process that writes one checkpoint after the other; the newest sealed one is always whole."""
    code = (
        "import sys, torch\nfrom pathlib import Path\n"
        "from sedd.training.checkpoint_file import FORMAT, write_checkpoint\n"
        "for step in range(1, 10**6):\n"
        "    write_checkpoint(Path(sys.argv[1]), step, "
        "{'format': FORMAT, 'step': step, 'w': torch.zeros(300_000)})\n    print(step, flush=True)\n"
    )
    for kill_after in (1, 2, 4):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(kill_after):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        newest = newest_whole(tmp_path)
        assert newest is not None
        assert step_of(newest) >= said
        remove_leftovers(tmp_path)
        assert not list(tmp_path.glob(".*.tmp"))
