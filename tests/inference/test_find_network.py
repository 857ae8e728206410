"""Which network a name means, and what a user hears of one that is not trained."""

import datetime as dt
from pathlib import Path

import pytest
import torch

from sedd.errors import CheckpointError
from sedd.inference.load_network import find_trained
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.training.checkpoint_file import write_checkpoint

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
OLD, NEW = "20261122-100000-aaaa1111", "20261122-110000-aaaa1111"


def make(runs: Path, identity: str, *events: str, step: int | None, parent: str | None = None) -> RunDir:
    run = create_run(runs, "tiny", identity, "x")
    write_manifest(run, {"name": "tiny", "parent": {"run": parent} if parent else None})
    for event in ("submitted", "attempt_started", *events):
        append_event(run.events, event, attempt=1, now=NOW)
    if step is not None:
        write_checkpoint(run.checkpoints, step, {"model": {"weight": torch.zeros(1)}})
    return run


def notes_on(runs: Path) -> list[str]:
    notes: list[str] = []
    find_trained("tiny", runs, notify=notes.append)
    return notes


def test_a_name_that_means_an_untrained_run_is_told_with_the_older_run_that_completed(tmp_path: Path) -> None:
    make(tmp_path, OLD, "completed", step=40)
    make(tmp_path, NEW, "gave_up", step=0)
    (line,) = notes_on(tmp_path)
    assert (
        line
        == f"the network of run tiny/{NEW} is at step 0, untrained; the older run tiny/{OLD} is completed"
    )


def test_an_untrained_run_is_told_also_where_no_other_completed(tmp_path: Path) -> None:
    make(tmp_path, OLD, "gave_up", step=40)
    make(tmp_path, NEW, step=0)
    assert notes_on(tmp_path) == [f"the network of run tiny/{NEW} is at step 0, untrained"]


def test_a_fine_tuning_at_step_0_is_its_parent(tmp_path: Path) -> None:
    make(tmp_path, NEW, step=0, parent="base/1")
    (line,) = notes_on(tmp_path)
    assert "still the one that its fine-tuning starts from" in line


def test_nothing_is_told_of_a_run_that_has_trained(tmp_path: Path) -> None:
    make(tmp_path, OLD, "completed", step=40)
    make(tmp_path, NEW, step=1)
    assert notes_on(tmp_path) == []


def test_a_run_without_a_checkpoint_is_told_with_the_older_run_that_completed(tmp_path: Path) -> None:
    make(tmp_path, OLD, "completed", step=40)
    make(tmp_path, NEW, step=None)
    with pytest.raises(CheckpointError, match="has no whole checkpoint yet") as caught:
        notes_on(tmp_path)
    assert caught.value.hint == f"the older run tiny/{OLD} is completed"
