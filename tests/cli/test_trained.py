"""`sedd train`, `evaluate` and `sample` as a user types them, on a small network of a few steps."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint import newest_whole
from tests.tiny import MAX_LENGTH, tiny_spec

PROTEINS = ">one\nMKTAYIAKQRQISFVKSHFSRQ\n>two\nMSLNFLDFEQPIAELEAKIDSL\nTAVSRQDEKLDINIDEEVHRL\n>three\nmgh\n"


def sedd(*arguments: object, runs: Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sedd", *map(str, arguments)]
    environment = os.environ | {"SEDD_RUNS": str(runs)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A completed run, made by `sedd train` itself, in a folder with a space."""
    folder = tmp_path_factory.mktemp("a user")
    (folder / "tiny.yaml").write_text(dump_resolved(tiny_spec(store, steps=6)))
    done = sedd("train", folder / "tiny.yaml", runs=folder / "my runs")
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(folder / "my runs")
    return run


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    (tmp_path / "three.fasta").write_text(PROTEINS)
    return tmp_path / "three.fasta"


def runs_of(run: RunDir) -> Path:
    return run.path.parents[1]


def test_a_completed_foreground_run_says_so_and_is_not_trained_again(trained: RunDir) -> None:
    assert [e.event for e in read_events(trained.events)][-1] == "completed"
    again = sedd("train", trained.path, runs=runs_of(trained))
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "completed" in again.stderr


def test_ctrl_c_saves_and_the_run_goes_on_where_it_stopped(store: Path, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    spec.write_text(dump_resolved(tiny_spec(store, steps=120)))
    command = [sys.executable, "-m", "sedd", "train", str(spec)]
    process = subprocess.Popen(command, env=os.environ | {"SEDD_RUNS": str(tmp_path)}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(b"step"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    assert process.wait(timeout=60) == 1
    (run,) = list_runs(tmp_path)
    stopped = next(e.get("step") for e in read_events(run.events) if e.event == "stop_requested")
    done = sedd("train", run.path, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [e.get("step") for e in read_events(run.events) if e.event == "resumed"] == [stopped]


def test_two_processes_under_torchrun_share_one_run_folder(store: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_resolved(tiny_spec(store, steps=4)))
    port = str(20000 + time.time_ns() % 10000)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    command += ["-m", "sedd", "train", str(tmp_path / "tiny.yaml")]
    done = subprocess.run(
        command, env=os.environ | {"SEDD_RUNS": str(tmp_path)}, capture_output=True, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode()
    (run,) = list_runs(tmp_path)
    assert "2 rank(s)" in done.stdout.decode()
    assert newest_whole(run.checkpoints) is not None


def test_a_bad_spec_under_torchrun_is_told_by_rank_0_and_is_no_bug_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] - 1
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "sedd", "train", str(tmp_path / "bad.yaml")]
    ranks = [
        subprocess.Popen(command, env=shared | {"RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    (_, first), (_, second) = (process.communicate(timeout=200) for process in ranks)
    assert [process.returncode for process in ranks] == [2, 1]
    assert first.startswith("error: ")
    assert "'training' is missing" in first
    assert "error: rank 0 ended before it made the run folder" in second
    assert "bug" not in second


def test_evaluation_is_the_same_to_the_last_digit_and_adds_up(
    trained: RunDir, fasta: Path, tmp_path: Path
) -> None:
    arguments = [
        "evaluate",
        trained.path,
        "--fasta",
        fasta,
        "--json",
        "--per-sequence",
        tmp_path / "each.csv",
    ]
    first, second = (sedd(*arguments, runs=runs_of(trained)) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    document = json.loads(first.stdout)
    rows = list(csv.DictReader((tmp_path / "each.csv").open()))
    residues = [int(row["residues"]) for row in rows]
    assert (document["sequences"], document["residues"]) == (3, sum(residues)) == (3, 22 + 43 + 3)
    total = sum(float(row["nats_per_residue"]) * n for row, n in zip(rows, residues, strict=True))
    assert document["nats_per_residue"] == pytest.approx(total / sum(residues), rel=1e-9)
    assert (
        2.5 < document["nats_per_residue"] < 4.5
    )  # a network of six steps knows next to nothing: ln 33 = 3.5


def test_evaluation_of_a_protein_does_not_depend_on_its_company(
    trained: RunDir, fasta: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "one.fasta"
    alone.write_text(PROTEINS[: PROTEINS.index(">two")])
    table = tmp_path / "each.csv"
    sedd("evaluate", trained.path, "--fasta", fasta, "--per-sequence", table, runs=runs_of(trained))
    single = sedd("evaluate", trained.path, "--fasta", alone, "--json", runs=runs_of(trained))
    together = float(next(csv.DictReader(table.open()))["nats_per_residue"])
    assert json.loads(single.stdout)["nats_per_residue"] == pytest.approx(together, rel=1e-5)


def test_a_checkpoint_alone_is_enough(trained: RunDir, tmp_path: Path) -> None:
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    alone = tmp_path / "mine.pt"
    alone.write_bytes(newest.read_bytes())
    by_run = sedd("sample", trained.path, "-n", 2, "--steps", 8, runs=runs_of(trained))
    by_file = sedd("sample", alone, "-n", 2, "--steps", 8, runs=tmp_path)
    assert by_file.returncode == 0, by_file.stderr
    assert by_file.stdout == by_run.stdout


def sequences(text: str) -> list[str]:
    return ["".join(entry.splitlines()[1:]) for entry in text.split(">")[1:]]


def test_samples_have_the_asked_lengths_and_only_residues_and_repeat_with_their_seed(trained: RunDir) -> None:
    arguments = ["sample", trained.path, "-n", 5, "--length", "20-30", "--steps", 16]
    first, again, other = (
        sedd(*arguments, "--seed", seed, runs=runs_of(trained)).stdout for seed in (1, 1, 2)
    )
    assert first == again != other
    drawn = sequences(first)
    assert len(drawn) == 5
    assert all(20 <= len(s) <= 30 for s in drawn)
    assert set("".join(drawn)) <= set("ACDEFGHIKLMNPQRSTVWYXBUZO")
    assert first.startswith(f">sample_0 run={trained.name}/{trained.id} step=6 seed=1")


def test_samples_go_down_a_pipe_that_stays_one(trained: RunDir, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    command = ("sample", trained.path, "-n", 1, "--length", 9, "--steps", 2, "-o", pipe)
    assert sedd(*command, runs=runs_of(trained)).returncode == 0
    assert os.read(reader, 1000).startswith(b">sample_0")
    assert pipe.is_fifo()
    os.close(reader)


def test_lengths_are_drawn_from_the_data_by_default(trained: RunDir) -> None:
    drawn = sequences(sedd("sample", trained.path, "-n", 4, "--steps", 4, runs=runs_of(trained)).stdout)
    assert [len(s) for s in drawn] == [MAX_LENGTH] * 4  # every training window of this store has that length


def test_given_residues_of_a_template_never_change(trained: RunDir, tmp_path: Path) -> None:
    template = "____MKV?LAAG" + "_" * 9 + "ACD??"
    (tmp_path / "motif.fasta").write_text(f">motif\n{template[:10]}\n{template[10:]}\n")
    arguments = ["sample", trained.path, "--infill", tmp_path / "motif.fasta", "-n", 3, "--steps", 8]
    drawn = sequences(sedd(*arguments, runs=runs_of(trained)).stdout)
    assert len(drawn) == 3
    for sequence in drawn:
        assert len(sequence) == len(template)
        assert all(given in ("_", "?", new) for given, new in zip(template, sequence, strict=True))


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["sample", "nobody"], 2, "no run 'nobody'"),
        (["sample", "gone.pt"], 2, "no such checkpoint"),
        (["sample", "{run}", "--length", "0"], 2, "--length"),
        (["sample", "{run}", "--length", "30-20"], 2, "--length"),
        (["sample", "{run}", "--length", "999"], 2, "at most 64"),
        (["sample", "{run}", "--predictor", "magic"], 2, "analytic"),
        (["sample", "{run}", "-o", "no folder/new.fasta"], 2, "there is no folder"),
        (["sample", "{run}", "-o", "."], 2, "a folder"),
        (["evaluate", "{run}", "--fasta", "{fasta}", "--per-sequence", "."], 2, "a folder"),
        (["sample", "{run}", "--infill", "{fasta}"], 1, "no free position"),
        (["evaluate", "{run}", "--fasta", "nowhere.fasta"], 1, "does not exist"),
        (["evaluate", "{run}", "--fasta", "{empty}"], 1, "empty"),
        (["train", "nowhere.yaml"], 2, "no such file"),
        (["train", "{run}", "--set", "training.steps=9"], 2, "--set"),
    ],
)
def test_what_cannot_be_done_gets_one_clear_line(
    trained: RunDir, fasta: Path, tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    (tmp_path / "empty.fasta").touch()
    names = {"run": trained.path, "fasta": fasta, "empty": tmp_path / "empty.fasta"}
    done = sedd(*(a.format(**names) for a in arguments), runs=runs_of(trained), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert word in errors[0]
    assert "Traceback" not in done.stderr


def test_a_damaged_checkpoint_is_named(trained: RunDir, tmp_path: Path) -> None:
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    (tmp_path / "bad.pt").write_bytes(newest.read_bytes()[:-1000])
    done = sedd("sample", tmp_path / "bad.pt", runs=tmp_path)
    assert done.returncode == 1
    assert "bad.pt" in done.stderr
    assert "Traceback" not in done.stderr
