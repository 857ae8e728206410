"""Files appear whole or not at all."""

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from sedd.errors import DiskFullError, UsageError
from sedd.rundir.atomic import atomic_file, replace_text, require_output, write_output, write_text


def test_a_file_is_replaced_at_once(tmp_path: Path):
    path = tmp_path / "a file"
    path.write_text("old")
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a file"]


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("old")
    with (
        pytest.raises(UnicodeEncodeError),
        atomic_file(path) as temporary,
        temporary.open("w", encoding="ascii") as file,
    ):
        file.writelines(["half a", "σ"])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [write_text, replace_text])
def test_a_folder_in_the_way_leaves_nothing_behind(tmp_path: Path, write):
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(tmp_path / "file", "x")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("write", [write_text, replace_text])
def test_text_is_utf8_whatever_the_locale(tmp_path: Path, write):
    write(tmp_path / "file", "σ̄\n")
    assert (tmp_path / "file").read_bytes() == "σ̄\n".encode()


def killed_while_writing(path: Path, *, host: str = "", age_s: float = 0.0) -> Path:
    """What a writer on a machine leaves that got SIGKILL so long ago."""
    program = (
        "import os, socket, sys; from pathlib import Path; from sedd.rundir.atomic import atomic_file\n"
        "if sys.argv[2]: socket.gethostname = lambda: sys.argv[2]\n"
        "with atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); print(temporary, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(path), host]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert (done.returncode, left.read_text()) == (-9, "half")
    os.utime(left, (time.time() - age_s,) * 2)
    return left


@pytest.mark.parametrize("write", [write_text, replace_text])
def test_what_a_killed_writer_left_is_removed_a_day_later_by_the_next_on_its_machine(tmp_path: Path, write):
    day = 24 * 3600.0
    gone = killed_while_writing(tmp_path / "a file", age_s=1.1 * day)
    kept = [
        killed_while_writing(tmp_path / "a file", age_s=0.9 * day),
        killed_while_writing(tmp_path / "a file", age_s=1.1 * day, host="far"),
        killed_while_writing(tmp_path / "another", age_s=1.1 * day),
        gone.with_name(gone.name.replace(gone.suffixes[-2], f".{os.getppid()}")),  # alive
        gone.with_name(f".a file{gone.suffixes[-2]}.tmp"),  # of an older version, which kept no host
    ]
    for path in kept[-2:]:
        path.touch()
        os.utime(path, (time.time() - 1.1 * day,) * 2)
    write(tmp_path / "a file", "x")
    assert sorted(os.listdir(tmp_path)) == sorted(["a file", *(path.name for path in kept)])


def test_a_device_is_written_to_and_stays_one():
    with pytest.raises(DiskFullError, match="cannot write /dev/full: no space left on device"):
        write_output(Path("/dev/full"), "x")
    assert Path("/dev/full").is_char_device()
    require_output(Path("/dev/full"), force=False)


def test_an_output_that_ends_in_gz_is_compressed_and_the_same_text_gives_the_same_bytes(tmp_path: Path):
    one, two = tmp_path / "one.fasta.gz", tmp_path / "two.fasta.gz"
    write_output(one, ">a\nMK\n")
    with mock.patch("time.time", return_value=time.time() + 3600):
        write_output(two, ">a\nMK\n")
    assert gzip.decompress(one.read_bytes()) == b">a\nMK\n"
    assert one.read_bytes() == two.read_bytes()
    write_output(tmp_path / "plain.fasta", ">a\nMK\n")
    assert (tmp_path / "plain.fasta").read_text() == ">a\nMK\n"


@pytest.mark.parametrize("name", ["s.fasta.xz", "s.fasta.bz2", "s.fasta.zst", "s.zip"])
def test_an_output_whose_ending_asks_for_another_compression_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=f"cannot write .*{name}: of compressed files only .gz is written"):
        require_output(tmp_path / name, force=False)


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.JSON", "s.html"])
def test_sequences_are_not_written_to_a_name_that_says_another_format(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=r"its name says (csv|html|json), and what is written is FASTA"):
        require_output(tmp_path / name, force=True, written="FASTA")
    for other in ("s.fasta.gz", "s.faa", "s", "run1.2"):
        require_output(tmp_path / other, force=False, written="FASTA")


def test_an_output_that_is_there_is_refused_unless_forced(tmp_path: Path):
    path = tmp_path / "file"
    require_output(path, force=False)
    path.touch()
    with pytest.raises(UsageError, match="file: it already exists") as caught:
        require_output(path, force=False)
    assert caught.value.hint == "--force replaces it"
    require_output(path, force=True)
    with pytest.raises(UsageError, match="its name is too long"):
        require_output(tmp_path / ("x" * 300), force=True)
