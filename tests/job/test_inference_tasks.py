"""`task: evaluate` and `task: sample`: the work of the two commands, as jobs that can be stopped and revived."""

import csv
import datetime as dt
import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sedd.errors import MisfitError
from sedd.inference.export import write_export
from sedd.inference.keep import Arrays, KeptParts
from sedd.inference.work import WORK as BY_NETWORK
from sedd.inference.work import Job
from sedd.job.tasks import WORK
from sedd.launch.make_runs import make_runs
from sedd.launch.requeue import describe_start
from sedd.monitor.decide.inspection import Inspection, inspect
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.read.task_result import find_result
from sedd.monitor.show.sentences import sentence
from sedd.rundir.attempts import Cause, parse_attempts, saved_step
from sedd.rundir.events import append_event, read_events
from sedd.rundir.exits import Exit
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir, create_run, read_manifest
from sedd.spec.load import dump_resolved, load_resolved
from sedd.spec.task import TaskSpec
from sedd.spec.tasks import TASKS
from sedd.training.checkpoint_file import newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.stop import StopFlag
from tests.command_line import sedd_here
from tests.launch.conftest import order_for
from tests.launch.test_submit import NOW
from tests.tiny import tiny_spec, train_process

PROTEINS = ">one\nMKTAYIAKQRQISFVKSHFSRQ\n>two\nMSLNFLDFEQPIAELEAKIDSLTAVSRQ\n"
PARTED = {
    "score": (
        ("sedd.inference.score.PART_VARIANTS", 150),
        60,
        lambda folder: {
            "wild_types": [str(folder / "two.fasta")],
            "methods": ["masked", "orders", "bound"],
            "draws": 2,
        },
    ),
    "evaluate": (
        ("sedd.inference.masked_cost._TOGETHER", 1),
        6,
        lambda folder: {
            "fasta": [str(folder / "two.fasta")],
            "draws": 2,
            "mask_rates": [0.2, 0.5],
            "against": str(folder / "network"),
        },
    ),
    "sample": (
        ("sedd.inference.batch_size._ON_CPU", 64),
        9,
        lambda folder: {"count": 12, "length": [20, 30], "steps": 4, "report": False},
    ),
    "embed": (
        ("sedd.inference.work.PART_PROTEINS", 10),
        2,
        lambda folder: {"fasta": [str(folder / "two.fasta")] * 30, "layers": [0, -1], "pooling": "none"},
    ),
}
"""Tasks that keep finished parts: how to make parts small, when to stop, and what to ask for."""
CPU = {"gpus_per_node": 0, "cpus_per_process": 1}


@pytest.fixture(scope="module")
def network(store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run trained for a few steps, in the folder in which the tasks' own runs will be."""
    spec = tiny_spec(store, steps=4)
    run = create_run(tmp_path_factory.mktemp("runs"), "tiny", "20261122-100000-aaaa1111", dump_resolved(spec))
    run.manifest.write_text("{}")
    assert train_process(run) == 0
    return run


@pytest.fixture
def make(network: RunDir, tmp_path: Path):
    (tmp_path / "two.fasta").write_text(PROTEINS)
    (tmp_path / "network").symlink_to(network.path)

    def make(kind: str, **wanted: object) -> RunDir:
        task: TaskSpec = TASKS[kind].model_validate(
            {"name": kind, "task": kind, "resources": CPU, kind: {"network": str(network.path)} | wanted}
        )
        return make_runs(order_for(task, runs=network.path.parents[1]), now=NOW, made=[]).runs[0]

    yield make
    for kind in TASKS:
        if kind in ("train", "data"):
            continue
        shutil.rmtree(network.path.parents[1] / kind, ignore_errors=True)


def work(run: RunDir) -> None:
    environment = os.environ | {"SEDD_ATTEMPT": "1", "PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "sedd.job.worker", str(run.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == Exit.COMPLETED, done.stderr


def test_a_column_that_is_missing_is_told_before_anything_is_scored(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.csv").write_text("mutant,seen\nM1A,1\n")
    (tmp_path / "wt.fasta").write_text(">wt\nMKTAYIAK\n")
    files = {"wild_types": [str(tmp_path / "wt.fasta")], "mutants": str(tmp_path / "m.csv")}
    run = make("score", measured="sean", **files)
    monkeypatch.setattr(Job, "load", lambda *_: pytest.fail("the network was loaded"))
    with pytest.raises(MisfitError, match="no column 'sean'"):
        BY_NETWORK["score"].do(Job(run, load_resolved(run.spec), lambda done, of: None, print))


@pytest.mark.parametrize(
    ("task", "asked", "error"),
    [
        ("embed", {"fasta": ["two.fasta"], "layers": [9]}, "there is no layer 9"),
        (
            "score",
            {"wild_types": ["wt.fasta"], "mutants": "m.csv"},
            "m.csv:2: 'T1A' names T at 1, the wild type has M there (8 residues from 1 on)\n"
            "hint: score.offset -2 would fit, perhaps by chance: the table names one site\n",
        ),
    ],
)
def test_bad_input_is_not_tried_again(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, asked: dict[str, Any], error: str
) -> None:
    """Another attempt would meet the same; what its user can change are keys of the spec."""
    (tmp_path / "m.csv").write_text("mutant\nT1A\n")
    (tmp_path / "wt.fasta").write_text(">wt\nMQTVYIAK\n")
    monkeypatch.chdir(tmp_path)
    run = make(task, **asked)
    environment = os.environ | {"SEDD_ATTEMPT": "1", "PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "sedd.job.worker", str(run.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == Exit.MISFIT, done.stderr
    assert f"error: {error}" in done.stderr
    assert "Traceback" not in done.stderr


def work_here(run: RunDir) -> None:
    shutil.rmtree(run.code)  # this process runs the code of the tests
    assert WORK[read_manifest(run)["task"]](run, 1, StopFlag()) is Exit.COMPLETED


def by_hand(*arguments: object) -> str:
    done = sedd_here(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_evaluation_finds_what_the_command_finds(make, network: RunDir, tmp_path: Path):
    run = make("evaluate", fasta=[str(tmp_path / "two.fasta")], draws=4, seed=3)
    assert read_manifest(run)["task"] == "evaluate"
    work(run)
    said = by_hand(
        "evaluate", network.path, "--fasta", tmp_path / "two.fasta", "--draws", 4, "--seed", 3, "--json"
    )
    assert json.loads(run.evaluation.read_text()) == json.loads(said)
    found = find_result(run, "evaluate")
    assert found is not None
    assert found.nats_per_residue == json.loads(said)["nats_per_residue"]
    assert found.perplexity == json.loads(said)["perplexity"]
    assert found.standard_error == json.loads(said)["standard_error"]
    rows = list(csv.DictReader((run.path / "per_sequence.csv").open()))
    assert [(row["name"], row["residues"]) for row in rows] == [("one", "22"), ("two", "28")]
    beat = read_heartbeat(run.heartbeat)
    assert beat is not None
    assert (beat.phase, beat.step, beat.steps, beat.unit) == ("done", 2, 2, "proteins")
    assert [event.get("reason") for event in read_events(run.events) if event.event == "checkpoint"] == [
        "last"
    ]


def test_samples_are_those_of_the_command(make, network: RunDir):
    run = make("sample", count=3, length=[20, 30], steps=4, temperature=0.8, report=False)
    work_here(run)
    options = ["-n", 3, "--length", "20-30", "--steps", 4, "--temperature", 0.8]
    assert (run.samples / "samples.fasta").read_text() == by_hand("sample", network.path, *options)
    assert not (run.samples / "report.html").exists()
    beat = read_heartbeat(run.heartbeat)
    assert beat is not None
    assert (beat.phase, beat.step, beat.steps) == ("done", 4, 4)


def test_redesigns_are_those_of_the_command(make, network: RunDir, tmp_path: Path):
    redesign = {"parent": str(tmp_path / "two.fasta"), "noise": 0.4, "keep": 5, "max_mutations": 4}
    run = make("sample", count=2, steps=4, redesign=redesign, report=False, order="margin")
    work_here(run)
    options = ["--parent", tmp_path / "two.fasta", "--noise", 0.4, "--keep", 5, "--max-mutations", 4]
    options += ["-n", 2, "--steps", 4, "--order", "margin", "--table", tmp_path / "by_hand.csv"]
    assert (run.samples / "samples.fasta").read_text() == by_hand("sample", network.path, *options)
    assert (run.samples / "redesigns.csv").read_text() == (tmp_path / "by_hand.csv").read_text()


def test_a_report_lies_beside_the_samples(make):
    pytest.importorskip("parasail", reason="pip install 'protein-sedd[report]'")
    run = make("sample", count=2, length=20, steps=2)
    work_here(run)
    assert "held-out proteins" in (run.samples / "report.html").read_text()


class AtOnce(StopFlag):
    def __bool__(self) -> bool:
        return True


class After(StopFlag):
    """Set from the n-th time on that it is asked."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("kind", PARTED)
def test_an_interrupted_task_leaves_the_same_files_as_one_that_was_not(
    make, tmp_path: Path, monkeypatch, kind: str
):
    """Byte for byte; and what was finished is not done again."""
    constant, times, wanted = PARTED[kind]
    monkeypatch.setattr(*constant)
    undisturbed, run = (make(kind, **wanted(tmp_path)) for _ in range(2))
    for each in (undisturbed, run):
        shutil.rmtree(each.code)  # this process runs the code of the tests
    assert WORK[kind](undisturbed, 1, StopFlag()) is Exit.COMPLETED
    attempts, kept = 0, 0
    while WORK[kind](run, attempts := attempts + 1, After(times)) is Exit.STOPPED:
        parts = sorted(run.parts.glob("part-*"))
        assert len(parts) >= kept
        kept = len(parts)
        assert not results(run)
        assert attempts < 50
    assert attempts > 2
    assert results(run) == results(undisturbed)


@pytest.mark.parametrize("kind", PARTED)
def test_what_a_killed_attempt_has_kept_is_counted_where_the_run_is_shown_and_revived(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """It was called lost, and the next attempt said to start over, while the parts held all of it."""
    constant, times, wanted = PARTED[kind]
    monkeypatch.setattr(*constant)
    monkeypatch.setattr("sedd.job.tasks._RECORD_S", 0.0)
    run = make(kind, **wanted(tmp_path))
    shutil.rmtree(run.code)  # this process runs the code of the tests
    append_event(run.events, "submitted", attempt=0, now=dt.datetime.now(dt.UTC), executor="local")
    start_attempt(run, 1)
    with monkeypatch.context() as patch:
        patch.setattr(StopFlag, "__bool__", dies_after(times))
        with pytest.raises(KilledError):
            WORK[kind](run, 1, StopFlag())
    start_attempt(run, 2)
    assert "continues behind what it has kept: " in describe_start(run)
    kept = saved_step(parse_attempts(read_events(run.events)))
    assert kept > 0
    assert (shown(run).view.step, shown(run).view.checkpoint_step) == (kept, kept), "the bar does not fall"
    assert shown(run).view.ettr
    assert WORK[kind](run, 2, StopFlag()) is Exit.COMPLETED
    killed, second = shown(run).timeline
    assert (killed.cause, killed.first_step, second.first_step) == (Cause.KILLED, 0, kept)
    assert killed.lost == (killed.last_step or 0) - kept
    assert second.last_step == shown(run).view.steps
    told = [sentence(e, unit=shown(run).view.unit) for e in read_events(run.events)]
    assert any(text.startswith("resumed with what was kept: ") for text in told)
    assert told.count("wrote the results") == 1


class KilledError(BaseException):
    """What SIGKILL is to a process: nobody writes anything any more."""


def dies_after(times: int):
    """In place of a stop flag: the process ends without a word when it is asked for the n-th time."""
    left = iter(range(times))

    def ask(self: StopFlag) -> bool:
        if next(left, None) is None:
            raise KilledError
        return False

    return ask


def start_attempt(run: RunDir, number: int) -> None:
    append_event(
        run.events,
        "attempt_started",
        attempt=number,
        now=dt.datetime.now(dt.UTC),
        job_id="1",
        host="n",
        pid=1,
    )


def shown(run: RunDir) -> Inspection:
    now = dt.datetime.now(dt.UTC)
    return inspect(Gatherer(queue=Queue(squeue=lambda users: "")).gather([run], now=now).runs[0], now=now)


def test_parts_of_a_file_that_was_changed_between_two_attempts_are_not_taken(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Names of the new proteins beside hidden states of the old ones would be wrong, and nobody would see it."""
    constant, times, wanted = PARTED["embed"]
    monkeypatch.setattr(*constant)
    run, fresh = (make("embed", **wanted(tmp_path)) for _ in range(2))
    for each in (run, fresh):
        shutil.rmtree(each.code)  # this process runs the code of the tests
    assert WORK["embed"](run, 1, After(times)) is Exit.STOPPED
    kept = len(list(run.parts.glob("part-*-embeddings-*")))
    (tmp_path / "two.fasta").write_text(PROTEINS.replace("MKTAY", "MKTAW"))
    assert WORK["embed"](run, 2, StopFlag()) is Exit.COMPLETED
    assert kept > 0
    assert WORK["embed"](fresh, 1, StopFlag()) is Exit.COMPLETED
    assert results(run) == results(fresh)


def test_parts_of_an_export_that_was_written_anew_between_two_attempts_are_not_taken(
    make, network: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Averaged and raw weights of one step: half of the proteins by these, half by those."""
    constant, times, wanted = PARTED["embed"]
    monkeypatch.setattr(*constant)
    saved, exported = read_checkpoint(newest_whole(network.checkpoints)), tmp_path / "exported"
    write_export(saved, exported)
    run, fresh = (make("embed", **wanted(tmp_path), network=str(exported)) for _ in range(2))
    for each in (run, fresh):
        shutil.rmtree(each.code)  # this process runs the code of the tests
    assert WORK["embed"](run, 1, After(times)) is Exit.STOPPED
    assert list(run.parts.glob("part-*-embeddings-*"))
    write_export(saved, exported, raw=True, force=True)
    assert WORK["embed"](run, 2, StopFlag()) is Exit.COMPLETED
    assert WORK["embed"](fresh, 1, StopFlag()) is Exit.COMPLETED
    assert results(run) == results(fresh)


def results(run: RunDir) -> dict[str, bytes]:
    """What the task is done for, by file."""
    named = ("scores.", "embeddings.", "evaluation.", "per_sequence.")
    files = [path for path in run.path.iterdir() if path.name.startswith(named)]
    files += run.samples.glob("*")
    return {path.name: path.read_bytes() for path in sorted(files)}


@pytest.mark.parametrize("kind", PARTED)
def test_any_number_of_ranks_leaves_the_same_files_and_computes_each_part_once(
    make, tmp_path: Path, monkeypatch, kind: str
):
    constant, _, wanted = PARTED[kind]
    monkeypatch.setattr(*constant)
    written = count_parts(monkeypatch)
    found = []
    for size in (1, 2, 3):
        run = make(kind, **wanted(tmp_path))
        with ThreadPoolExecutor(size) as pool:
            lines = list(pool.map(partial(do_as_rank, run, kind, size), range(size)))
        assert [bool(line) for line in lines] == [True] + [False] * (size - 1)
        found.append(results(run))
        names = [name for rank, name in written if "attempt" not in name]
        assert len(names) == len(set(names)) > 3
        assert len({rank for rank, _ in written}) >= min(size, 2)
        written.clear()
    assert found[0]
    assert found[0] == found[1] == found[2]


def count_parts(monkeypatch) -> list[tuple[int, str]]:
    """Filled with the rank and the name of each part that is computed."""
    written, write = [], KeptParts._write

    def note(self: KeptParts, name: str, number: int, arrays: Arrays) -> None:
        written.append((self.rank, self._path(name, number).name))
        write(self, name, number, arrays)

    monkeypatch.setattr(KeptParts, "_write", note)
    return written


def do_as_rank(run: RunDir, kind: str, size: int, rank: int) -> str:
    ranks = Ranks(rank=rank, size=size, local_rank=rank)
    return BY_NETWORK[kind].do(Job(run, load_resolved(run.spec), lambda done, of: None, print, 1, ranks))


def test_two_processes_share_a_sampling(make, network: RunDir):
    run = make("sample", count=3, length=[20, 30], steps=4, temperature=0.8, report=False)
    with socket.socket() as probe:
        probe.bind(("", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    common = os.environ | meeting | {"SEDD_ATTEMPT": "1", "PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"}
    common |= {"WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "sedd.job.worker", str(run.path)]
    started = [subprocess.Popen(command, env=common | {"RANK": str(n), "LOCAL_RANK": str(n)}) for n in (1, 0)]
    assert [process.wait(timeout=200) for process in started] == [Exit.COMPLETED] * 2
    options = ["-n", 3, "--length", "20-30", "--steps", 4, "--temperature", 0.8]
    assert (run.samples / "samples.fasta").read_text() == by_hand("sample", network.path, *options)
    assert [e.get("reason") for e in read_events(run.events) if e.event == "checkpoint"] == ["last"]


@pytest.mark.parametrize("kind", ["evaluate", "sample", "score", "embed"])
def test_a_stopped_attempt_leaves_no_result_and_the_next_one_starts_afresh(make, tmp_path: Path, kind: str):
    wanted = {
        "evaluate": {"fasta": [str(tmp_path / "two.fasta")], "draws": 2},
        "sample": {"count": 1, "length": 9, "steps": 2, "report": False},
        "embed": {"fasta": [str(tmp_path / "two.fasta")], "format": "npz"},
        "score": {"wild_types": [str(tmp_path / "two.fasta")]},
    }
    run = make(kind, **wanted[kind])
    shutil.rmtree(run.code)  # this process runs the code of the tests
    assert WORK[kind](run, 1, AtOnce()) is Exit.STOPPED
    found = (
        run.evaluation,
        run.samples / "samples.fasta",
        run.table("scores", "csv"),
        run.table("embeddings", "npz"),
    )
    assert not any(path.exists() for path in found)
    assert WORK[kind](run, 2, StopFlag()) is Exit.COMPLETED
    assert any(path.exists() for path in found)
    shown = find_result(run, kind)
    assert shown is not None
    assert shown.file in found


def test_an_attempt_that_fails_early_keeps_the_total_that_an_earlier_one_knew(tmp_path: Path):
    fasta = tmp_path / "two.fasta"
    fasta.write_text(PROTEINS)
    wanted = {"run": ["no-such-program", "{fasta}", "{out}"], "fasta": str(fasta), "column": "x"}
    task = TASKS["command"].model_validate(
        {"name": "fold", "task": "command", "resources": CPU, "command": wanted}
    )
    run = make_runs(order_for(task, runs=tmp_path / "runs"), now=NOW, made=[]).runs[0]
    environment = os.environ | {"PYTHONPATH": str(run.code), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "sedd.job.worker", str(run.path)]

    def seen(attempt: int) -> tuple[int, int, int]:
        subprocess.run(command, env=environment | {"SEDD_ATTEMPT": str(attempt)}, capture_output=True)
        beat = read_heartbeat(run.heartbeat)
        assert beat is not None
        return beat.attempt, beat.step, beat.steps

    assert seen(1) == (1, 0, 2), "known before the program starts"
    fasta.write_text("no FASTA\n")
    assert seen(2) == (2, 0, 2)
