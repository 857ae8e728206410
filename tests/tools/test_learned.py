"""tools/learned.py: the quickstart's last table, and what it says of a run that has nothing to show."""

import importlib.util
import json
from pathlib import Path

import pytest

from sedd.data.build import build_store
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.spec.build import BuildOptions
from tests.data.proteins import made_up_proteins, write_fasta

SCRIPT = Path(__file__).parents[2] / "tools" / "learned.py"
_spec = importlib.util.spec_from_file_location("tools_learned", SCRIPT)
learned = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(learned)


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> RunDir:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "my runs"))
    run = create_run(tmp_path / "my runs", "toy", "20261122-100000-aaaa1111", "x")
    write_manifest(run, {"name": "toy"})
    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    build_store(
        [write_fasta(tmp_path / "a.fasta", made_up_proteins(60))],
        store,
        BuildOptions(validation_fraction=0.5),
    )
    return store


@pytest.mark.parametrize(
    ("bound", "verdict"), [(1.0, "below: it has learnt more"), (9.0, "not below it yet")]
)
def test_the_last_bound_is_compared(run: RunDir, store: Path, capsys, bound: float, verdict: str):
    rows = [{"step": 1, "validation_bound": 5.0}, {"step": 2, "validation_bound": bound}, {"step": 3}]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert learned.main([run.id, str(store)]) == 0
    told = capsys.readouterr().out
    assert f"validation bound    {bound:.4f} nats" in told
    assert verdict in told


def test_a_run_that_was_not_validated_is_one_line(run: RunDir, store: Path, capsys):
    assert learned.main([run.id, str(store)]) == 1
    said = capsys.readouterr().err
    assert said == f"error: run toy/{run.id} has not been validated yet\nhint: sedd status {run.id}\n"


@pytest.mark.parametrize("arguments", [[], ["toy"], ["no-such-run", "store"]])
def test_bad_usage_is_two(run: RunDir, capsys, arguments: list[str]):
    assert learned.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
