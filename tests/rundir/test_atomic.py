"""Files appear whole or not at all."""

import os
from pathlib import Path

import pytest

from sedd.rundir.atomic import atomic_file, replace_text, write_text


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
