"""The spec of a plan: its stages, what they need, and the values that they ask of each other."""

from pathlib import Path

import pytest

from sedd.errors import SpecError
from sedd.spec.plan import StageSource, is_plan, load_plan

TRAIN = """
      data: {store: p.store}
      training: {steps: 4, residues_per_step: 256, residues_per_gpu: 256}
"""
EVALUATE = "{task: evaluate, evaluate: {network: '${train.run}', fasta: [p.fasta]}}"


def written(folder: Path, text: str, name: str = "plan.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def stages(folder: Path, text: str) -> dict[str, StageSource]:
    return dict(load_plan(written(folder, f"name: tiny-plan\nstages:\n{text}")).stages)


def test_a_plan_is_told_from_a_spec_by_its_stages(tmp_path: Path):
    assert is_plan(written(tmp_path, "name: a\nstages: {}\n"))
    assert not is_plan(written(tmp_path, "name: a\ntask: data\n"))


def test_needs_are_a_list_or_say_how_to_wait(tmp_path: Path):
    found = stages(
        tmp_path,
        f"  a:\n    spec:{TRAIN}"
        f"  b:\n    needs: [a]\n    spec:{TRAIN}"
        f"  c:\n    needs: {{a: afterany, b: on_failure}}\n    spec:{TRAIN}"
        f"  d:\n    each: a\n    spec:{TRAIN}",
    )
    assert {name: dict(stage.waits) for name, stage in found.items()} == {
        "a": {},
        "b": {"a": "afterok"},
        "c": {"a": "afterany", "b": "on_failure"},
        "d": {"a": "afterok"},
    }


def test_values_are_filled_in_and_paths_are_those_of_the_file(tmp_path: Path):
    evaluate = stages(
        tmp_path, f"  evaluate:\n    needs: [train]\n    spec: {EVALUATE}\n  train:\n    spec:{TRAIN}"
    )["evaluate"]
    (reference,) = evaluate.references()
    assert (reference.stage, reference.what) == ("train", "run")
    assert reference.where.endswith("plan.yaml:5")
    (task,) = evaluate.resolve(lambda stage, what: f"/runs/{stage}/{what}").experiments
    assert task.name == "tiny-plan-evaluate"
    assert task.evaluate.network == Path("/runs/train/run")  # type: ignore[attr-defined]
    assert task.evaluate.fasta == (tmp_path / "p.fasta",)  # type: ignore[attr-defined]


def test_a_spec_file_keeps_its_own_folder_and_set_that_of_the_plan(tmp_path: Path):
    (tmp_path / "specs").mkdir()
    written(
        tmp_path / "specs",
        "name: e\ntask: evaluate\nevaluate:\n  network: ../old\n  fasta: [p.fasta]\n",
        "e.yaml",
    )
    text = "  e:\n    spec: specs/e.yaml\n    set: {evaluate.network: nets/one, evaluate.draws: 4}\n"
    source = stages(tmp_path, text)["e"]
    assert source.references() == ()
    (task,) = source.resolve(lambda stage, what: "").experiments
    assert task.evaluate.network == tmp_path / "nets/one"  # type: ignore[attr-defined]
    assert task.evaluate.fasta == (tmp_path / "specs/p.fasta",)  # type: ignore[attr-defined]
    assert task.evaluate.draws == 4  # type: ignore[attr-defined]


def test_what_set_replaces_asks_for_nothing(tmp_path: Path):
    text = f"  e:\n    set: {{evaluate.network: net}}\n    spec: {EVALUATE}\n"
    assert stages(tmp_path, text)["e"].references() == ()


def test_an_environment_variable_is_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLACE", "/here")
    text = "  e:\n    spec: {task: evaluate, evaluate: {network: '${PLACE}/net', fasta: [p.fasta]}}\n"
    source = stages(tmp_path, text)["e"]
    assert source.references() == ()
    (task,) = source.resolve(lambda stage, what: "").experiments
    assert task.evaluate.network == Path("/here/net")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("  a:\n    needs: [a]\n    spec: {}\n", "stages.a needs itself"),
        ("  a:\n    spec: nowhere.yaml\n", "nowhere.yaml: no such file"),
        ("  a:\n    need: [b]\n    spec: {}\n", "unknown field 'stages.a.need'"),
        ("  a:\n    spec: {}\n  a:\n    spec: {}\n", "'a' is given twice"),
        ("  a:\n    needs: {b: later}\n    spec: {}\n", "stages.a.needs.b"),
        ("  {}\n", "stages"),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused(tmp_path: Path, text: str, told: str):
    with pytest.raises(SpecError, match=r"plan\.yaml") as refusal:
        stages(tmp_path, text)
    assert told in refusal.value.message
