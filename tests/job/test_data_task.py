"""`task: data`: a token store built as a job, that can be stopped, revived and cancelled as a training can."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.data.store import TokenStore
from sedd.errors import DataError, MisfitError
from sedd.job.tasks import build_store
from sedd.launch.make_runs import make_runs
from sedd.rundir.events import read_events
from sedd.rundir.exits import Exit
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.build import DataTask
from sedd.training.stop import StopFlag
from tests.launch.conftest import order_for
from tests.launch.test_submit import NOW
from tests.tiny import PROTEINS


def start(run: RunDir, *, attempt: int = 1) -> subprocess.Popen[str]:
    environment = os.environ | {"SEDD_ATTEMPT": str(attempt), "PYTHONPATH": str(run.code)}
    return subprocess.Popen(
        [sys.executable, "-m", "sedd.job.worker", str(run.path)],
        env=environment | {"PYTHONSAFEPATH": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def make(tmp_path: Path):
    def make(source: Path) -> RunDir:
        task = DataTask.model_validate(
            {
                "name": "build",
                "task": "data",
                "build": {"inputs": [str(source)], "store": str(tmp_path / "made.store"), "min_length": 30},
            }
        )
        return make_runs(order_for(task, runs=tmp_path / "runs"), now=NOW, made=[]).runs[0]

    return make


def test_a_data_task_builds_its_store_and_says_how_far_it_is(make, tmp_path: Path):
    run = make(PROTEINS)
    assert read_manifest(run)["task"] == "data"
    process = start(run)
    _, said = process.communicate(timeout=300)
    assert process.returncode == Exit.COMPLETED, said
    assert TokenStore.open(tmp_path / "made.store").manifest.options["min_length"] == 30
    beat = read_heartbeat(run.heartbeat)
    assert beat is not None
    size = PROTEINS.stat().st_size
    assert (beat.phase, beat.step, beat.steps, beat.unit) == ("done", size, size, "bytes")


class AfterAWhile(StopFlag):
    """A flag that a signal sets while the input is being read."""

    def __init__(self, reads: int) -> None:
        super().__init__()
        self._left = reads

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_second_attempt_after_a_stop_builds_what_the_first_would_have(make, tmp_path: Path):
    source = tmp_path / "proteins.fasta"
    source.write_bytes(gzip.decompress(PROTEINS.read_bytes()))
    run = make(source)
    shutil.rmtree(run.code)  # this process runs the code of the tests
    assert build_store(run, 1, AfterAWhile(reads=2)) is Exit.STOPPED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["proteins.fasta", "runs"], (
        "nothing half-built"
    )
    beat = read_heartbeat(run.heartbeat)
    assert beat is not None
    assert 0 < beat.step < beat.steps
    assert build_store(run, 2, StopFlag()) is Exit.COMPLETED
    assert TokenStore.open(tmp_path / "made.store").manifest.tally["records"] == 2000


def test_bad_input_ends_the_attempt_with_one_line(make, tmp_path: Path):
    source = tmp_path / "bad.fasta"
    source.write_text("not FASTA\n")
    run = make(source)
    process = start(run)
    _, said = process.communicate(timeout=300)
    assert process.returncode == Exit.MISFIT, "another attempt would find the same"
    assert said.splitlines() == [
        f"error: {source} is not FASTA: it starts with 'not FASTA' instead of a '>' line"
    ]
    assert [event.get("error") for event in read_events(run.events) if event.event == "failed"] == [
        said.strip().removeprefix("error: ")
    ]


@pytest.mark.parametrize("cause", [None, OSError("the disk fails")])
def test_only_what_any_attempt_would_meet_is_a_misfit(make, monkeypatch, cause):
    run = make(PROTEINS)
    shutil.rmtree(run.code)  # this process runs the code of the tests

    def fail(*arguments: object, **options: object) -> None:
        raise DataError("labels.tsv cannot be read") from cause

    monkeypatch.setattr("sedd.data.build.build_store", fail)
    with pytest.raises(DataError) as caught:
        build_store(run, 1, StopFlag())
    assert isinstance(caught.value, MisfitError) == (cause is None)


def test_a_store_in_the_way_is_told_with_the_key_of_the_spec(make, tmp_path: Path):
    """Its user has typed neither --force nor -o."""
    source = tmp_path / "proteins.fasta"
    for number, residue in enumerate("GA", start=1):
        source.write_text("".join(f">p{n}\n{'MKTAYIAK' * (4 + n)}{residue}\n" for n in range(20)))
        run = make(source)
        shutil.rmtree(run.code)  # this process runs the code of the tests
        if number == 1:
            assert build_store(run, 1, StopFlag()) is Exit.COMPLETED
    with pytest.raises(DataError, match="already exists, built from other input") as caught:
        build_store(run, 1, StopFlag())
    assert caught.value.hint == "name another build.store, or remove what is there"


def test_what_the_node_preflight_refuses_is_told_with_its_hint(make, tmp_path: Path):
    run = make(PROTEINS)
    shutil.rmtree(run.code)  # this process runs the code of the tests
    (tmp_path / "made.store").mkdir()
    with pytest.raises(MisfitError, match="not a token store") as caught:
        build_store(run, 1, StopFlag())
    assert caught.value.hint == "name another build.store, or remove what is there"
