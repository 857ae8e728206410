"""W&B: one run whatever the number of attempts, no login needed, no key anywhere."""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.metrics import read_metrics
from sedd.training.tracking import Silent, has_login, start_tracker, wandb_id
from tests.tiny import tiny_spec, train_process

MakeRun = Callable[[Experiment], RunDir]
SECRET = "0123456789abcdef0123456789abcdef01234567"


def tracked(experiment: Experiment, mode: str) -> Experiment:
    return experiment.model_copy(update={"tracking": experiment.tracking.model_copy(update={"wandb": mode})})


def offline_history(run: RunDir) -> list[tuple[str, dict[str, str]]]:
    """(run id, row) of every history row in the run's offline files."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for path in sorted(run.wandb.glob("wandb/offline-run-*/*.wandb")):
        identity = ""
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            identity = record.run.run_id or identity
            if record.HasField("history"):
                items = record.history.item
                rows.append((identity, {i.key or "/".join(i.nested_key): i.value_json for i in items}))
    return rows


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """Whole records of a file in LevelDB's log format, behind W&B's own header of seven bytes.

    Blocks of 32 KiB hold fragments: checksum (4 bytes), length (2), type (1: whole, 2: first, 3: middle, 4: last).
    """
    position, record = 7, b""
    while position + 7 <= len(content):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        fragment = content[position + 7 : position + 7 + length]
        if kind not in (1, 2, 3, 4) or len(fragment) < length:
            return  # a killed writer's torn end
        record = fragment if kind in (1, 2) else record + fragment
        if kind in (1, 4):
            yield record
        position += 7 + length


def test_five_requeues_leave_one_run_with_every_row_once(store: Path, make_run: MakeRun) -> None:
    """Stops at a logged step, between two, and at the first step after a start; two before the first row."""
    run = make_run(tracked(tiny_spec(store), "offline"))
    for attempt, step in enumerate([1, 1, 2, 9, 14], 1):
        assert train_process(run, attempt=attempt, end=f"stop:{step}") == 75
    assert train_process(run, attempt=6) == 0
    rows = offline_history(run)
    assert {identity for identity, _ in rows} == {wandb_id(run)}
    assert [int(row["step"]) for _, row in rows] == [row["step"] for row in read_metrics(run.metrics)]
    assert len(rows) == 13  # every second of 24 steps, and step 9, which validates
    assert [float(row["loss"]) for _, row in rows] == [row["loss"] for row in read_metrics(run.metrics)]


def test_a_kill_leaves_no_gap_and_no_second_curve(store: Path, make_run: MakeRun) -> None:
    run = make_run(tracked(tiny_spec(store), "offline"))
    for attempt, end in enumerate(["kill:7", "kill:13", "never"], 1):
        train_process(run, attempt=attempt, end=end)
    rows = offline_history(run)
    assert {identity for identity, _ in rows} == {wandb_id(run)}
    assert {(int(r["step"]), float(r["loss"])) for _, r in rows} == {
        (r["step"], r["loss"]) for r in read_metrics(run.metrics)
    }


def test_disabled_and_other_ranks_track_nothing(store: Path, make_run: MakeRun) -> None:
    quiet, loud = tiny_spec(store), tracked(tiny_spec(store), "offline")
    run = make_run(loud)
    assert isinstance(start_tracker(run, quiet, is_first=True, notify=print), Silent)
    assert isinstance(start_tracker(run, loud, is_first=False, notify=print), Silent)
    assert not run.wandb.exists()


def test_online_without_a_login_goes_on_offline_and_says_so(
    store: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    said: list[str] = []
    experiment = tracked(tiny_spec(store), "online")
    run = make_run(experiment)
    tracker = start_tracker(run, experiment, is_first=True, notify=said.append)
    tracker.log({"step": 1, "loss": 2.0})
    tracker.finish()
    assert "no login" in said[0]
    assert "wandb sync" in said[1]
    until = time.monotonic() + 20  # the service writes the file a moment after finish() returns
    while not offline_history(run) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(offline_history(run)) == 1


def test_a_login_is_found_in_environment_or_netrc(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    assert not has_login({"NETRC": str(netrc)})
    netrc.write_text(f"machine api.wandb.ai\n  login user\n  password {SECRET}\n")
    netrc.chmod(0o600)
    assert has_login({"NETRC": str(netrc)})
    assert has_login({"NETRC": str(tmp_path / "none"), "WANDB_API_KEY": SECRET})


def test_no_key_reaches_the_run_folder(store: Path, make_run: MakeRun) -> None:
    run = make_run(tracked(tiny_spec(store, steps=3), "offline"))
    driver = Path(__file__).parent / "train_process.py"
    environment = os.environ | {"WANDB_API_KEY": SECRET}
    done = subprocess.run(
        [sys.executable, driver, run.path, "1", "never"], env=environment, capture_output=True
    )
    assert done.returncode == 0
    assert SECRET.encode() not in done.stdout + done.stderr
    files = [p for p in run.path.rglob("*") if p.is_file()]
    assert any(p.suffix == ".wandb" for p in files)
    assert not [p for p in files if SECRET.encode() in p.read_bytes()]
