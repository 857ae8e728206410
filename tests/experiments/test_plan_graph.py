"""A plan's stages in order, and every mistake in one line with its place."""

from pathlib import Path

import pytest

from sedd.errors import SpecError
from sedd.experiments.plan_graph import Graph, build_graph
from sedd.spec.plan import load_plan

TRAIN = "{data: {store: p.store}, training: {steps: 4, residues_per_step: 256, residues_per_gpu: 256}}"
SWEPT = TRAIN.replace("{data", "{sweep: {grid: {seed: [0, 1, 2]}}, data", 1)
DATA = "{task: data, build: {inputs: [p.fasta], store: p.store}}"


def evaluate(network: str) -> str:
    return f"{{task: evaluate, evaluate: {{network: '{network}', fasta: [p.fasta]}}}}"


def graph(folder: Path, *stages: str, name: str = "tiny-plan") -> Graph:
    (folder / "plan.yaml").write_text("\n".join([f"name: {name}", "stages:", *stages, ""]))
    return build_graph(load_plan(folder / "plan.yaml"))


def test_a_stage_comes_behind_all_that_it_needs(tmp_path: Path):
    found = graph(
        tmp_path,
        f"  e: {{needs: [t, d], spec: {evaluate('${t.run}')}}}",
        f"  t: {{needs: [d], spec: {TRAIN}}}",
        f"  d: {{spec: {DATA}}}",
    )
    assert list(found.stages) == ["d", "t", "e"]
    assert [stage.size for stage in found.stages.values()] == [1, 1, 1]


def test_points_are_fed_point_by_point_along_their_axis_and_joined_elsewhere(tmp_path: Path):
    found = graph(
        tmp_path,
        f"  t: {{spec: {SWEPT}}}",
        f"  e: {{each: t, spec: {evaluate('${t.run}')}}}",
        f"  f: {{each: e, needs: [t], spec: {evaluate('${t.run}')}}}",
        f"  j: {{needs: [e, t], spec: {evaluate('${t.best}')}}}",
    )
    stages = found.stages
    assert {name: (stage.axis, stage.size) for name, stage in stages.items()} == {
        "t": ("t", 3),
        "e": ("t", 3),
        "f": ("t", 3),
        "j": (None, 1),
    }
    assert found.feeds_by_point(stages["e"], "t")
    assert found.feeds_by_point(stages["f"], "e")
    assert found.feeds_by_point(stages["f"], "t")
    assert not found.feeds_by_point(stages["j"], "e")


@pytest.mark.parametrize(
    ("stages", "line", "told"),
    [
        ([f"  a: {{needs: [b], spec: {TRAIN}}}", f"  b: {{needs: [c], spec: {TRAIN}}}",
          f"  c: {{needs: [a], spec: {TRAIN}}}"], 3, "stages wait for each other: a needs b needs c needs a"),
        ([f"  train: {{spec: {TRAIN}}}", f"  e: {{needs: [trainn], spec: {evaluate('net')}}}"], 4,
         "stages.e.needs: there is no stage 'trainn' (did you mean 'train'?)"),
        ([f"  train: {{spec: {TRAIN}}}", f"  e: {{each: trainn, spec: {evaluate('net')}}}"], 4,
         "stages.e.each: there is no stage 'trainn' (did you mean 'train'?)"),
        ([f"  train: {{spec: {TRAIN}}}", f"  e: {{needs: [train], spec: {evaluate('${trainn.run}')}}}"], 4,
         "${trainn.run}: there is no stage 'trainn' (did you mean 'train'?)"),
        ([f"  train: {{spec: {TRAIN}}}", f"  e: {{spec: {evaluate('${train.run}')}}}"], 4,
         "${train.run}: stages.e does not need 'train' (add it to needs)"),
        ([f"  train: {{spec: {TRAIN}}}", f"  e: {{needs: [train], spec: {evaluate('${train.bset}')}}}"], 4,
         "${train.bset}: a stage with task train has run, best (did you mean 'best'?)"),
        ([f"  d: {{spec: {DATA}}}", f"  e: {{needs: [d], spec: {evaluate('${d.best}')}}}"], 4,
         "${d.best}: a stage with task data has run, store"),
        ([f"  t: {{spec: {SWEPT}}}", f"  e: {{needs: [t], spec: {evaluate('${t.run}')}}}"], 4,
         "${t.run} is ambiguous: stage 't' has several runs (write `each: t` or ${t.best})"),
        ([f"  t: {{spec: {TRAIN}}}", f"  e: {{each: t, spec: {evaluate('${t.run}')}}}"], 4,
         "stages.e.each: stage 't' is one run (write it into needs)"),
        ([f"  t: {{spec: {SWEPT}}}", f"  e: {{each: t, spec: {SWEPT}}}"], 4,
         "stages.e has a sweep of its own, and a run for each of t"),
        ([f"  t: {{spec: {TRAIN}}}", "  e: {needs: [t], spec: {task: evaluate, evaluate: {network: net}}}"], 4,
         "'evaluate.fasta' is missing"),
        ([f"  t: {{set: {{name: tiny-plan}}, spec: {TRAIN}}}"], 1,
         "name: 'tiny-plan' names the runs of stage 't', too"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, stages: list[str], line: int, told: str):
    with pytest.raises(SpecError) as refusal:
        graph(tmp_path, *stages)
    assert refusal.value.message == f"{tmp_path / 'plan.yaml'}:{line}: {told}"
    assert refusal.value.exit_code == 2


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    with pytest.raises(SpecError) as refusal:
        graph(tmp_path, f"  a: {{needs: [u], spec: {TRAIN}}}", f"  b: {{needs: [v, w], spec: {TRAIN}}}")
    assert len(refusal.value.message.splitlines()) == 3


def test_mistakes_in_the_specs_of_stages_are_told_in_the_order_of_the_lines(tmp_path: Path):
    wrong = TRAIN.replace("steps: 4", "stps: 4")
    stages = [f"  a: {{needs: [c], spec: {wrong}}}", f"  b: {{spec: {wrong}}}", f"  c: {{spec: {wrong}}}"]
    with pytest.raises(SpecError) as refusal:
        graph(tmp_path, *stages)
    places = [line.split(": ")[0] for line in refusal.value.message.splitlines()]
    assert list(dict.fromkeys(places)) == [f"{tmp_path / 'plan.yaml'}:{n}" for n in (3, 4, 5)]
