"""What a run of a plan is made from: a folder that names networks changes with what it names."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.experiments.inputs import content_of, inputs_of
from sedd.spec.inference import EvaluateTask


def run(folder: Path, *, sweep: str | None = None, step: int = 100) -> Path:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text("name: base\n")
    (folder / "manifest.json").write_text(json.dumps({"spec_hash": "0", "sweep": sweep}))
    (folder / f"checkpoints/step-{step:08}.json").touch()
    return folder


def adapters(folder: Path, *, step: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapters.json").write_text(json.dumps({"run": "family/one", "step": step}))
    (folder / "adapters.safetensors").touch()
    return folder


def seen_in(network: Path) -> str:
    content_of.cache_clear()
    task = EvaluateTask.model_validate(
        {
            "name": "e",
            "task": "evaluate",
            "evaluate": {"network": str(network), "fasta": ["/nowhere/p.fasta"]},
        }
    )
    return inputs_of(task, needs={}, made=()).data[str(network)]


def a_new_run_of_the_name(folder: Path) -> None:
    run(folder / "base" / "20261202-100000-aaaa1111")


def a_new_sweep_of_the_name(folder: Path) -> None:
    for point in (1, 2):
        run(folder / "base" / f"20261203-10000{point}-aaaa1111", sweep="sweep-3")


def a_later_checkpoint(folder: Path) -> None:
    run(folder / "base" / "20261201-100000-aaaa1111", step=200)


@pytest.mark.parametrize("change", [a_new_run_of_the_name, a_new_sweep_of_the_name, a_later_checkpoint])
def test_a_name_is_another_input_once_it_names_another_network(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    run(tmp_path / "base" / "20261130-100000-aaaa1111")
    run(tmp_path / "base" / "20261201-100000-aaaa1111")
    before = seen_in(tmp_path / "base")
    assert seen_in(tmp_path / "base") == before
    run(tmp_path / "base" / "20261130-100000-aaaa1111", step=300)
    assert seen_in(tmp_path / "base") == before, "the newest run alone is meant"
    change(tmp_path)
    assert seen_in(tmp_path / "base") != before


def test_a_sweep_is_another_input_once_one_of_its_points_has_trained_on(tmp_path: Path) -> None:
    sweep = tmp_path / "base" / "sweep-20261201"
    sweep.mkdir(parents=True)
    points = [run(sweep.parent / f"20261201-10000{n}-aaaa1111", sweep=sweep.name) for n in range(2)]
    for named, step in ((sweep.parent, 200), (sweep, 300)):
        before = seen_in(named)
        run(points[0], sweep=sweep.name, step=step)
        assert seen_in(named) != before


def test_adapters_that_were_exported_anew_are_another_input(tmp_path: Path) -> None:
    before = seen_in(adapters(tmp_path / "adapters", step=100))
    assert seen_in(adapters(tmp_path / "adapters", step=200)) != before
