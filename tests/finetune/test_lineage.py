"""Where a fine-tuned network comes from: kept at the submission, and told by manifest, status, report and export."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from sedd.cli.main import build_app
from sedd.cluster.profile import LocalProfile
from sedd.errors import CheckpointError
from sedd.inference.load_network import find_trained, load_trained
from sedd.launch.make_runs import Order, make_runs
from sedd.monitor.decide.inspection import inspect
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.show.detail import detail_view
from sedd.monitor.show.report import read_documents, render_report
from sedd.rundir.layout import RunDir, create_run, read_lineage, read_manifest, write_manifest
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request, dump_resolved
from sedd.training.checkpoint_file import newest_whole
from sedd.training.distributed import Ranks
from sedd.training.loop import train
from sedd.training.metrics import read_metrics
from sedd.training.stop import StopFlag
from tests.tiny import tiny_spec

NOW = dt.datetime(2026, 11, 29, 12, 0, tzinfo=dt.UTC)


def submitted(runs: Path, experiment: Experiment) -> RunDir:
    """A run folder as `sedd submit` makes one."""
    request = Request(experiments=(experiment,), points=({},), parallel=None)
    order = Order(request=request, profile=LocalProfile(executor="local"), runs=runs, parameters=[1])
    return make_runs(order, now=NOW, made=[]).runs[0]


def trained(run: RunDir) -> RunDir:
    train(run, attempt=1, ranks=Ranks(), stop=StopFlag())
    return run


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, RunDir, RunDir]:
    """A network, one fine-tuned from it, and one from that; each parent is deleted once its child is submitted."""
    root = tmp_path_factory.mktemp("lineage")
    base = create_run(root, "base", "one", dump_resolved(tiny_spec(store, steps=3)))
    write_manifest(base, {})
    trained(base)
    child = submitted(root, tiny_spec(store, steps=4, init=str(base.path), lora={"rank": 2}))
    backup = root / "backup"
    shutil.move(base.path, backup)
    trained(child)
    shutil.move(backup, base.path)
    grandchild = submitted(root, tiny_spec(store, steps=2, init=str(child.path), freeze=["embedding.*"]))
    return base, child, trained(grandchild)


def test_the_manifest_names_the_parent_and_its_data(runs: tuple[RunDir, RunDir, RunDir], store: Path) -> None:
    base, child, grandchild = runs
    path = newest_whole(base.checkpoints)
    assert path is not None
    parent = read_manifest(child)["parent"]
    assert parent == {
        "run": "base/one",
        "step": 3,
        "sha256": json.loads(path.with_suffix(".json").read_text())["sha256"],
        "weights": "ema",
        "data_hash": json.loads((store / "manifest.json").read_text())["content_hash"],
        "parent": None,
    }
    assert read_lineage(child) == parent
    lineage = read_lineage(grandchild)
    assert lineage is not None
    assert lineage["run"] == f"tiny/{child.id}"
    assert lineage["parent"] == parent


def test_merged_adapters_are_where_the_next_fine_tuning_starts(runs: tuple[RunDir, RunDir, RunDir]) -> None:
    _, child, grandchild = runs
    before, after = read_metrics(child.metrics)[-1], read_metrics(grandchild.metrics)[0]
    assert after["parent_validation_bound"] == before["validation_bound"]


def test_status_and_report_tell_parents_and_what_is_forgotten(runs: tuple[RunDir, RunDir, RunDir]) -> None:
    _, child, grandchild = runs
    seen = inspect(Gatherer().gather([grandchild], now=NOW).runs[0], now=NOW)
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115 # of a test
    console.print(detail_view(seen, width=200))
    text, page = console.export_text(), render_report(seen, read_documents(grandchild))
    rows = read_metrics(grandchild.metrics)
    was, now = (row["parent_validation_bound"] for row in (rows[0], rows[-1]))
    assert f"tiny/{child.id}, step 4, EMA weights; that from base/one, step 3, EMA weights" in text
    assert f"{was:.4f} → {now:.4f} nats, step 0 → 2" in text
    for words in ("Fine-tuned from", f"tiny/{child.id}", "base/one", f"{now:.4f} at step 2"):
        assert words in page


def test_exports_name_their_ancestors_and_adapters_go_alone(
    runs: tuple[RunDir, RunDir, RunDir], tmp_path: Path
) -> None:
    base, child, grandchild = runs

    def export(*arguments: str) -> None:
        done = CliRunner().invoke(build_app(["export"]), ["export", *arguments])
        assert done.exit_code == 0, done.output

    export(str(grandchild.path), "-o", str(tmp_path / "plain"))
    export(str(grandchild.path), "-o", str(tmp_path / "hf"), "--format", "hf")
    export(str(child.path), "-o", str(tmp_path / "alone"), "--adapters")
    lineage = read_lineage(grandchild)
    assert json.loads((tmp_path / "plain" / "config.json").read_text())["parent"] == lineage
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["fine_tuned_from"] == lineage
    for folder in ("plain", "hf"):
        card = (tmp_path / folder / "README.md").read_text()
        assert f"| fine-tuned from | tiny/{child.id}, step 4" in card
        assert "base/one, step 3" in card
        assert str(base.path.parent) not in card + (tmp_path / folder / "config.json").read_text()
    alone = json.loads((tmp_path / "alone" / "adapters.json").read_text())
    assert (alone["rank"], alone["parent"]["run"]) == (2, "base/one")


def test_adapters_alone_load_as_the_network_that_they_were_exported_from_where_their_base_is_found(
    runs: tuple[RunDir, RunDir, RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its run's name, or as `base` beside them; another network is refused by its hash, none in one line."""
    base, child, grandchild = runs
    alone, plain = tmp_path / "alone", tmp_path / "plain"
    for arguments in ((str(child.path), "-o", str(alone), "--adapters"), (str(base.path), "-o", str(plain))):
        done = CliRunner().invoke(build_app(["export"]), ["export", *arguments])
        assert done.exit_code == 0, done.output
    assert str(base.path.parent) not in (alone / "adapters.json").read_text()
    newest = newest_whole(child.checkpoints)
    assert newest is not None
    cpu = torch.device("cpu")
    wanted = load_trained(newest, cpu).model.state_dict()

    def require_same() -> None:
        found = find_trained(str(alone), tmp_path, notify=print)
        loaded = load_trained(found, cpu)
        assert (loaded.run, loaded.step) == (f"tiny/{child.id}", 4)
        assert all(torch.equal(loaded.model.state_dict()[name], each) for name, each in wanted.items())

    monkeypatch.setenv("SEDD_RUNS", str(base.path.parent.parent))
    require_same()
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="their base is not there: base/one, step 3"):
        find_trained(str(alone), tmp_path, notify=print)
    pruned = tmp_path / "pruned"
    (pruned / "base" / "one" / "checkpoints").mkdir(parents=True)
    monkeypatch.setenv("SEDD_RUNS", str(pruned))
    with pytest.raises(CheckpointError, match="its run keeps that step no longer") as gone:
        find_trained(str(alone), tmp_path, notify=print)
    assert "without --adapters" in str(gone.value.hint)
    again = ["export", str(child.path), "-o", str(alone), "--adapters", "--force"]
    assert "they cannot be used without it" in CliRunner().invoke(build_app(["export"]), again).output
    for network in (plain, newest_whole(base.checkpoints)):
        (alone / "base").unlink(missing_ok=True)
        (alone / "base").symlink_to(str(network))
        require_same()
    (alone / "base").unlink()
    (alone / "base").symlink_to(str(newest_whole(grandchild.checkpoints)))
    with pytest.raises(CheckpointError, match="is not the network that the adapters"):
        load_trained(alone, cpu)
