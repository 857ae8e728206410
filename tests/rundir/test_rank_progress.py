"""Progress of a rank, as its job entry reads it from memory."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.rundir.rank_progress import (
    PHASES,
    VARIABLE,
    ProgressWriter,
    open_progress,
    parse_progress,
    progress_writer,
    read_progress,
)


def test_an_entry_reads_what_its_rank_reported_last() -> None:
    descriptor = open_progress()
    assert read_progress(descriptor) is None, "nothing was reported yet"
    before, writer = time.monotonic(), progress_writer({VARIABLE: str(descriptor)})
    for phase in PHASES:
        writer.phase(phase)
        assert read_progress(descriptor) == writer.last
        assert writer.last.phase == phase
    writer.step(7, save_since=3.0)
    seen = read_progress(descriptor)
    assert seen is not None
    assert (seen.step, seen.phase, seen.save_since) == (7, "training", 3.0)
    assert before <= seen.t <= time.monotonic()
    os.close(descriptor)


def test_the_first_step_which_may_compile_is_not_the_slowest() -> None:
    writer = ProgressWriter(None)
    time.sleep(0.05)
    writer.step(1)
    assert writer.last.step_s >= 0.05
    assert writer.last.slowest_s == 0
    writer.phase("validating")
    time.sleep(0.02)
    writer.phase("training")
    writer.step(2)
    assert 0 < writer.last.slowest_s == writer.last.step_s < 0.02, "a validation is no part of a step"


def test_without_an_entry_or_with_a_descriptor_of_something_else_nothing_is_written(
    tmp_path: object,
) -> None:
    reading, writing = os.pipe()
    for environment in ({}, {VARIABLE: "999"}, {VARIABLE: "no number"}, {VARIABLE: str(writing)}):
        progress_writer(environment).step(1)
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    os.close(reading), os.close(writing)


@given(st.binary(max_size=80))
def test_what_is_no_whole_record_is_none(content: bytes) -> None:
    assert parse_progress(content) is None
