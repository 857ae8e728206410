"""Files appear whole or not at all."""

import os
from pathlib import Path

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


def test_a_device_is_written_to_and_stays_one():
    with pytest.raises(DiskFullError, match="cannot write /dev/full: no space left on device"):
        write_output(Path("/dev/full"), "x")
    assert Path("/dev/full").is_char_device()
    require_output(Path("/dev/full"), force=False)


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
