"""`sedd compare`, `sedd usage` and the best point of `sedd status SWEEP`, as processes."""

import json
from pathlib import Path

import pytest

from sedd.errors import UsageError
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
