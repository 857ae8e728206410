"""Log files of a run."""

import os
from pathlib import Path
from typing import Any

import pytest

from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.logs import follow_log, last_lines, newest_log, telling_log


def write_log(run: Any, name: str, text: str, *, age: int = 0) -> Path:
    path: Path = run.folder.logs / name
    path.write_text(text)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_newest_log_of_a_rank_is_found(farm: Any) -> None:
    run = farm.run()
    assert newest_log(run.folder) is None
    write_log(run, "7_0.out", "old", age=100)
    newest = write_log(run, "120_3_0.out", "new")
    rank_1 = write_log(run, "120_3_1.out", "of rank 1", age=-5)
    write_log(run, "notes.txt", "not a log", age=-9)
    assert newest_log(run.folder) == newest
    assert newest_log(run.folder, rank=1) == rank_1
    assert newest_log(run.folder, rank=2) is None


@pytest.mark.parametrize("count", [0, 1, 3, 100, 5000, 50_000])
def test_last_lines_of_a_file_larger_than_a_block(tmp_path: Path, count: int) -> None:
    path = tmp_path / "log"
    lines = [f"line {i} äöü\n" for i in range(20_000)]
    path.write_text("".join(lines))
    assert last_lines(path, count) == "".join(lines[-count:] if count else [])


def test_a_last_line_without_an_end_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a\nb\nc")
    assert last_lines(tmp_path / "log", 2) == "b\nc"


def test_following_goes_on_in_the_next_log_until_the_run_ends(farm: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=0).started(ago_s=0)
    first = write_log(run, "7_0.out", "one\ntwo\nthree\n", age=10)
    looks = 0

    def alive(history: object) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            with open(first, "a") as file:
                file.write("four\n")
        if looks == 3:
            (run.folder.logs / "8_0.out").write_text("five\n")
        if looks == 4:
            run.event("completed", step=1)
        return True

    gatherer = Gatherer(alive=alive)
    said = list(follow_log(run.folder, rank=0, tail=2, notify=print, gatherer=gatherer, poll_s=0.02))
    assert "".join(said) == f"two\nthree\nfour\n==> {run.folder.logs / '8_0.out'} <==\nfive\n"


def test_what_is_written_while_the_first_lines_are_shown_is_shown_too(farm: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=0).started(ago_s=0)
    log = write_log(run, "7_0.out", "one\n")
    letter, rest = "é\n".encode()[:1], "é\n".encode()[1:]
    pieces, looks = [b"two\n", letter, rest], iter(range(9))

    def alive(history: object) -> bool:
        if next(looks, None) is None:
            run.event("completed", step=1)
        return True

    gatherer = Gatherer(alive=alive)
    text = ""
    for shown in follow_log(run.folder, rank=0, tail=10, notify=print, gatherer=gatherer, poll_s=0.0):
        text += shown
        if pieces:  # while whoever reads us was busy
            with log.open("ab") as file:
                file.write(pieces.pop(0))
    assert text == "one\ntwo\né\n"


def test_following_waits_for_the_first_log(farm: Any) -> None:
    run = farm.run(executor="local").submitted(ago_s=0)
    looks = 0

    def alive(history: object) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            write_log(run, "7_0.out", "hello\n")
            run.event("completed", step=1)
        return True

    gatherer = Gatherer(alive=alive)
    said = list(follow_log(run.folder, rank=0, tail=2, notify=print, gatherer=gatherer, poll_s=0.02))
    assert "".join(said) == "hello\n"


def test_where_no_rank_has_a_log_the_jobs_own_output_tells(farm: Any) -> None:
    run = farm.run().submitted(ago_s=90, job_id="12")
    assert telling_log(run.folder) is None
    old = run.folder.logs / "11_0.out"
    old.write_text("an earlier job\n")
    assert telling_log(run.folder) == old
    output = run.folder.submitit / "12_0_log.out"
    output.write_text("conda: command not found\n")
    assert telling_log(run.folder) == output
    assert telling_log(run.folder, rank=3) == output
    log = run.folder.logs / "12_0.out"
    log.write_text("step 1\n")
    assert telling_log(run.folder) == log
    assert telling_log(run.folder, rank=3) is None
