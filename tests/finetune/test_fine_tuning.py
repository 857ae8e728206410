"""Fine-tuning starts at its parent's bits, ends at the same ones however often interrupted, and tells from where."""

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sedd.data.build import build_store
from sedd.errors import CheckpointError
from sedd.finetune.parent import find_parent, keep, kept_in, read_parent
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.spec.build import BuildOptions
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint_file import checkpoint_path, newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.loop import Outcome, train
from sedd.training.metrics import read_metrics
from tests.tiny import MAX_LENGTH, PROTEINS, tiny_spec, train_process
from tests.training.test_resume import assert_same_bits, assert_same_end
from tests.training.train_process import EndsAtStep

KILLED, STOPPED = -signal.SIGKILL, 75
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "frozen": {"freeze": ["embedding.*", "noise_level.*", "*.norm_?.weight"], "layer_decay": 0.5},
    "lora": {"lora": {"rank": 2, "alpha": 4}},
    "muon": {"optimizer": "muon", "layer_decay": 0.7, "freeze": ["blocks.0.up.*"]},
}
MakeRun = Callable[[Experiment], RunDir]


@pytest.fixture(scope="module")
def parent(store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = create_run(
        tmp_path_factory.mktemp("parents"), "parent", "one", dump_resolved(tiny_spec(store, steps=12))
    )
    write_manifest(run, {})
    assert train_here(run) is Outcome.COMPLETED
    return run


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other proteins than the parent's."""
    path = tmp_path_factory.mktemp("family") / "family.store"
    options = BuildOptions(limit=60, min_length=MAX_LENGTH, max_length=300, validation_fraction=0.3)
    build_store([PROTEINS], path, options)
    return path


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(experiment: Experiment) -> RunDir:
        identity = f"run {len(list(tmp_path.glob('runs/*/*')))}"
        return create_run(tmp_path / "runs", experiment.name, identity, dump_resolved(experiment))

    return make


def tuned(family: Path, parent: Path, **training: Any) -> Experiment:
    init = training.pop("init", {})
    return tiny_spec(family, **{"init": {"network": str(parent)} | init, "steps": 14} | training)


def train_here(run: RunDir, *, attempt: int = 1, end: str = "never") -> Outcome:
    """Train in this process, which knows torch already."""
    return train(run, attempt=attempt, ranks=Ranks(), stop=EndsAtStep(end, run))


def weights_of(saved: dict[str, Any]) -> dict[str, torch.Tensor]:
    return saved["model"] | saved["ema"]["averages"]


@pytest.mark.parametrize("way", WAYS)
def test_step_0_is_the_parent_to_the_bit_and_an_interrupted_run_equals_an_undisturbed_one(
    way: str, family: Path, parent: RunDir, make_run: MakeRun
) -> None:
    theirs = read_metrics(parent.metrics)[-1]["validation_bound"]
    spec = tuned(family, parent.path, **WAYS[way])
    whole, interrupted = make_run(spec), make_run(spec)
    assert train_here(whole) is Outcome.COMPLETED
    first, *_, last = read_metrics(whole.metrics)
    assert (first["step"], first["parent_validation_bound"]) == (0, theirs)
    assert last["parent_validation_bound"] != theirs
    assert train_process(interrupted, end="kill:8") == KILLED
    assert train_here(interrupted, attempt=2, end="stop:9") is Outcome.STOPPED
    assert train_here(interrupted, attempt=3) is Outcome.COMPLETED
    assert_same_end(interrupted, whole)


@pytest.mark.parametrize("way", ["lora", "frozen"])
def test_what_is_frozen_keeps_its_bits_and_stays_out_of_optimiser_and_average(
    way: str, family: Path, parent: RunDir, make_run: MakeRun
) -> None:
    run = make_run(tuned(family, parent.path, **WAYS[way]))
    assert train_here(run) is Outcome.COMPLETED
    theirs = weights_of(read_checkpoint(newest_whole(parent.checkpoints)))
    saved = read_checkpoint(newest_whole(run.checkpoints))
    learns = set(saved["ema"]["averages"])
    for name, weight in saved["model"].items():
        is_same = name in theirs and torch.equal(weight, theirs[name])
        assert is_same == (name not in learns), name
    sizes = sorted(moments["exp_avg"].shape for moments in saved["optimizer"]["state"].values())
    assert sizes == sorted(saved["model"][name].shape for name in learns)
    assert len(learns) == (8 if way == "lora" else 13)


def test_the_parent_may_be_deleted_once_the_run_has_a_checkpoint(
    family: Path, parent: RunDir, make_run: MakeRun, tmp_path: Path
) -> None:
    copy = RunDir(shutil.copytree(parent.path, tmp_path / "parents" / "copy"))
    run = make_run(tuned(family, copy.path))
    assert train_here(run, end="stop:0") is Outcome.STOPPED
    assert newest_whole(run.checkpoints) == checkpoint_path(run.checkpoints, 0)
    assert not run.initial.exists()
    shutil.rmtree(copy.path)
    assert train_here(run, attempt=2) is Outcome.COMPLETED
    whole = make_run(tuned(family, parent.path))
    assert train_here(whole) is Outcome.COMPLETED
    one, other = (read_checkpoint(newest_whole(each.checkpoints)) for each in (run, whole))
    assert_same_bits(one["model"], other["model"])
    assert run.metrics.read_bytes() == whole.metrics.read_bytes()


def test_what_was_kept_at_the_submission_counts_whatever_becomes_of_the_parent(
    family: Path, parent: RunDir, make_run: MakeRun
) -> None:
    run = make_run(tuned(family, Path("/nowhere/parent")))
    found = find_parent(parent.path)
    assert found is not None
    keep(found, run.initial)
    assert train_here(run, end="stop:0") is Outcome.STOPPED
    lineage = json.loads(run.lineage.read_text())
    seal = json.loads(found.with_suffix(".json").read_text())
    assert (lineage["run"], lineage["step"], lineage["sha256"]) == ("parent/one", 12, seal["sha256"])
    assert kept_in(run.initial) is None
    assert read_parent(newest_whole(run.checkpoints)).lineage == lineage


def test_of_two_that_keep_a_network_the_first_counts_and_none_leaves_a_copy_behind(
    parent: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of two attempts that overlap; and a full disk leaves nothing either."""
    found = find_parent(parent.path)
    assert found is not None
    keep(found, tmp_path / "initial")
    keep(found, tmp_path / "initial")
    assert [path.name for path in tmp_path.iterdir()] == ["initial"]
    assert kept_in(tmp_path / "initial") == tmp_path / "initial" / found.name

    gone = tmp_path / "checkpoints" / found.name  # its parent's training has pruned it meanwhile
    gone.parent.mkdir()
    gone.with_suffix(".json").touch()
    with pytest.raises(FileNotFoundError):
        keep(gone, tmp_path / "pruned")
    shutil.rmtree(gone.parent)
    assert [path.name for path in tmp_path.iterdir()] == ["initial"]

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sedd.finetune.parent._link", full)
    with pytest.raises(OSError, match="No space"):
        keep(found, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["initial"]


def test_a_parents_store_that_is_gone_is_a_warning(
    family: Path, parent: RunDir, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tuned(family, parent.path, init={"validation": str(tmp_path / "gone.store")}))
    assert train_here(run, end="stop:0") is Outcome.STOPPED
    assert "parent_validation_bound" not in read_metrics(run.metrics)[0]
    assert capsys.readouterr().out.count("what is forgotten is not measured") == 1


def test_raw_weights_and_moments_are_taken_over(family: Path, parent: RunDir, make_run: MakeRun) -> None:
    run = make_run(tuned(family, parent.path, init={"weights": "raw", "optimizer": True}, weight_decay=0.5))
    assert train_here(run, end="stop:0") is Outcome.STOPPED
    theirs = read_checkpoint(newest_whole(parent.checkpoints))
    ours = read_checkpoint(newest_whole(run.checkpoints))
    assert_same_bits(ours["model"], theirs["model"])
    assert_same_bits(ours["ema"]["averages"], {n: theirs["model"][n] for n in ours["ema"]["averages"]})
    assert_same_bits(ours["optimizer"]["state"], theirs["optimizer"]["state"])
    assert ours["optimizer"]["param_groups"][0]["weight_decay"] == 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"hidden": 32, "cond": 8, "blocks": 1, "heads": 2}}, "model.hidden is 16"),
        ({"diffusion": {"graph": "uniform"}}, "diffusion.graph is absorbing"),
        ({"diffusion": {"parameterization": "subs"}}, "diffusion.parameterization is score"),
        ({"diffusion": {"noise": {"kind": "geometric"}}}, "diffusion.noise is loglinear"),
    ],
)
def test_a_parent_of_another_shape_graph_or_noise_is_one_error(
    change: dict[str, Any], words: str, family: Path, parent: RunDir, make_run: MakeRun
) -> None:
    spec = Experiment.model_validate(tuned(family, parent.path).model_dump(mode="json") | change)
    with pytest.raises(CheckpointError, match=words):
        train_here(make_run(spec))


def test_two_ranks_with_adapters_a_shared_optimiser_and_recomputed_blocks_resume_to_the_same_bits(
    family: Path, parent: RunDir, make_run: MakeRun
) -> None:
    spec = tuned(
        family, parent.path, steps=6, shard="optimizer", activation_checkpointing=True, **WAYS["lora"]
    )
    whole, interrupted = make_run(spec), make_run(spec)
    assert train_process(whole, ranks=2) == 0
    assert train_process(interrupted, ranks=2, end="stop:4") == STOPPED
    assert train_process(interrupted, ranks=2, attempt=2) == 0
    assert_same_end(interrupted, whole)
