"""Which network a name means, and what a user hears of one that is not trained."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
import torch

from sedd.errors import CheckpointError, UsageError
from sedd.finetune.parent import find_parent
from sedd.inference.export import write_export
from sedd.inference.load_network import find_trained
from sedd.rundir.best import UndecidedError
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.rundir.plan_record import PlanRecord, StageRecord, write_plan
from sedd.training.checkpoint_file import read_checkpoint, write_checkpoint
from tests.command_line import call
from tests.inference.networks import write_adapters_folder, write_small_checkpoint
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


def make_sweep(runs: Path, *bounds: float | None, end: str | None = "completed") -> list[RunDir]:
    """Points of a sweep by their bounds, in the order of their ids, each with a checkpoint."""
    points = []
    (runs / "tiny" / "sweep-1").mkdir(parents=True)
    for number, bound in enumerate(bounds):
        run = make(runs, f"20261122-120000-{number}aaaa111", *([end] if end else []), step=40)
        point = {"training.learning_rate": 0.001 * (number + 1)}
        write_manifest(run, {"name": "tiny", "sweep": "sweep-1", "point": point})
        if bound is not None:
            run.metrics.write_text(json.dumps({"step": 40, "validation_bound": bound}) + "\n")
        points.append(run)
    return points


@pytest.mark.parametrize("named", ["tiny", "sweep-1", "folder"])
def test_of_a_sweep_the_best_is_taken_and_told_with_the_reason(tmp_path: Path, named: str) -> None:
    make(tmp_path, OLD, "completed", step=40)
    points = make_sweep(tmp_path, 2.6, 2.4, None, 2.5)
    text = str(tmp_path / "tiny") if named == "folder" else named
    told: list[str] = []
    assert find_trained(text, tmp_path, notify=told.append).parents[1] == points[1].path
    (note,) = told
    assert note == (
        f"{text} is a sweep of 4 runs; this is the one with the lowest validation bound, tiny/{points[1].id} "
        "(training.learning_rate=0.002, 2.4000 nats per residue); others by their ids: "
        f"tiny/{points[0].id} (training.learning_rate=0.001), "
        f"tiny/{points[2].id} (training.learning_rate=0.003), tiny/{points[3].id} (training.learning_rate=0.004)"
    )
    assert find_trained(points[3].id, tmp_path, notify=told.append).parents[1] == points[3].path
    assert len(told) == 1
    found = find_parent(tmp_path / "tiny", notify=told.append)
    assert found is not None
    assert found.parents[1] == points[1].path
    assert f"tiny/{points[1].id}" in told[1]


def test_what_a_halving_sweep_has_stopped_is_not_taken_and_an_unfinished_sweep_is_told(
    tmp_path: Path,
) -> None:
    points = make_sweep(tmp_path, 2.6, 2.4, end=None)
    append_event(points[1].events, "stopped", attempt=1, now=NOW, step=20)
    assert f"bound of those not stopped by rule so far, tiny/{points[0].id} (" in notes_on(tmp_path)[0]
    append_event(points[0].events, "completed", attempt=1, now=NOW)
    assert f"bound of those not stopped by rule, tiny/{points[0].id} (" in notes_on(tmp_path)[0]
    append_event(points[0].events, "gave_up", attempt=2, now=NOW)
    assert f"bound of those not stopped by rule, tiny/{points[0].id} (" in notes_on(tmp_path)[0]


def test_a_sweep_whose_best_run_is_not_known_is_refused_with_its_runs(tmp_path: Path) -> None:
    points = make_sweep(tmp_path, None, None)
    with pytest.raises(
        UndecidedError, match=r"tiny is a sweep of 2 runs, and .* none was validated"
    ) as caught:
        notes_on(tmp_path)
    assert caught.value.hint == (
        f"name one: tiny/{points[0].id} (training.learning_rate=0.001), "
        f"tiny/{points[1].id} (training.learning_rate=0.002)"
    )
    for run, proteins in zip(points, ("aa", "bb"), strict=True):
        run.metrics.write_text('{"validation_bound": 2.5}')
        row = {"step": 40, "proteins": proteins, "noise": 0, "residues": [9], "nats": [2.5]}
        run.validations.write_text(json.dumps(row) + "\n")
    with pytest.raises(UndecidedError, match=r"their validation sets differ \(2\)"):
        notes_on(tmp_path)


def test_a_damaged_manifest_hides_no_network(tmp_path: Path) -> None:
    run = make(tmp_path, NEW, "completed", step=40)
    run.manifest.write_text("{dam")
    assert find_trained("tiny", tmp_path, notify=print).parents[1] == run.path


def test_a_sweep_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    for run in make_sweep(tmp_path, None, None):
        shutil.rmtree(run.checkpoints)
    with pytest.raises(CheckpointError, match="has no whole checkpoint yet"):
        notes_on(tmp_path)


def test_a_spec_or_a_plan_is_told_to_be_one_with_what_to_name(tmp_path: Path) -> None:
    spec, run = tmp_path / "a.yaml", make(tmp_path, NEW, "completed", step=40)
    spec.write_text("name: tiny")
    stage = StageRecord(name="train", task="train", runs=(run,), waits={}, by_point=())
    data = StageRecord(name="data", task="data", runs=(RunDir(tmp_path / "d" / OLD),), waits={}, by_point=())
    write_plan(PlanRecord(name="all", folder=tmp_path / "all" / "plan-1", stages=(data, stage)), "")
    for command in (["sample"], ["evaluate", "--fasta", spec], ["export", "-o", tmp_path / "new"]):
        with pytest.raises(UsageError, match=r"a\.yaml is a spec, not a run"):
            call(command[0], spec, *command[1:])
    for network in ("all", tmp_path / "all"):
        with pytest.raises(UsageError, match="all is a plan, not a trained network") as caught:
            notes_on(tmp_path, network)
        assert caught.value.hint == f"name one of its trainings: tiny/{NEW}"


def test_a_run_that_trains_nothing_is_told_to_be_none(tmp_path: Path) -> None:
    run = make(tmp_path, OLD, "completed", step=None)
    write_manifest(run, {"name": "tiny", "task": "embed"})
    with pytest.raises(UsageError, match=f"tiny/{OLD} holds no network: its task is embed"):
        find_trained("tiny", tmp_path, notify=print)


def test_an_export_of_a_training_that_goes_on_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = write_small_checkpoint(tmp_path / "small.pt")
    for identity, events in ((OLD, ("completed",)), (NEW, ())):
        run = make(tmp_path, identity, *events, step=None)
        write_checkpoint(run.checkpoints, 3, dict(read_checkpoint(saved)))
        call("export", run.path, "-o", tmp_path / identity)
        assert ("the training is not completed" in capsys.readouterr().err) == (not events)


@pytest.mark.parametrize("name", ["p.fasta", "p.faa.gz", "proteins.txt"])
def test_a_fasta_file_is_no_network(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(">a\nMKV\n")
    with pytest.raises(UsageError) as caught:
        find_trained(str(tmp_path / name), tmp_path, notify=print)
    assert caught.value.message.endswith(
        f"{name} is a FASTA file, not a run, a checkpoint or an exported network"
    )


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {net} --fasta {wrong}",
        "embed {net} -o {net}.npz --fasta {wrong}",
        "score {net} --scan --fasta {wrong}",
        "sample {net} --parent {wrong}",
        "sample {net} --infill {wrong}",
    ],
)
def test_a_run_is_no_fasta_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    run = make(tmp_path / "runs", NEW, "completed", step=40)
    monkeypatch.chdir(tmp_path)
    for wrong in ("tiny", "runs/tiny", str(run.path)):
        with pytest.raises(UsageError) as caught:
            call(*words.format(net="tiny", wrong=wrong).split())
        option = words.split()[-2]
        assert caught.value.message == f"{option} is {wrong}, which is a run; a FASTA file is wanted"


@pytest.mark.parametrize("network", ["./exported", "exported"])
def test_a_folder_that_has_lost_one_of_its_files_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "exported"
    folder.mkdir()
    for there, lost in (
        (("model.safetensors",), "config.json"),
        (("adapters.json",), "adapters.safetensors"),
    ):
        for name in there:
            (folder / name).touch()
        with pytest.raises(UsageError, match=rf"exported lacks {lost}"):
            find_trained(network, tmp_path / "runs", notify=print)
        with pytest.raises(UsageError, match=rf"exported lacks {lost}"):
            find_parent(folder)
        for name in there:
            (folder / name).unlink()
