"""`sedd train`, `evaluate` and `sample` as a user types them, on a small network of a few steps."""

import contextlib
import csv
import gzip
import json
import os
import pty
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sedd.errors import DiskFullError, SeddError
from sedd.launch.local_processes import wait_until
from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir, list_checkpoints
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint_file import newest_whole
from tests.command_line import by_permission, call, sedd, sedd_here
from tests.disk import fill, small_disk
from tests.inference.networks import write_small_checkpoint
from tests.tiny import MAX_LENGTH, TORCH, tiny_spec

PROTEINS = ">one\nMKTAYIAKQRQISFVKSHFSRQ\n>two\nMSLNFLDFEQPIAELEAKIDSL\nTAVSRQDEKLDINIDEEVHRL\n>three\nmgh\n"
REPORTED = ["sample", "{run}", "-n", "1", "--steps", "2", "-o", "new.fasta", "--report", "x.html", "--store"]


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
    again = sedd_here("train", trained.path, runs=runs_of(trained))
    assert again.returncode == 1
    assert again.stderr.startswith("error: ")
    assert "completed" in again.stderr


def test_ctrl_c_saves_and_the_run_goes_on_where_it_stopped(store: Path, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.yaml"
    rarely = {"every_steps": 1000}
    tiny = tiny_spec(store, steps=400, checkpoint=rarely, validation=rarely)
    spec.write_text(dump_resolved(tiny))
    command = [sys.executable, "-m", "sedd", "train", str(spec)]
    process = subprocess.Popen(
        command,
        env=os.environ | {"SEDD_RUNS": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("step"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130
    (run,) = list_runs(tmp_path)
    resume = f"sedd train {shlex.quote(str(run.path))}"
    assert "interrupted by Ctrl-C, saved at step" in said
    assert resume in said
    seen = json.loads(sedd("status", run.path, "--json", runs=tmp_path).stdout)["runs"][0]
    assert (seen["state"], seen["why"], seen["causes"]) == ("interrupted", "by Ctrl-C", {"interrupted": 1})
    assert resume in sedd("status", run.path, runs=tmp_path).stdout.splitlines()
    stopped = next(e.get("step") for e in read_events(run.events) if e.event == "stop_requested")
    done = sedd("train", run.path, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [e.get("step") for e in read_events(run.events) if e.event == "resumed"] == [stopped]


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_terminal_that_is_closed_lets_a_training_save_and_end(
    store: Path, tmp_path: Path, is_ignored: bool
) -> None:
    """Of a terminal that has gone nothing can be written any more; under nohup the training goes on."""
    spec, rarely = tmp_path / "tiny.yaml", {"every_steps": 1000}
    spec.write_text(dump_resolved(tiny_spec(store, steps=400, checkpoint=rarely, validation=rarely)))
    command = [sys.executable, "-m", "sedd", "train", str(spec)]
    terminal, slave = pty.openpty()

    def begin() -> None:
        os.login_tty(slave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
        if is_ignored:
            log = os.open(tmp_path / "nohup.out", os.O_CREAT | os.O_WRONLY)
            os.dup2(log, 1)
            os.dup2(log, 2)

    process = subprocess.Popen(command, env=os.environ | {"SEDD_RUNS": str(tmp_path)}, preexec_fn=begin)
    os.close(slave)
    try:
        assert wait_until(lambda: bool(list_runs(tmp_path)) and started(tmp_path), timeout_s=180)
        os.close(terminal)
        code = process.wait(60)
    finally:
        process.kill()
    (run,) = list_runs(tmp_path)
    last = read_events(run.events)[-1]
    if is_ignored:
        assert (code, last.event) == (0, "completed")
        return
    assert (code, last.event, last.get("detail")) == (1, "gave_up", "by SIGHUP")
    assert newest_whole(run.checkpoints) is not None
    assert 0 < last.get("step") < 400
    seen = json.loads(sedd("status", run.path, "--json", runs=tmp_path).stdout)["runs"][0]
    assert (seen["state"], seen["why"]) == ("interrupted", "by SIGHUP")


def started(runs: Path) -> bool:
    """Whether steps were taken."""
    (run,) = list_runs(runs)
    return run.metrics.exists() and run.metrics.stat().st_size > 0


def damage(store: Path) -> None:
    """Two bytes of the tokens are others than were built."""
    (tokens,) = (store / "train").glob("tokens*.npy")
    content = bytearray(tokens.read_bytes())
    content[-3:-1] = bytes(byte ^ 1 for byte in content[-3:-1])
    tokens.write_bytes(content)


def test_a_damaged_store_is_refused_before_anything_is_made(store: Path, tmp_path: Path) -> None:
    """It was trained on to the end."""
    shutil.copytree(store, tmp_path / "store")
    damage(tmp_path / "store")
    spec = tmp_path / "tiny.yaml"
    spec.write_text(dump_resolved(tiny_spec(tmp_path / "store", steps=2)))
    done = sedd("train", spec, runs=tmp_path / "runs")
    assert done.returncode == 1
    assert "not the content that was built" in " ".join(done.stdout.split())
    assert "Nothing was started: tiny would not run to its end. --no-preflight starts it" in done.stderr
    assert not list_runs(tmp_path / "runs")
    assert sedd("train", spec, "--no-preflight", runs=tmp_path / "runs").returncode == 0


def test_a_run_whose_store_was_damaged_is_not_trained_on(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    spec = tmp_path / "tiny.yaml"
    spec.write_text(dump_resolved(tiny_spec(tmp_path / "store", steps=400)))
    process = subprocess.Popen(
        [sys.executable, "-m", "sedd", "train", str(spec)], env=os.environ | {"SEDD_RUNS": str(tmp_path)}
    )
    assert wait_until(lambda: bool(list_runs(tmp_path)) and started(tmp_path), timeout_s=180)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    (run,) = list_runs(tmp_path)
    damage(tmp_path / "store")
    refused = sedd("train", run.path, runs=tmp_path)
    assert refused.returncode == 1
    (error,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: data_store: ")
    assert "--no-preflight does it all the same" in refused.stderr
    assert [e.event for e in read_events(run.events)].count("attempt_started") == 1
    assert sedd("train", run.path, "--no-preflight", runs=tmp_path).returncode == 0


def test_a_run_that_trains_is_not_trained_by_a_second_process(store: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_resolved(tiny_spec(store, steps=100_000)))
    command = [sys.executable, "-m", "sedd", "train", str(tmp_path / "tiny.yaml")]
    here = os.environ | {"SEDD_RUNS": str(tmp_path)}
    with subprocess.Popen(command, env=here, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step"):
            assert process.poll() is None
        (run,) = list_runs(tmp_path)
        second = sedd_here("train", run.path, runs=tmp_path)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith(
        f"error: run {run.id} trains in the foreground: process {process.pid} on "
    )
    assert process.returncode == 130
    assert [e.event for e in read_events(run.events)].count("attempt_started") == 1


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
    assert "2 processes" in done.stdout.decode()
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
        "--force",
    ]
    first, second = (run(*arguments, runs=runs_of(trained)) for run in (sedd, sedd_here))
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
    sedd_here("evaluate", trained.path, "--fasta", fasta, "--per-sequence", table, runs=runs_of(trained))
    single = sedd_here("evaluate", trained.path, "--fasta", alone, "--json", runs=runs_of(trained))
    together = float(next(csv.DictReader(table.open()))["nats_per_residue"])
    assert json.loads(single.stdout)["nats_per_residue"] == pytest.approx(together, rel=1e-5)


def test_a_checkpoint_alone_is_enough(trained: RunDir, tmp_path: Path) -> None:
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    alone = tmp_path / "mine.pt"
    alone.write_bytes(newest.read_bytes())
    by_run = sedd_here("sample", trained.path, "-n", 2, "--steps", 8, runs=runs_of(trained))
    by_file = sedd_here("sample", alone, "-n", 2, "--steps", 8, runs=tmp_path)
    assert by_file.returncode == 0, by_file.stderr
    assert by_file.stdout == by_run.stdout


def test_an_exported_network_reads_back_to_the_bit(trained: RunDir, fasta: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my network"
    done = sedd_here("export", trained.path, "-o", folder, runs=runs_of(trained))
    assert done.returncode == 0, done.stderr
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    saved = torch.load(newest, weights_only=True)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    assert set(weights) == set(saved["model"])
    modes = {file.stat().st_mode for file in folder.iterdir()}
    assert len(modes) == 1, "colleagues may read either both files or none"
    assert all(torch.equal(weights[name], average) for name, average in saved["ema"]["averages"].items())
    for command in (["sample", "-n", 2, "--steps", 8], ["evaluate", "--fasta", fasta, "--json"]):
        by_run, by_folder = (
            sedd_here(command[0], source, *command[1:], runs=tmp_path) for source in (trained.path, folder)
        )
        assert by_folder.returncode == 0, by_folder.stderr
        assert by_folder.stdout == by_run.stdout


def test_weights_as_trained_are_exported_on_request(trained: RunDir, tmp_path: Path) -> None:
    sedd_here("export", trained.path, "--raw", "-o", tmp_path / "raw", runs=runs_of(trained))
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    saved = torch.load(newest, weights_only=True)
    weights = safetensors.torch.load_file(tmp_path / "raw" / "model.safetensors")
    assert all(torch.equal(weights[name], weight) for name, weight in saved["model"].items())
    assert any(not torch.equal(weights[name], mean) for name, mean in saved["ema"]["averages"].items())


def test_a_damaged_or_foreign_export_is_named_and_none_is_overwritten(
    trained: RunDir, tmp_path: Path
) -> None:
    folder = tmp_path / "network"
    sedd_here("export", trained.path, "-o", folder, runs=runs_of(trained))
    again = sedd_here("export", trained.path, "-o", folder, runs=runs_of(trained))
    assert (again.returncode, "it already exists" in again.stderr) == (2, True)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-4] + b"\0\0\0\1")
    config = json.loads((folder / "config.json").read_text())
    for text, said in [
        (json.dumps(config), "damaged"),
        (json.dumps(config | {"format": 9}), "format 1"),
        ("{}", "format 1"),
        ("[", "not an exported network"),
        (json.dumps(config | {"spec": {}}), "not an exported network"),
    ]:
        (folder / "config.json").write_text(text)
        done = sedd_here("sample", folder, "-n", 1, runs=tmp_path)
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert said in line


def test_the_table_may_be_parquet_and_holds_what_the_csv_does(
    trained: RunDir, fasta: Path, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'protein-sedd[parquet]'")
    tables = [tmp_path / "each.csv", tmp_path / "each.parquet"]
    for path in tables:
        done = sedd_here(
            "evaluate", trained.path, "--fasta", fasta, "--per-sequence", path, runs=runs_of(trained)
        )
        assert done.returncode == 0, done.stderr
    rows = parquet.read_table(tables[1]).to_pylist()
    assert [{name: str(value) for name, value in row.items()} for row in rows] == list(
        csv.DictReader(tables[0].open())
    )
    assert [type(value) for value in rows[0].values()] == [str, int, float, float]


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("pyarrow", ["evaluate", "{run}", "--fasta", "{fasta}", "--per-sequence", "x.parquet"], "parquet"),
        ("parasail", ["sample", "{run}", "--report", "x.html"], "report"),
    ],
)
def test_a_package_of_an_option_that_is_missing_is_named_before_the_work(
    trained: RunDir, fasta: Path, tmp_path: Path, package: str, arguments: list[str], extra: str
) -> None:
    (tmp_path / f"{package}.py").write_text("raise ImportError\n")
    names = {"run": trained.path, "fasta": fasta}
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    command = [sys.executable, "-m", "sedd", *(a.format(**names) for a in arguments)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert package in line
    assert f"protein-sedd[{extra}]" in done.stderr
    assert done.stdout == ""


def sequences(text: str) -> list[str]:
    return ["".join(entry.splitlines()[1:]) for entry in text.split(">")[1:]]


def test_samples_have_the_asked_lengths_and_only_residues_and_repeat_with_their_seed(trained: RunDir) -> None:
    arguments = ["sample", trained.path, "-n", 5, "--length", "20-30", "--steps", 16]
    first, again, other = (
        run(*arguments, "--seed", seed, runs=runs_of(trained)).stdout
        for run, seed in ((sedd, 1), (sedd_here, 1), (sedd_here, 2))
    )
    assert first == again != other
    drawn = sequences(first)
    assert len(drawn) == 5
    assert all(20 <= len(s) <= 30 for s in drawn)
    assert set("".join(drawn)) <= set("ACDEFGHIKLMNPQRSTVWY")
    assert first.startswith(f">sample_0 run={trained.name}/{trained.id} step=6 seed=1")


def test_omitted_letters_are_never_drawn_and_a_template_keeps_its_own(
    trained: RunDir, tmp_path: Path
) -> None:
    def letters(*options: object) -> set[str]:
        arguments = ["sample", trained.path, "-n", 4, "--steps", 8, *options]
        return set("".join(sequences(sedd_here(*arguments, runs=runs_of(trained)).stdout)))

    assert letters("--length", 60, "--omit", "ACDEFGHIKLMNPQRSTVxbuzo") == {"W", "Y"}
    (tmp_path / "template.fasta").write_text(">t\nCX____\n")
    assert letters("--infill", tmp_path / "template.fasta", "--omit", "ACDEFGHIKLMNPQRSTVXBUZO") - {
        "W",
        "Y",
    } == {
        "C",
        "X",
    }


def test_samples_go_down_a_pipe_that_stays_one(trained: RunDir, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    command = ("sample", trained.path, "-n", 1, "--length", 9, "--steps", 2, "-o", pipe)
    assert sedd_here(*command, runs=runs_of(trained)).returncode == 0
    assert os.read(reader, 1000).startswith(b">sample_0")
    assert pipe.is_fifo()
    os.close(reader)


def test_lengths_are_drawn_from_the_data_by_default(trained: RunDir) -> None:
    drawn = sequences(sedd_here("sample", trained.path, "-n", 4, "--steps", 4, runs=runs_of(trained)).stdout)
    assert [len(s) for s in drawn] == [MAX_LENGTH] * 4  # every training window of this store has that length


def test_lengths_follow_the_training_data_of_the_checkpoint(trained: RunDir, tmp_path: Path) -> None:
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    saved = torch.load(newest, weights_only=True)
    saved["length_quantiles"] = [7] * 500 + [31] * 501
    torch.save(saved, tmp_path / "two_lengths.pt")
    options = ["--steps", 1, "--seed", 3, "-n", 40]
    lengths = [
        len(s)
        for s in sequences(sedd_here("sample", tmp_path / "two_lengths.pt", *options, runs=tmp_path).stdout)
    ]
    assert set(lengths) == {7, 31}
    assert (
        8 <= lengths.count(7) <= 32
    )  # of 40 fair coins; outside once in 20,000 seeds, and this one is fixed


def test_temperature_and_top_p_reach_the_sampler(trained: RunDir) -> None:
    """What they do is proved in tests/diffusion; after six steps this network hardly prefers any residue."""

    def drawn(*options: object) -> str:
        arguments = ["-n", 2, "--length", 60, "--steps", 30]
        done = sedd_here("sample", trained.path, *arguments, *options, runs=runs_of(trained))
        assert done.returncode == 0, done.stderr
        return "".join(sequences(done.stdout))

    def most_common(text: str) -> float:
        return max(map(text.count, text)) / len(text)

    warm = drawn()
    assert drawn("--temperature", 0.01) != warm
    assert most_common(drawn("--top-p", 0.01)) > 2 * most_common(warm)


def test_progress_is_drawn_on_a_terminal_and_stays_out_of_the_proteins(trained: RunDir) -> None:
    ours, theirs = os.openpty()
    command = [
        sys.executable,
        "-m",
        "sedd",
        "sample",
        trained.path,
        "-n",
        "1",
        "--length",
        "9",
        "--steps",
        "7",
    ]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # Linux's word for the end of a terminal
        while chunk := os.read(ours, 4096):
            seen += chunk
    os.close(ours)
    assert process.stdout is not None
    assert process.stdout.read().startswith(b">sample_0 ")
    assert process.wait(timeout=180) == 0
    assert b"sampling" in seen
    assert b"7/7" in seen


def test_a_report_is_a_page_or_numbers(trained: RunDir, tmp_path: Path) -> None:
    pytest.importorskip("parasail", reason="pip install 'protein-sedd[report]'")
    for name in ("samples.html", "samples.json"):
        arguments = [
            "-n",
            3,
            "--steps",
            4,
            "-o",
            tmp_path / "s.fasta",
            "--report",
            tmp_path / name,
            "--force",
        ]
        done = sedd_here("sample", trained.path, *arguments, runs=runs_of(trained))
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "samples.json").read_text())
    drawn = sequences((tmp_path / "s.fasta").read_text())
    assert found["samples"]["residues"] == sum(map(len, drawn)) == found["held_out"]["residues"]
    assert len(found["samples"]["identities"]) == 3
    assert f"{trained.name}/{trained.id}" in (tmp_path / "samples.html").read_text()


@pytest.mark.parametrize(
    ("template", "named"), [("MKJJ__", "J"), ("MK--__", "-"), ("MK__*", "*"), ("mk.x_", ".")]
)
def test_a_template_of_what_could_not_be_kept_is_refused(
    trained: RunDir, tmp_path: Path, template: str, named: str
) -> None:
    (tmp_path / "motif.fasta").write_text(f">fine\nMKxbuzo__\n>wrong\n{template}\n")
    done = sedd_here("sample", trained.path, "--infill", tmp_path / "motif.fasta", runs=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: template 'wrong' holds {named}: no amino acid")


def test_redesigns_say_what_they_changed_and_lie_in_a_table(trained: RunDir, tmp_path: Path) -> None:
    parent = "MKTAYIAKQRQISFVKSHFSRQLEERLG"
    (tmp_path / "wt.fasta").write_text(f">wt\n{parent}\n")
    how = ("--noise", 0.5, "--keep", "2-9,20", "--max-mutations", 6, "-n", 5, "--steps", 8, "--remask", 1)
    out = ("-o", tmp_path / "new.fasta", "--table", tmp_path / "new.tsv")
    done = sedd_here("sample", trained.path, "--parent", tmp_path / "wt.fasta", *how, *out, runs=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new.fasta").read_text()
    rows = list(csv.DictReader((tmp_path / "new.tsv").open(), delimiter="\t"))
    assert [row["sequence"] for row in rows] == sequences(text)
    assert [row["name"] for row in rows] == [f"wt_{n}" for n in range(5)]
    for row, header in zip(rows, [line for line in text.splitlines() if line[0] == ">"], strict=True):
        changed = [n for n, (a, b) in enumerate(zip(parent, row["sequence"], strict=True), 1) if a != b]
        assert 1 <= len(changed) == int(row["count"]) <= 6
        assert not set(changed) & {*range(2, 10), 20}
        assert f" remask=1 length=28 mutations={row['mutations']} identity=" in header


def test_draws_are_numbered_for_each_template(trained: RunDir, tmp_path: Path) -> None:
    (tmp_path / "motif.fasta").write_text(">a\nMKXX__\n>b\nLA__\n")
    how = ("--infill", tmp_path / "motif.fasta", "-n", 2, "--steps", 4)
    done = sedd_here("sample", trained.path, *how, runs=tmp_path)
    names = [line.split()[0] for line in done.stdout.splitlines() if line.startswith(">")]
    assert names == [">a_0", ">a_1", ">b_0", ">b_1"]


def test_gaps_of_an_alignment_are_no_residues_and_other_letters_are_told(
    trained: RunDir, tmp_path: Path
) -> None:
    (tmp_path / "plain.fasta").write_text(">a\nMKLLAAX\n>b\nMKXLA\n")
    (tmp_path / "aligned.fasta").write_text(">a\nMK-LL..AAJ\n>b\nMK*LA*-*\n")
    plain, aligned = (
        sedd_here(
            "evaluate",
            trained.path,
            "--fasta",
            tmp_path / f"{name}.fasta",
            "--draws",
            16,
            "--json",
            runs=tmp_path,
        )
        for name in ("plain", "aligned")
    )
    bounds = [json.loads(done.stdout) for done in (plain, aligned)]
    assert bounds[0]["nats_per_residue"] == bounds[1]["nats_per_residue"]
    assert [bound["gaps"] for bound in bounds] == [0, 4]
    assert [(bound["stops_to_x"], bound["stops_stripped"]) for bound in bounds] == [(0, 0), (1, 2)]
    assert "note" not in plain.stderr
    assert (
        "note: 4 gaps removed, 1 letter outside the alphabet read as X, 1 stop (*) inside read as X, "
        "2 stops (*) at the end removed"
    ) in aligned.stderr


def test_records_without_residues_are_left_out_and_counted_as_by_a_build(
    trained: RunDir, tmp_path: Path
) -> None:
    (tmp_path / "plain.fasta").write_text(">a\nMKLLAAX\n")
    (tmp_path / "more.fasta").write_text(">empty\n>a\nMKLLAAX\n>gaps\n--..\n>stop\n*\n>end")
    plain, more = (
        sedd_here("evaluate", trained.path, "--fasta", tmp_path / name, "--draws", 2, "--json", runs=tmp_path)
        for name in ("plain.fasta", "more.fasta")
    )
    bounds = [json.loads(done.stdout) for done in (plain, more)]
    assert [bound.pop("empty") for bound in bounds] == [0, 4]
    assert bounds[0] == bounds[1]
    assert "note: 4 records without residues left out" in more.stderr
    (tmp_path / "more.fasta").write_text(">empty\n>gaps\n--\n")
    none = sedd_here("evaluate", trained.path, "--fasta", tmp_path / "more.fasta", runs=tmp_path)
    assert none.returncode == 2
    assert none.stderr.endswith("error: there is no protein to evaluate: all 2 records are empty\n")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("MKj_J", "holds j, J:"),
        ("MK_*", "holds *:"),
        ("MK_-", "holds -:"),
        ("MK_5", "holds 5:"),
        ("", "no sequence"),
    ],
)
def test_a_template_that_cannot_be_kept_is_told_as_it_is_written(
    trained: RunDir, tmp_path: Path, template: str, told: str
) -> None:
    (tmp_path / "motif.fasta").write_text(f">fine\nMK__\n>motif\n{template}\n")
    done = sedd_here("sample", trained.path, "--infill", tmp_path / "motif.fasta", runs=tmp_path)
    assert done.returncode == 2
    assert "motif'" in done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_what_may_not_be_written_is_refused_before_the_work(
    trained: RunDir, fasta: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", size="1m") as disk:
        (disk / "old.csv").write_text("")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for command in (
            ["sample", trained.path, "-o", disk / "new.fasta"],
            ["evaluate", trained.path, "--fasta", fasta, "--per-sequence", disk / "old.csv"],
        ):
            done = sedd_here(*command, runs=tmp_path)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.endswith(": read-only file system\n")


def test_given_residues_of_a_template_never_change(trained: RunDir, tmp_path: Path) -> None:
    template = "____MKV?LAAG" + "_" * 9 + "ACD??"
    (tmp_path / "motif.fasta").write_text(f">motif\n{template[:10]}\n{template[10:]}\n")
    arguments = ["sample", trained.path, "--infill", tmp_path / "motif.fasta", "-n", 3, "--steps", 8]
    drawn = sequences(sedd_here(*arguments, runs=runs_of(trained)).stdout)
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
        (["sample", "{run}", "--length", "60-30"], 2, "first number must not be larger than the second"),
        (["sample", "{run}", "--length", "6²"], 2, "--length is '6²'"),
        (["sample", "{run}", "--length", "9" * 5000], 2, "--length is '999"),
        (["sample", "{run}", "-o", "{fasta}"], 2, "three.fasta: it already exists"),
        (["sample", "{run}", "-o", "new.fasta", "--report", "{page}"], 2, "page.html: it already exists"),
        (["report", "{run}", "-o", "{page}"], 2, "page.html: it already exists"),
        (["report", "{run}", "-o", "page.pdf"], 2, "page.pdf: its name must end in .html"),
        (
            ["evaluate", "{run}", "--fasta", "{fasta}", "--per-sequence", "{table}"],
            2,
            "t.csv: it already exists",
        ),
        (["export", "{run}", "-o", "{fasta}"], 2, "already exists and is not an exported network"),
        (["export", "{run}", "-o", "{run}", "--force"], 2, "already exists and is not an exported network"),
        (["evaluate", "nobody", "--fasta", "{fasta}"], 2, "no run 'nobody'"),
        (["export", "nobody", "-o", "new"], 2, "no run 'nobody'"),
        (["sample", "{run}", "--length", "999"], 2, "at most 64"),
        (["sample", "{run}", "--predictor", "magic"], 2, "analytic"),
        (["sample", "{run}", "-o", "no folder/new.fasta"], 2, "its folder does not exist"),
        (["sample", "{run}", "-o", "."], 2, "a folder"),
        (["sample", "{run}", "-o", "x.fasta.xz"], 2, "of compressed files only .gz is written"),
        (["sample", "{run}", "--report", "x.html.gz"], 2, "must end in .html or .json"),
        ([*REPORTED, "no.store"], 2, "no.store does not exist"),
        ([*REPORTED, "old"], 2, "built with another alphabet"),
        (["cluster", "init", "-o", "x.yaml.gz"], 2, "must end in .yaml or .yml"),
        (["sample", "{run}", "--infill", "{fasta}", "--length", "9"], 2, "infill takes the length"),
        (["sample", "{run}", "--report", "page.pdf"], 2, "must end in .html or .json"),
        (["sample", "{run}", "--omit", "XJ-"], 2, "--omit names '-J': letters are"),
        (["sample", "{run}", "--omit", "ACDEFGHIKLMNPQRSTVWYXBUZO"], 2, "nothing is left to draw"),
        (["evaluate", "{run}", "--fasta", "{fasta}", "--per-sequence", "."], 2, "a folder"),
        (["sample", "{run}", "--infill", "{fasta}"], 2, "no free position"),
        (["sample", "{run}", "--template", "MK{{5-2}}_"], 2, "the first number is the larger one"),
        (
            ["sample", "{run}", "--parent", "{fasta}", "--keep", "60-24"],
            2,
            "--keep is '60-24': the first number",
        ),
        (["sample", "{run}", "--parent", "{fasta}", "--keep", "900"], 2, "position 900 cannot be kept"),
        (["sample", "{run}", "--parent", "{fasta}", "--noise", "0"], 2, "--noise is 0.0; it must be greater"),
        (["sample", "{run}", "--noise", "0.5"], 2, "--noise belongs to --parent, which is missing"),
        (["sample", "{run}", "--table", "new.csv"], 2, "there is no --parent"),
        (
            ["sample", "{run}", "--parent", "{fasta}", "--table", "new.xlsx"],
            2,
            "new.xlsx: its name must end in",
        ),
        (
            ["score", "{run}", "--fasta", "{fasta}", "--scan", "-o", "x.txt"],
            2,
            "x.txt: its name must end in",
        ),
        (
            ["evaluate", "{run}", "--fasta", "{fasta}", "--per-sequence", "y.txt"],
            2,
            "y.txt: its name must end in",
        ),
        (["evaluate", "{run}", "--fasta", "{fasta}", "--fasta", "{odd}"], 2, "odd.fasta: 'a': '?' in"),
        (
            ["embed", "{run}", "--fasta", "{fasta}", "--fasta", "{odd}", "-o", "x.npz"],
            2,
            "odd.fasta: 'a': '?' in",
        ),
        (["score", "{run}", "--fasta", "{fasta}", "--fasta", "{odd}", "--scan"], 2, "odd.fasta: 'a': '?' in"),
        (
            ["sample", "{run}", "--parent", "{fasta}", "--template", "M_"],
            2,
            "--template and --parent are both given",
        ),
        (
            ["sample", "{run}", "--parent", "{fasta}", "--length", "9"],
            2,
            "--parent takes the length of its parents",
        ),
        (["evaluate", "{run}", "--fasta", "nowhere.fasta"], 2, "does not exist"),
        (["evaluate", "{run}", "--fasta", "."], 2, "is a folder, not a file"),
        (["sample", "{run}", "--infill", "nowhere.fasta"], 2, "does not exist"),
        (["sample", "nowhere.pt"], 2, "no such checkpoint"),
        (["data", "info", "nowhere.store"], 2, "does not exist"),
        (["data", "verify", "."], 2, "is not a token store"),
        (["data", "build", "nowhere.fasta", "-o", "x"], 2, "does not exist"),
        (["report", "{run}", "--samples", "nowhere.fasta"], 2, "does not exist"),
        (["evaluate", "{run}", "--fasta", "{empty}"], 2, "empty"),
        (["train", "nowhere.yaml"], 2, "no such file"),
        (["train", "{run}", "--set", "training.steps=9"], 2, "--set"),
    ],
)
def test_what_cannot_be_done_gets_one_clear_line(
    trained: RunDir,
    fasta: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    word: str,
) -> None:
    for name in ("empty.fasta", "page.html", "t.csv"):
        (tmp_path / name).touch()
    (tmp_path / "odd.fasta").write_text(">a\nMKV?LA\n")
    (tmp_path / "old").mkdir()
    other = {"format": "sedd-token-store", "version": 1, "alphabet_hash": "of other letters"}
    (tmp_path / "old/manifest.json").write_text(json.dumps(other))
    names = {
        "run": trained.path,
        "fasta": fasta,
        "empty": tmp_path / "empty.fasta",
        "odd": tmp_path / "odd.fasta",
        "page": tmp_path / "page.html",
        "table": tmp_path / "t.csv",
    }
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEDD_RUNS", str(runs_of(trained)))
    with pytest.raises(SeddError) as caught:
        call(*(a.format(**names) for a in arguments))
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert (caught.value.exit_code, len(caught.value.message.splitlines())) == (code, 1)
    assert word in caught.value.message


OUTPUTS = {
    "new.fasta": ["sample", "{run}", "-n", "1", "--length", "9", "--steps", "2", "-o"],
    "new.csv": ["score", "{run}", "--fasta", "{fasta}", "--scan", "-o"],
    "new.parquet": ["evaluate", "{run}", "--fasta", "{fasta}", "--draws", "2", "--per-sequence"],
    "new.npz": ["embed", "{run}", "--fasta", "{fasta}", "-o"],
    "new.html": ["report", "{run}", "-o"],
    "network": ["export", "{run}", "-o"],
    "network-hf": ["export", "{run}", "--format", "hf", "-o"],
    "store": ["data", "build", "{fasta}", "-o"],
}
"""Commands that write a file or a folder, by its name."""


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_cannot_be_written_is_told_in_the_same_words_by_all(
    trained: RunDir, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(runs_of(trained)))
    (tmp_path / "file").touch()
    (tmp_path / "folder" / name / "what is there").mkdir(parents=True)
    with small_disk(tmp_path / "disk", size="64k") as disk:
        fill(disk)
        with small_disk(tmp_path / "read-only", size="64k") as unchangeable:
            subprocess.run(["mount", "-o", "remount,ro", unchangeable], check=True)
            told = {}
            for place in ("file", "folder", "disk", "read-only"):
                output = tmp_path / place / name
                with pytest.raises(SeddError) as caught:
                    call(*(a.format(run=trained.path, fasta=fasta) for a in OUTPUTS[name]), str(output))
                assert caught.value.message.startswith(f"cannot write {output}: ")
                told[place] = (caught.value.exit_code, caught.value.message.partition(f"{output}: ")[2])
        assert os.listdir(disk) in (["filler"], ["filler", name], [name, "filler"])
    assert told.pop("folder") in ((2, "it is a folder"), (2, told_of_a_folder(name)))
    assert told == {
        "file": (2, "its folder is a file"),
        "disk": (1, "no space left on device"),
        "read-only": (2, "read-only file system"),
    }


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_dash_is_stdout_for_text_and_refused_elsewhere(
    trained: RunDir, fasta: Path, tmp_path: Path, name: str
) -> None:
    arguments = [word.format(run=trained.path, fasta=fasta) for word in OUTPUTS[name]]
    done = sedd_here(*arguments, "-", runs=runs_of(trained), cwd=tmp_path)
    assert not list(tmp_path.glob("-*"))
    begins = {"new.fasta": ">sample_0 ", "new.csv": "protein,mutant,", "new.parquet": "name,residues,"}
    if name in begins:
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(begins[name])
        assert not [line for line in done.stdout.splitlines() if "perplexity" in line], "a table alone"
        return
    assert (done.returncode, done.stdout) == (2, "")
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "to standard output" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "{run}", "--report", "-"],
        ["score", "{run}", "--fasta", "{fasta}", "--scan", "--page", "-"],
        ["score", "{run}", "--fasta", "{fasta}", "--scan", "-o", "-", "--json"],
        ["evaluate", "{run}", "--fasta", "{fasta}", "--per-sequence", "-", "--json"],
        ["sample", "{run}", "--parent", "{fasta}", "--table", "-"],
        ["compare", "{run}", "--html", "-"],
        ["compare", "{run}", "--csv", "-", "--json"],
    ],
)
def test_pages_and_two_outputs_at_once_are_kept_from_stdout(
    trained: RunDir, fasta: Path, tmp_path: Path, arguments: list[str]
) -> None:
    words = [word.format(run=trained.path, fasta=fasta) for word in arguments]
    done = sedd_here(*words, runs=runs_of(trained), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "standard output" in done.stderr
    assert not list(tmp_path.glob("-*"))


def told_of_a_folder(name: str) -> str:
    what = "a token store" if name == "store" else "an exported network"
    return f"it already exists and is not {what}"


def test_an_error_is_one_line_and_an_exit_code(trained: RunDir, tmp_path: Path) -> None:
    done = sedd_here("sample", trained.path, "--length", "999", runs=runs_of(trained), cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(errors), "at most 64" in errors[0]) == (2, 1, True)
    assert "Traceback" not in done.stderr


def test_one_protein_is_told_in_the_singular(trained: RunDir, tmp_path: Path) -> None:
    for count, told in ((1, "1 protein in "), (2, "2 proteins in ")):
        done = sedd_here(
            "sample", trained.path, "-n", count, "--steps", 2, "-o", tmp_path / f"{count}.fa", runs=tmp_path
        )
        assert told in done.stderr


def test_samples_are_compressed_where_their_name_ends_in_gz(trained: RunDir, tmp_path: Path) -> None:
    plain, compressed = tmp_path / "s.fasta", tmp_path / "s.fasta.gz"
    for path in (plain, compressed):
        done = sedd_here("sample", trained.path, "-n", 2, "--steps", 2, "-o", path, runs=tmp_path)
        assert done.returncode == 0, done.stderr
    assert gzip.decompress(compressed.read_bytes()) == plain.read_bytes()
    done = sedd_here("evaluate", trained.path, "--fasta", compressed, "--draws", 2, runs=tmp_path)
    assert done.returncode == 0, done.stderr


def test_existing_files_are_replaced_on_request(trained: RunDir, fasta: Path, tmp_path: Path) -> None:
    samples, table, page, network = (tmp_path / name for name in ("s.fasta", "t.csv", "page.html", "network"))
    for path in (samples, table, page):
        path.write_text("old")
    sedd_here("export", trained.path, "--raw", "-o", network, runs=tmp_path)
    raw = (network / "model.safetensors").read_bytes()
    for command in (
        ["sample", trained.path, "-n", 1, "--steps", 2, "-o", samples],
        ["evaluate", trained.path, "--fasta", fasta, "--draws", 2, "--per-sequence", table],
        ["report", trained.path, "-o", page],
        ["export", trained.path, "-o", network],
    ):
        done = sedd_here(*command, "--force", runs=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "old" not in {path.read_text() for path in (samples, table, page)}
    assert (network / "model.safetensors").read_bytes() != raw
    assert (
        sedd_here("sample", network, "-n", 1, "--steps", 2, "-o", "/dev/null", runs=tmp_path).returncode == 0
    )


CHEAP_TO_SEE = [
    ["sample", "nobody"],
    ["sample", "gone.pt"],
    ["sample", "nobody", "--predictor", "magic"],
    ["sample", "nobody", "--length", "9-1"],
    ["evaluate", "nobody", "--fasta", "f"],
    ["evaluate", "nobody", "--fasta", "f", "--per-sequence", "s.txt"],
    ["export", "nobody", "-o", "new"],
    ["embed", "nobody", "--fasta", "f", "-o", "e.npz"],
    ["embed", "{file}", "--fasta", "nowhere.fasta", "-o", "e.npz"],
    ["embed", "{file}", "--fasta", "{file}", "-o", "e.h5"],
    ["embed", "{file}", "--fasta", "{file}", "-o", "nodir/e.npz"],
    ["embed", "{file}", "--fasta", "{file}", "-o", "{file}"],
    ["embed", "{file}", "--fasta", "{file}", "-o", "e.npz", "--pooling", "max"],
    ["score", "nobody", "--fasta", "f", "--scan"],
    ["score", "{file}", "--fasta", "nowhere.fasta", "--scan"],
    ["score", "{file}", "--fasta", "{file}", "--scan", "-o", "s2.txt"],
    ["score", "{file}", "--fasta", "{file}", "--scan", "-o", "nodir/s.csv"],
    ["score", "{file}", "--fasta", "{file}", "--scan", "-o", "{table}"],
    ["score", "{file}", "--fasta", "{file}", "--scan", "--page", "p.pdf"],
    ["score", "{file}", "--fasta", "{file}", "--scan", "--method", "foo"],
    ["score", "{file}", "--fasta", "{file}", "--mutants", "nowhere.csv"],
    ["train", "nobody"],
    ["train", "nobody.yaml"],
]
"""Mistakes for which nothing has to be computed."""

ONE_BY_ONE = """
import json, os, sys
from sedd.cli import embed, evaluate, export, sample, score, train
from sedd.cli.main import main

for line in sys.stdin:
    sys.argv = ["sedd", *json.loads(line)]
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    try:
        main()
    except SystemExit as e:
        print(e.code, *sorted({"torch", "torch._dynamo", "sympy"} & set(sys.modules)), flush=True)
    os._exit(0)
"""
"""Each command in a fork of its own, so that Python and the commands are imported once."""


@pytest.mark.skipif(TORCH < (2, 8), reason="there einops imports the compiler")
def test_a_network_is_used_without_torchs_compiler(trained: RunDir, fasta: Path, tmp_path: Path) -> None:
    """The compiler, and sympy with it, took more than a third of the time of each of these commands."""
    uses = [
        ["sample", str(trained.path), "-n", "2", "--length", "20", "--steps", "2", "-o", "s.fasta"],
        ["evaluate", str(trained.path), "--fasta", str(fasta), "--draws", "2"],
        ["embed", str(trained.path), "--fasta", str(fasta), "-o", "e.npz"],
        ["score", str(trained.path), "--fasta", str(fasta), "--scan", "-o", "s.csv"],
        ["export", str(trained.path), "-o", "exported"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE], input="\n".join(map(json.dumps, uses)),
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    ends = [line for line in done.stdout.splitlines() if line.startswith("0 ")]
    assert ends == ["0 torch"] * len(uses), done.stdout + done.stderr


@pytest.fixture(scope="module")
def seen_cheaply(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of each of CHEAP_TO_SEE the exit code, and torch if it was imported."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "file.pt").write_text(">a\nMK\n")
    (folder / "t.csv").touch()
    typed = [[word.format(file="file.pt", table="t.csv") for word in words] for words in CHEAP_TO_SEE]
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE],
        input="\n".join(map(json.dumps, typed)),
        env=os.environ | {"SEDD_RUNS": str(folder)},
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return dict(zip(map(" ".join, CHEAP_TO_SEE), done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("arguments", [" ".join(words) for words in CHEAP_TO_SEE])
def test_what_is_cheap_to_see_is_told_before_torch_is_imported(
    seen_cheaply: dict[str, str], arguments: str
) -> None:
    assert seen_cheaply[arguments] == "2"


@pytest.mark.parametrize(
    "command",
    [("sample", "-n", 1, "--steps", 2), ("evaluate", "--json", "--fasta", "{fasta}")],
    ids=lambda c: c[0],
)
def test_a_run_whose_newest_checkpoint_is_damaged_says_which_one_it_uses(
    trained: RunDir, fasta: Path, tmp_path: Path, command: tuple[object, ...]
) -> None:
    run = RunDir(tmp_path / "my runs" / trained.name / trained.id)
    shutil.copytree(trained.path, run.path, symlinks=True)
    newest, older = list_checkpoints(run.checkpoints)[:2]
    newest.write_bytes(newest.read_bytes()[:-1000])
    name, *options = (str(word).format(fasta=fasta) for word in command)
    done = sedd_here(name, run.path, *options, runs=tmp_path / "my runs")
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert str(newest) in note
    assert f"{older.name} is used" in note
    assert "note" not in done.stdout


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("run", ("sample", "{network}", "-n", 1, "--steps", 2)),
        ("export", ("sample", "{network}", "-n", 1, "--steps", 2)),
        ("checkpoint", ("evaluate", "{network}", "--fasta", "{fasta}")),
        ("run", ("export", "{network}", "-o", "{folder}/network")),
        ("checkpoint", ("train", "{folder}/tuned.yaml", "--no-preflight")),
        ("export", ("train", "{folder}/tuned.yaml")),
    ],
)
def test_a_network_that_may_not_be_read_is_not_called_damaged(
    trained: RunDir, store: Path, fasta: Path, tmp_path: Path, command: tuple[object, ...], kind: str
) -> None:
    run = RunDir(tmp_path / "my runs" / trained.name / trained.id)
    shutil.copytree(trained.path, run.path, symlinks=True)
    secret = list_checkpoints(run.checkpoints)[0]
    network = {"run": run.path, "checkpoint": secret, "export": tmp_path / "exported"}[kind]
    if kind == "export":
        assert sedd_here("export", run.path, "-o", network, runs=tmp_path).returncode == 0
        secret = network / "model.safetensors"
    tuned = tiny_spec(store, steps=2, init={"network": str(network)})
    (tmp_path / "tuned.yaml").write_text(dump_resolved(tuned))
    secret.chmod(0)
    words = [str(word).format(network=network, fasta=fasta, folder=tmp_path) for word in command]
    with by_permission():
        done = sedd_here(*words, runs=tmp_path / "new runs")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.endswith(f"{secret.name}: permission denied")
    assert "damaged" not in done.stderr
    assert done.returncode == 2


def test_a_full_disk_under_standard_output_is_one_line_with_cause_and_file(
    trained: RunDir, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", size="64k") as disk:
        output = (disk / "output").open("w")
        fill(disk)
        command = [sys.executable, "-m", "sedd", "sample", str(trained.path), "-n", "1", "--steps", "2"]
        environment = os.environ | {"SEDD_RUNS": str(runs_of(trained))}
        done = subprocess.run(
            command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, timeout=300
        )
        output.close()
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "standard output" in line
    assert "no space left on device" in line.lower()
    assert "bug" not in done.stderr


@pytest.mark.parametrize(("format", "module"), [("plain", "export"), ("hf", "export_transformers")])
def test_half_an_export_is_not_in_the_way_of_the_next(
    trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, module: str
) -> None:
    """The disk is full when the weights are written, and has space again later."""
    monkeypatch.setenv("SEDD_RUNS", str(runs_of(trained)))
    export = ("export", trained.path, "--format", format, "-o", tmp_path / "network")

    def no_space(path: Path, text: str) -> None:
        assert (tmp_path / "network" / "model.safetensors").exists()
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as full:
        full.setattr(f"sedd.inference.{module}.write_text", no_space)
        with pytest.raises(DiskFullError):
            call(*export)
    assert not (tmp_path / "network").exists()
    call(*export)
    assert (tmp_path / "network" / "config.json").exists()


def test_a_damaged_checkpoint_is_named(trained: RunDir, tmp_path: Path) -> None:
    newest = newest_whole(trained.checkpoints)
    assert newest is not None
    (tmp_path / "bad.pt").write_bytes(newest.read_bytes()[:-1000])
    done = sedd_here("sample", tmp_path / "bad.pt", runs=tmp_path)
    assert done.returncode == 2
    assert "bad.pt" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "work", "doing"),
    [
        (
            "evaluate {net} --fasta {fasta} --per-sequence {out}.csv",
            "comparison.report",
            "evaluating, 7 of 20 proteins",
        ),
        (
            "score {net} --fasta {fasta} --scan -o {out}.csv --page {out}.html",
            "score.score_table",
            "scoring, 7 of 20 mutants",
        ),
        ("embed {net} --fasta {fasta} -o {out}.npz", "embed.embed", "embedding, 7 of 20 proteins"),
        (
            "sample {net} -n 2 -o {out}.fasta",
            "generation.draw_samples",
            "sampling, 7 of 20 steps over all batches",
        ),
    ],
)
def test_ctrl_c_is_told_with_how_far_it_was_and_how_to_go_on(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, work: str, doing: str
) -> None:
    def interrupted(*given: object, **named: object) -> None:
        tick = named.get("progress") or given[3]
        assert callable(tick)
        tick(7, 20)
        os.kill(os.getpid(), signal.SIGINT)

    write_small_checkpoint(tmp_path / "n.pt")
    monkeypatch.setattr(f"sedd.inference.{work}", interrupted)
    here = words.format(net=tmp_path / "n.pt", fasta=fasta, out=tmp_path / "out").split()
    done = sedd_here(*here)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == (
        f"interrupted while {doing} done: nothing was written; the same command starts over; "
        f"a job (task: {here[0]} in a spec) keeps what it has finished"
    )
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_is_closed_leaves_nothing_half_written(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def ended(part: Path) -> None:
        part.write_text("half of a page")
        os.kill(os.getpid(), number)

    write_small_checkpoint(tmp_path / "n.pt")
    monkeypatch.setattr("sedd.rundir.atomic._fsync", ended)
    command = ("score", tmp_path / "n.pt", "--fasta", fasta, "--scan", "--method", "masked")
    before = signal.signal(number, signal.SIG_DFL)  # tests that nohup has started ignore SIGHUP
    try:
        done = sedd_here(*command, "-o", tmp_path / "s.csv")
    finally:
        signal.signal(number, before)
    assert done.returncode == 128 + number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.pt", "three.fasta"]


def test_what_was_written_before_ctrl_c_is_named(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return True

    write_small_checkpoint(tmp_path / "n.pt")
    (tmp_path / "s.csv").write_text("an older table\n")
    monkeypatch.setattr("sedd.cli.score.put_table", interrupted)
    page = tmp_path / "s.html"
    command = ("score", tmp_path / "n.pt", "--fasta", fasta, "--scan", "--method", "masked", "--force")
    done = sedd_here(*command, "-o", tmp_path / "s.csv", "--page", page)
    assert done.returncode == 130
    assert f"interrupted: {page} is complete; the same command starts over, with --force; " in done.stderr


def test_ctrl_c_in_a_build_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    (tmp_path / "p.fasta").write_text(">a\nMKV\n")
    monkeypatch.setattr("sedd.data.build.assemble", interrupted)
    done = sedd_here("data", "build", tmp_path / "p.fasta", "-o", tmp_path / "s")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted: nothing was written; the same command starts over\n"
    assert not (tmp_path / "s").exists()
