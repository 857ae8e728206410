"""Which network a name means, and what a user hears of one that is not trained."""

import datetime as dt
import shutil
from pathlib import Path

import pytest
import torch

from sedd.errors import CheckpointError, UsageError
from sedd.inference.export import write_export
from sedd.inference.load_network import find_trained
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.training.checkpoint_file import write_checkpoint
from tests.command_line import call
from tests.inference.networks import write_adapters_folder
from tests.inference.test_export import checkpoint_of
from tests.tiny import tiny_spec

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
OLD, NEW = "20261122-100000-aaaa1111", "20261122-110000-aaaa1111"


def make(runs: Path, identity: str, *events: str, step: int | None, parent: str | None = None) -> RunDir:
    run = create_run(runs, "tiny", identity, "x")
    lineage = {"run": parent} if parent else None
    write_manifest(run, {"name": "tiny", "parent": lineage})
    for event in ("submitted", "attempt_started", *events):
        append_event(run.events, event, attempt=1, now=NOW)
    if step is not None:
        said = {"run": f"tiny/{identity}", "step": step, "spec": "", "composition": [], "parent": lineage}
        write_checkpoint(run.checkpoints, step, {"model": {"weight": torch.zeros(1)}, **said})
    return run


def notes_on(runs: Path, network: Path | str = "tiny") -> list[str]:
    notes: list[str] = []
    find_trained(str(network), runs, notify=notes.append)
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


def test_a_checkpoint_of_step_0_is_told_wherever_it_lies(tmp_path: Path) -> None:
    make(tmp_path, OLD, "completed", step=40)
    (untrained,) = make(tmp_path, NEW, step=0).checkpoints.glob("*.pt")
    copy = tmp_path / "best.pt"
    shutil.copy(untrained, copy)
    told = f"the network of run tiny/{NEW} is at step 0, untrained"
    assert notes_on(tmp_path, untrained) == [f"{told}; the older run tiny/{OLD} is completed"]
    assert notes_on(tmp_path, copy) == [told]


@pytest.mark.parametrize(("step", "count"), [(0, 1), (7, 0)])
def test_an_export_of_step_0_is_told(tmp_path: Path, step: int, count: int) -> None:
    saved = checkpoint_of(tiny_spec(tmp_path / "p.store")) | {"step": step}
    write_export(saved, tmp_path / "exported")
    assert (
        notes_on(tmp_path, tmp_path / "exported")
        == [f"the network of run {saved['run']} is at step 0, untrained"] * count
    )


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


def test_one_file_of_an_export_or_of_adapters_is_told_to_be_one_and_what_to_name(tmp_path: Path) -> None:
    exported, adapters = tmp_path / "exported", write_adapters_folder(tmp_path / "adapters")
    write_export(checkpoint_of(tiny_spec(tmp_path / "p.store")), exported)
    for folder in (exported, adapters):
        for file in folder.glob("*.[js]*"):  # .json and .safetensors
            with pytest.raises(UsageError, match=f"{file} is one file of") as caught:
                notes_on(tmp_path, file)
            assert str(caught.value.hint).endswith(f"folder: {folder}")
    alone = shutil.copy(exported / "model.safetensors", tmp_path)
    with pytest.raises(UsageError, match="holds weights alone"):
        notes_on(tmp_path, alone)


def test_adapters_alone_are_not_exported_and_their_run_is_named(tmp_path: Path) -> None:
    adapters = write_adapters_folder(tmp_path / "adapters")
    for more in ([], ["--adapters"]):
        with pytest.raises(UsageError, match=r"adapters holds adapters alone") as caught:
            call("export", adapters, "-o", tmp_path / "new", *more)
        assert caught.value.hint == "sedd export family/one -o FOLDER writes the network with them merged"
    assert not (tmp_path / "new").exists()
