"""`sedd compare`, `sedd usage` and the best point of `sedd status SWEEP`, as processes."""

import json
from pathlib import Path

import pytest

from sedd.errors import UsageError
from sedd.rundir.layout import create_run, write_manifest
from sedd.spec.inference import EvaluateTask
from sedd.spec.load import dump_resolved
from tests.command_line import call, sedd
from tests.experiments.runs import make_run

SWEEP = "sweep-20261101-080000-abc"


def test_a_sweep_is_ranked_and_its_best_point_named(tmp_path: Path) -> None:
    for number, (rate, excess) in enumerate([(1e-3, 0.0), (3e-4, 0.1), (1e-4, 0.2)]):
        make_run(tmp_path, number, learning_rate=rate, excess=excess, sweep=SWEEP)
    (tmp_path / "tiny" / SWEEP).mkdir()
    page, table = tmp_path / "a page.html", tmp_path / "t.csv"
    done = sedd("compare", "tiny", "--html", page, "--csv", table, runs=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (0, 2), done.stderr
    assert "learning_rate=0.001" in done.stdout.splitlines()[1]
    assert "<svg" in page.read_text()
    assert table.read_text().count("\n") == 4
    document = json.loads(sedd("status", SWEEP, "--json", runs=tmp_path).stdout)
    assert document["best"]["is_sure"] is True
    shown = sedd("status", SWEEP, runs=tmp_path).stdout
    assert "best: learning_rate=0.001" in shown
    assert "sure: better than all 2 others" in shown
    whole = json.loads(sedd("usage", "--json", runs=tmp_path).stdout)
    assert whole["total"]["gpu_hours"] == pytest.approx(48.0)
    assert sedd("usage", "--since", "2026-11-02", runs=tmp_path).stdout == ""


def test_a_run_that_is_named_twice_counts_once_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    first, second = (make_run(runs, number, seed=number) for number in range(2))
    (tmp_path / "link").symlink_to(runs)
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "link"))
    monkeypatch.chdir(runs)
    thrice = (first.id, first.path, f"../runs/tiny/{first.id}")
    call("compare", *thrice, second.id, "--against", second.path, "--csv", "-")
    assert capsys.readouterr().out.count("\n") == 3, "the heading and two runs"
    call("usage", *thrice, "--json")
    assert json.loads(capsys.readouterr().out)["total"]["runs"] == 1
    call("status", *thrice, "--json")
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 1
    with pytest.raises(UsageError, match=f"{first.id} and {first.path} are the same run"):
        call("compare", first.id, first.path)


def test_against_an_evaluation_is_against_the_training_that_it_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not against the best, as if it had not been asked."""
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path))
    trainings = [make_run(tmp_path, number, learning_rate=1e-3 + number) for number in range(3)]
    evaluations = []
    for number, training in enumerate(trainings):
        task = {"network": str(training.path), "fasta": ["/nowhere/p.fasta"]}
        spec = EvaluateTask.model_validate({"name": "e", "task": "evaluate", "evaluate": task})
        run = create_run(tmp_path, "e", f"20261102-08000{number}-{number:08x}", dump_resolved(spec))
        write_manifest(run, {"task": "evaluate", "spec_hash": "0", "executor": "local"})
        document = {"nats_per_residue": 2.5 + number, "standard_error": 0.001, "residues": 5000}
        run.evaluation.write_text(json.dumps(document))
        evaluations.append(run)
    ids = [run.id for run in (*trainings, *evaluations)]
    call("compare", *ids, "--sort", "evaluation", "--against", evaluations[1].id, "--json")
    document = json.loads(capsys.readouterr().out)
    assert [group["runs"][0]["id"] for group in document["groups"]] == ids[:3]
    assert document["reference"] == 2


def test_a_name_that_several_runs_have_means_all_of_them(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, number, learning_rate=rate) for number, rate in enumerate([1e-3, 3e-4])]
    for typed in ("tiny", "tiny/", tmp_path / "tiny"):
        done = sedd("compare", typed, "--csv", "-", runs=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "note: 2 runs are called tiny: all are compared" in done.stderr
        assert all(run.id in done.stdout for run in runs)
    assert "single run" in sedd("compare", runs[0].id, runs=tmp_path).stderr


def test_without_a_folder_of_runs_it_is_told_where_they_are_looked_for(tmp_path: Path) -> None:
    for command in ("status", "usage"):
        done = sedd(command, cwd=tmp_path)
        assert done.returncode == 0
        assert "looked for in ./runs of the current folder, which does not exist" in done.stderr
        assert "$SEDD_RUNS" in done.stderr
        (tmp_path / "runs").mkdir()
        assert "looked for" not in sedd(command, cwd=tmp_path).stderr
        (tmp_path / "runs").rmdir()
    unknown = sedd("status", "small", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "status --all" not in unknown.stderr


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path))
    run = make_run(tmp_path, 0)
    for arguments, words in [
        (("compare", run.id), "single run"),
        (("compare", run.id, "--sort", "speed"), "--sort is 'speed'"),
        (("compare", run.id, "--csv", "t.txt"), r"cannot write t\.txt: its name must end in \.csv"),
        (("compare", run.id, "--html", "t.csv"), r"cannot write t\.csv: its name must end in \.html"),
        (("usage", "--since", "soon"), "neither a duration nor a date"),
        (("usage", "--until", "2020-01-01", "--since", "1d"), "is not after"),
    ]:
        with pytest.raises(UsageError, match=words):
            call(*arguments)
