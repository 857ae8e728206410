"""What counts as a trained network, as it lies on the disk."""

import json
from pathlib import Path

import pytest

from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks.trained_network import gather, judge
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Status, Verdict
from sedd.rundir.layout import create_run
from sedd.spec.inference import EvaluateTask, SampleTask, ScoreSpec, ScoreTask
from sedd.spec.task import TaskSpec
from tests.inference.networks import write_small_checkpoint

EXPORTED = ("config.json", "model.safetensors")


def judged(task: TaskSpec, folder: Path) -> Verdict:
    """What the check says of a task on the login node, whose runs lie in `folder`."""
    context = CheckContext(
        side=Side.LOGIN, experiment=task, profile=LocalProfile(executor="local"), folder=folder, environ={}
    )
    return judge(gather(context))


@pytest.fixture
def look(tmp_path: Path):
    (tmp_path / "a.fasta").write_text(">a\nMK\n")

    def look(network: Path, fasta: str = "a.fasta", **more: object):
        asked = {"network": network, "fasta": [tmp_path / fasta], **more}
        task = EvaluateTask.model_validate({"name": "e", "task": "evaluate", "evaluate": asked})
        return judged(task, tmp_path)

    return look


def test_a_run_needs_a_whole_checkpoint(look, tmp_path: Path):
    run = create_run(tmp_path, "small", "20261122-100000-aaaa1111", "x")
    run.manifest.write_text("{}")
    assert look(run.path).status is Status.WARN
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "step-00000005.pt").touch()
    assert look(run.path).status is Status.WARN, "written, but not sealed"
    (run.checkpoints / "step-00000005.json").touch()
    assert look(run.path).status is Status.OK
    assert look(run.path.parent).status is Status.OK, "the newest run of that name"


def test_a_runs_name_is_answered_with_its_path(look, tmp_path: Path):
    run = create_run(tmp_path, "small", "20261122-100000-aaaa1111", "x")
    run.manifest.write_text("{}")
    for written, folder in (("small", run.path.parent), (f"small/{run.id}", run.path)):
        found = look(tmp_path / "jobs" / written)
        assert found.status is Status.FAIL
        assert f"`network: {folder}`" in found.hint
    assert "`network:" not in look(tmp_path / "jobs" / "other").hint


def test_an_export_says_which_file_it_has_lost(look, tmp_path: Path):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.safetensors").touch()
    found = look(tmp_path / "exported")
    assert (found.status, "exported lacks config.json" in found.saw) == (Status.FAIL, True)


def test_checkpoints_and_exports_stand_alone(look, tmp_path: Path):
    (tmp_path / "my.pt").touch()
    assert look(tmp_path / "my.pt").status is Status.OK
    folder = tmp_path / "exported"
    folder.mkdir()
    assert look(folder).status is Status.FAIL
    for name in EXPORTED:
        (folder / name).touch()
    assert look(folder).status is Status.OK


def test_of_a_sweep_it_says_which_run_is_taken_or_why_none_can_be(look, tmp_path: Path):
    points = [create_run(tmp_path, "small", f"20261122-100000-{n}aaa1111", "x") for n in range(2)]
    for run in points:
        run.manifest.write_text('{"sweep": "sweep-1"}')
        for suffix in (".pt", ".json"):
            (run.checkpoints / "step-00000005").with_suffix(suffix).touch()
    early = look(points[0].path.parent)
    assert early.status is Status.WARN, "it is known when one was validated"
    assert "which is the best is not known: none was validated" in early.saw
    for run in points:
        run.events.write_text('{"t": "2026-11-22T10:00:00+00:00", "event": "completed", "attempt": 1}\n')
    assert look(points[0].path.parent).status is Status.FAIL
    points[0].metrics.write_text('{"validation_bound": 2.5}\n')
    verdict = look(points[0].path.parent)
    assert verdict.status is Status.OK
    assert f"the lowest validation bound, small/{points[0].id} (2.5000 nats per residue)" in verdict.saw


def test_a_spec_is_no_network(look, tmp_path: Path):
    (tmp_path / "a.yaml").write_text("name: small")
    verdict = look(tmp_path / "a.yaml")
    assert verdict.status is Status.FAIL
    assert "a.yaml is a spec, not a run" in verdict.saw
    (tmp_path / "my.pt").touch()
    compared = look(tmp_path / "my.pt", against=tmp_path / "a.yaml")
    assert "a.yaml is a spec, not a run" in compared.saw
    missing = look(tmp_path / "my.pt", against=tmp_path / "nothing")
    assert missing.status is Status.FAIL
    assert "nothing is not a run" in missing.saw


@pytest.fixture
def look_at_sampling(tmp_path: Path):
    (tmp_path / "wt.fasta").write_text(">wt\nMKTAYIAK\n")

    def look(graph: str = "absorbing", **wanted: object):
        for name in EXPORTED:
            (tmp_path / name).write_text(json.dumps({"spec": {"diffusion": {"graph": graph}}}))
        task = SampleTask.model_validate(
            {"name": "s", "task": "sample", "sample": {"network": tmp_path, **wanted}}
        )
        return judged(task, tmp_path)

    return look


def test_samplers_that_hide_residues_need_the_graph_that_does(look_at_sampling):
    for wanted in ({"remask": 1.0}, {"order": "margin"}):
        assert look_at_sampling(**wanted).status is Status.OK
        found = look_at_sampling("uniform", **wanted)
        assert found.status is Status.FAIL
        assert f"sample.{next(iter(wanted))} needs the absorbing graph" in found.saw
    assert look_at_sampling("uniform").status is Status.OK


def test_what_samples_cannot_begin_with_is_told_before_the_job_waits(look_at_sampling, tmp_path: Path):
    parent = {"parent": tmp_path / "wt.fasta"}
    assert look_at_sampling(redesign={**parent, "keep": "1-8"}).status is Status.FAIL
    assert "position 9 cannot be kept" in look_at_sampling(redesign={**parent, "keep": "9"}).saw
    assert look_at_sampling(redesign={**parent, "keep": "2-4"}).status is Status.OK
    assert "no free position" in look_at_sampling(template=["MK"]).saw
    gone = look_at_sampling(redesign={"parent": tmp_path / "gone.fasta"})
    assert (gone.status, "gone.fasta does not exist" in gone.saw) == (Status.FAIL, True)


def test_the_graph_of_a_run_is_that_of_its_checkpoint(tmp_path: Path):
    """As text, which the checkpoint holds; an export has it as fields."""
    path = write_small_checkpoint(tmp_path / "small.pt", graph="uniform")
    spec = {"name": "s", "task": "sample", "sample": {"network": path, "order": "margin"}}
    context = CheckContext(
        side=Side.LOGIN,
        experiment=SampleTask.model_validate(spec),
        profile=LocalProfile(executor="local"),
        folder=tmp_path,
        environ={},
    )
    assert "sample.order needs the absorbing graph" in judge(gather(context)).saw


def test_what_is_not_there_fails(look, tmp_path: Path):
    assert look(tmp_path / "nothing").status is Status.FAIL
    (tmp_path / "my.pt").touch()
    found = look(tmp_path / "my.pt", fasta="missing.fasta")
    assert (found.status, "missing.fasta does not exist" in found.saw) == (Status.FAIL, True)


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"ec": "1.1.1.1"}, None),
        ({"ecc": "1.1.1.1"}, "the network has no condition 'ecc': it has ec"),
        ({"ec": "9.9.9.9"}, "which is none of the 1 values that the network has seen"),
    ],
)
def test_a_condition_that_the_network_does_not_know_fails(
    look, tmp_path: Path, condition: dict[str, str], told: str | None
):
    known = {"name": "ec", "kind": "category", "values": ["1.1.1.1"], "mean": 0.0, "std": 1.0}
    for conditions, expected in (([known], told), (None, "it was trained without conditions")):
        for name in EXPORTED:
            (tmp_path / name).write_text(json.dumps({"conditions": conditions}))
        found = look(tmp_path, condition=condition)
        assert found.status is (Status.FAIL if expected else Status.OK)
        assert (expected or "export") in found.saw


def test_a_number_that_the_training_data_does_not_reach_is_a_warning(look, tmp_path: Path):
    known = {"name": "heat", "kind": "number", "values": [], "mean": 50, "std": 30, "low": 20, "high": 80}
    for name in EXPORTED:
        (tmp_path / name).write_text(json.dumps({"conditions": [known]}))
    assert look(tmp_path, condition={"heat": 80}).status is Status.OK
    found = look(tmp_path, condition={"heat": 200})
    assert (found.status, "has seen 20 to 80" in found.saw) == (Status.WARN, True)


@pytest.mark.parametrize(
    ("more", "table", "saw", "hint"),
    [
        ({}, "mutant\nA5G\n", "names A at 5", "score.offset"),
        (
            {"wild_types": []},
            "mutant\nM1A\n",
            "no wild type for this mutant",
            "give it with score.wild_types",
        ),
        ({"measured": "fitness"}, "mutant\nM1A\n", "no column 'fitness'", ""),
        ({}, "mutated_sequence\nMKA\n", "scores substitutions alone", "the method bound"),
    ],
)
def test_mutants_that_no_job_could_score_are_refused_before_the_queue(
    tmp_path: Path, more: dict[str, object], table: str, saw: str, hint: str
):
    """A job waited for its node, and then gave up at the first look into its table."""
    (tmp_path / "a.fasta").write_text(">a\nMK\n")
    (tmp_path / "m.csv").write_text(table)
    write_small_checkpoint(tmp_path / "my.pt")
    asked = {
        "network": tmp_path / "my.pt",
        "wild_types": [tmp_path / "a.fasta"],
        "mutants": tmp_path / "m.csv",
    }
    task = ScoreTask.model_validate({"name": "s", "task": "score", "score": asked | more})
    found = judged(task, tmp_path)
    assert found.status is Status.FAIL
    assert saw in found.saw
    assert hint in found.hint
    assert "--" not in found.hint, "no option of the command line"
    (tmp_path / "m.csv").write_text("mutant,fitness\nM1A,0.5\n")
    well = asked | {"wild_types": [tmp_path / "a.fasta"], "measured": "fitness"}
    assert (
        judged(task.model_copy(update={"score": ScoreSpec.model_validate(well)}), tmp_path).status
        is Status.OK
    )
