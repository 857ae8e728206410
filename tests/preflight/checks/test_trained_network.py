"""What counts as a trained network, as it lies on the disk."""

from pathlib import Path

import pytest

from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks.trained_network import EXPORTED, gather, judge
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Status
from sedd.rundir.layout import create_run
from sedd.spec.experiment import Experiment
from sedd.spec.inference import EvaluateTask, SampleTask
from sedd.spec.load import dump_resolved


@pytest.fixture
def look(tmp_path: Path):
    (tmp_path / "a.fasta").write_text(">a\nMK\n")

    def look(network: Path, fasta: str = "a.fasta"):
        task = EvaluateTask.model_validate(
            {"name": "e", "task": "evaluate", "evaluate": {"network": network, "fasta": [tmp_path / fasta]}}
        )
        context = CheckContext(
            side=Side.LOGIN,
            experiment=task,
            profile=LocalProfile(executor="local"),
            folder=tmp_path,
            environ={},
        )
        return judge(gather(context))

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


def test_checkpoints_and_exports_stand_alone(look, tmp_path: Path):
    (tmp_path / "my.pt").touch()
    assert look(tmp_path / "my.pt").status is Status.OK
    folder = tmp_path / "exported"
    folder.mkdir()
    assert look(folder).status is Status.FAIL
    for name in EXPORTED:
        (folder / name).touch()
    assert look(folder).status is Status.OK


@pytest.fixture
def look_at_sampling(tmp_path: Path):
    (tmp_path / "wt.fasta").write_text(">wt\nMKTAYIAK\n")
    run = create_run(tmp_path, "small", "20261122-100000-aaaa1111", "x")
    run.manifest.write_text("{}")
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "step-00000005.pt").touch()
    (run.checkpoints / "step-00000005.json").touch()

    def look(graph: str = "absorbing", **wanted: object):
        spec = {
            "name": "small", "data": {"store": "/nowhere"}, "diffusion": {"graph": graph}, "training": {"steps": 4}
        }  # fmt: skip
        run.spec.write_text(dump_resolved(Experiment.model_validate(spec)))
        sample = {"network": run.path, **wanted}
        task = SampleTask.model_validate({"name": "s", "task": "sample", "sample": sample})
        context = CheckContext(
            side=Side.LOGIN,
            experiment=task,
            profile=LocalProfile(executor="local"),
            folder=tmp_path,
            environ={},
        )
        return judge(gather(context))

    return look


def test_samplers_that_need_masks_need_their_graph(look_at_sampling):
    for wanted in ({"remask": 1.0}, {"order": "margin"}):
        assert look_at_sampling(**wanted).status is Status.OK
        found = look_at_sampling("uniform", **wanted)
        assert found.status is Status.FAIL
        assert "need the absorbing graph" in found.saw
    assert look_at_sampling("uniform").status is Status.OK


def test_what_cannot_be_begun_with_is_told_before_the_job_waits(look_at_sampling, tmp_path: Path):
    parent = {"parent": tmp_path / "wt.fasta"}
    assert look_at_sampling(redesign={**parent, "keep": "1-8"}).status is Status.FAIL
    assert "names position 9" in look_at_sampling(redesign={**parent, "keep": "9"}).saw
    assert look_at_sampling(redesign={**parent, "keep": "2-4"}).status is Status.OK
    assert "no free position" in look_at_sampling(template=["MK"]).saw
    gone = look_at_sampling(redesign={"parent": tmp_path / "gone.fasta"})
    assert (gone.status, "gone.fasta does not exist" in gone.saw) == (Status.FAIL, True)


def test_what_is_not_there_fails(look, tmp_path: Path):
    assert look(tmp_path / "nothing").status is Status.FAIL
    (tmp_path / "my.pt").touch()
    found = look(tmp_path / "my.pt", fasta="missing.fasta")
    assert (found.status, "missing.fasta does not exist" in found.saw) == (Status.FAIL, True)
