"""Ranks of `sedd train` outside a scheduler: they agree on a run folder, and nobody waits unheard."""

import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed

from sedd.cli import train
from sedd.errors import MissingDataError, RunError, UsageError
from sedd.launch.submitted import find_all_of, require_not_submitted
from sedd.rundir.events import append_event, read_events
from sedd.rundir.find import list_runs
from sedd.rundir.heartbeat import Heartbeat, write_heartbeat
from sedd.rundir.layout import list_checkpoints
from sedd.spec.build import DataTask
from sedd.spec.load import dump_resolved, load_request, load_resolved
from sedd.training import rendezvous
from sedd.training.distributed import Ranks
from sedd.training.rendezvous import StoppedError, share
from sedd.training.stop import StopFlag
from tests.command_line import call
from tests.disk import small_disk
from tests.launch.conftest import LocalRuns, write_events
from tests.tiny import tiny_spec


class SlowReader(torch.distributed.TCPStore):
    """Of a rank that gets to read long after rank 0 has told."""

    def __init__(self, *arguments: object, is_master: bool, **options: object) -> None:
        super().__init__(*arguments, is_master=is_master, **options)
        self.delay_s = 0.0 if is_master else 0.5

    def get(self, key: str) -> bytes:
        time.sleep(self.delay_s)
        return super().get(key)


@pytest.fixture
def environ() -> dict[str, str]:
    """Of two ranks that meet at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] - 1
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0"}


def test_a_slow_rank_learns_the_run_folder_too(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "TCPStore", SlowReader)

    def meet(rank: int) -> str:
        return share(
            lambda: f"made by {rank}", Ranks(rank=rank, size=2), environ, stop=StopFlag(), notify=print
        )

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(meet, (0, 1))) == ["made by 0"] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_who_waits_for_ranks_that_do_not_exist_says_why_and_a_signal_ends_it(
    environ: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "NOTICE_S", 0.2)
    monkeypatch.setattr(rendezvous, "_TRY_S", 0.2)
    stop, told = StopFlag(), threading.Event()
    notices: list[str] = []

    def notify(text: str) -> None:
        notices.append(text)
        told.set()

    with ThreadPoolExecutor(1) as pool:
        ranks = Ranks(rank=rank, size=2)
        waiting = pool.submit(
            share, lambda: "x", ranks, environ | {"RANK": str(rank)}, stop=stop, notify=notify
        )
        assert told.wait(20)
        stop.signal = signal.SIGTERM
        with pytest.raises(StoppedError, match="SIGTERM while waiting for the other 1 ranks of 2"):
            waiting.result(timeout=300)
    assert f"because of RANK={rank} WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" in notices[0]
    assert "unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT" in notices[0]


def test_the_wait_has_an_end(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE_S", 0.3)
    with pytest.raises(RunError, match="waited"):
        share(lambda: "x", Ranks(rank=0, size=2), environ, stop=StopFlag(), notify=print)


@pytest.mark.parametrize(
    ("left_over", "problem"),
    [
        ({"RANK": "3"}, "there is no rank 3 among 1"),
        ({"WORLD_SIZE": "8", "RANK": "0"}, "MASTER_ADDR and MASTER_PORT are not set"),
        ({"WORLD_SIZE": "8", "MASTER_ADDR": "n1", "MASTER_PORT": "1"}, "RANK is not set"),
        ({"RANK": "zero", "WORLD_SIZE": "1"}, "numbers are needed"),
        ({"RANK": "-1", "WORLD_SIZE": "1"}, "numbers are needed"),
    ],
)
def test_variables_of_another_run_that_do_not_go_together_are_refused_at_once(
    left_over: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        Ranks.from_environment(left_over)
    assert all(f"{name}={value}" in caught.value.message for name, value in left_over.items())
    assert "unset" in str(caught.value.hint)


def test_one_rank_alone_needs_no_others() -> None:
    assert Ranks.from_environment({}) == Ranks()
    assert Ranks.from_environment({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "n1"}) == Ranks()


def test_sigterm_ends_the_wait_of_the_command(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("name: x\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "sedd", "train", str(tmp_path / "spec.yaml")],
        env=os.environ | environ | {"WORLD_SIZE": "3"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "waiting for the other 2 ranks of 3, because of RANK=0" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert "SIGTERM while waiting" in process.communicate(timeout=300)[1]
        assert process.returncode == 1
    finally:
        process.kill()


def test_a_store_that_is_not_there_leaves_no_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: a\ndata: {store: nowhere}\ntraining: {steps: 3}\nresources: {gpus_per_node: 0}\n")
    with pytest.raises(MissingDataError, match="nowhere does not exist"):
        call("train", spec)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("shape", [{"gpus_per_node": 0}, {"gpus_per_node": 4, "nodes": 2}])
def test_submit_knows_a_spec_that_trained_in_the_foreground_in_the_shape_of_its_processes(
    shape: dict[str, int], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    spec = tmp_path / "spec.yaml"
    spec.write_text(dump_resolved(tiny_spec(store, steps=2, residues_per_gpu=32)))
    shaped = [f"--set=resources.{key}={value}" for key, value in shape.items()]
    call("train", spec, "--no-preflight", *shaped)
    (asked,) = load_request(spec, [each.removeprefix("--set=") for each in shaped]).experiments
    (run,) = find_all_of(asked, tmp_path / "runs")
    assert load_resolved(run.spec).resources.ranks == 1
    with pytest.raises(RunError, match=f"this spec is submitted already: run .*/{run.id}, completed"):
        require_not_submitted([asked], tmp_path / "runs")


def test_a_run_folder_for_which_the_disk_has_no_room_is_removed_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spec.yaml").write_text(dump_resolved(tiny_spec(store)))
    with small_disk(tmp_path / "disk", size="1m") as disk:
        monkeypatch.setenv("SEDD_RUNS", str(disk / "runs"))
        with pytest.raises(RunError, match="No space left"):
            call("train", tmp_path / "spec.yaml", "--no-preflight")
        assert [path for path in disk.rglob("*") if not path.is_dir()] == []
        assert list_runs(disk / "runs") == []


def test_a_run_that_is_no_training_is_refused_before_an_attempt_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    build = {"inputs": ["/data/proteins.fasta"], "store": "/data/proteins.store"}
    task = DataTask.model_validate({"name": "data", "task": "data", "build": build})
    (run,) = LocalRuns(tmp_path / "runs").make(task)
    write_events(run, {"event": "submitted", "executor": "local"}, {"event": "gave_up", "attempt": 1})
    before = read_events(run.events)
    with pytest.raises(UsageError, match=f"run {run.id} has task: data; only a training"):
        call("train", run.path)
    assert read_events(run.events) == before


@pytest.mark.parametrize("is_over", [False, True])
def test_who_was_slower_does_not_train_beside_another(tmp_path: Path, is_over: bool) -> None:
    """Between the first look and the first event all ranks come; meanwhile somebody else continued the run."""
    (run,) = LocalRuns(tmp_path / "runs").make(tiny_spec(tmp_path))
    before = [{"event": "submitted", "executor": "foreground"}, {"event": "attempt_started", "attempt": 1}]
    here = {"executor": "foreground", "host": socket.gethostname(), "pid": os.getpid()}
    write_events(run, *before, {"event": "gave_up", "attempt": 1})
    now = dt.datetime.now(dt.UTC)
    append_event(run.events, "attempt_started", attempt=2, now=now, **here)
    if is_over:
        append_event(run.events, "gave_up", attempt=2, now=now)
    events = read_events(run.events)
    with pytest.raises(
        RunError, match="continued by another command" if is_over else "trains in the foreground"
    ):
        train._begin(run, 2, Ranks())
    assert read_events(run.events) == events


def test_all_ranks_save_their_parts_in_the_attempt_that_rank_0_began(
    environ: dict[str, str], tmp_path: Path, store: Path
) -> None:
    """A rank that took another number for its attempt's would take itself for one that was replaced."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(tiny_spec(store, shard="optimizer", steps=7).model_dump_json(exclude_unset=True))
    environ |= {"SEDD_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "sedd", "train", str(spec)],
            env=os.environ | environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], said
    (run,) = list_runs(tmp_path / "runs")
    events = read_events(run.events)
    assert [(e.event, e.attempt) for e in events if e.event == "attempt_started"] == [("attempt_started", 1)]
    assert events[-1].event == "completed"
    newest = list_checkpoints(run.checkpoints)[0]
    assert len(list(run.checkpoints.glob(f"{newest.stem}.*.shard"))) == 2


def test_an_attempt_notes_the_last_heartbeat_of_the_one_before(tmp_path: Path) -> None:
    """By which the time until a kill is known."""
    (run,) = LocalRuns(tmp_path / "runs").make(tiny_spec(tmp_path))
    write_events(run, {"event": "submitted", "executor": "foreground"})
    beat = "2026-11-22T00:00:05+00:00"
    write_heartbeat(
        run.heartbeat, Heartbeat(t=beat, progress_t=beat, attempt=1, phase="training", step=3, steps=9)
    )
    train._begin(run, 1, Ranks())
    assert read_events(run.events)[-1].get("last_beat") == beat


def test_the_ranks_of_one_machine_take_a_card_each_as_far_as_there_are_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [Ranks(size=size).gpus_here() for size in (1, 2, 4, 6)] == [1, 2, 4, 4]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Ranks(size=2).gpus_here() == 0
