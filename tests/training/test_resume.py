"""Exact resume: however often a run is interrupted, it ends with the same bits."""

import dataclasses
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sedd.data.batches import Batches
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.rundir.events import read_events
from sedd.rundir.heartbeat import read_heartbeat, write_heartbeat
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint_file import checkpoint_path, newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.loop import train
from sedd.training.stop import StopFlag
from tests.command_line import BY_PERMISSION
from tests.tiny import MAX_LENGTH, RESIDUES_PER_STEP, tiny_spec, train_process

MakeRun = Callable[[Experiment], RunDir]
KILLED, STOPPED = -signal.SIGKILL, 75


def assert_same_bits(one: object, other: object, where: str = "") -> None:
    """Equal in every tensor, number, key and type."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same_bits(*pair, f"{where}[{i}]")
    else:
        assert one == other, where


def assert_same_end(one: RunDir, other: RunDir) -> None:
    """Weights, EMA, optimizer, scaler, step, and every metric row."""
    first, second = (read_checkpoint(newest_whole(run.checkpoints)) for run in (one, other))
    first.pop("run"), second.pop("run")
    assert_same_bits(first, second)
    assert one.metrics.read_bytes() == other.metrics.read_bytes()


def assert_close_weights(one: RunDir, other: RunDir) -> None:
    """As close as sums in another order leave them."""
    first, second = (read_checkpoint(newest_whole(run.checkpoints)) for run in (one, other))
    for name, weight in second["model"].items():
        torch.testing.assert_close(first["model"][name], weight, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def uninterrupted(store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    from sedd.rundir.layout import create_run
    from sedd.spec.load import dump_resolved

    run = create_run(tmp_path_factory.mktemp("whole"), "tiny", "whole", dump_resolved(tiny_spec(store)))
    assert train_process(run) == 0
    return run


def steps_per_epoch(store: Path) -> int:
    residues = Batches(
        TokenStore.open(store), max_length=MAX_LENGTH, residues=RESIDUES_PER_STEP
    ).residues_per_epoch
    steps, rest = divmod(residues, RESIDUES_PER_STEP)
    assert rest == 0, "the test's store no longer has an epoch that ends at a step"
    return steps


def test_kills_inside_an_epoch_and_at_its_end_leave_the_same_bits(
    store: Path, make_run: MakeRun, uninterrupted: RunDir
) -> None:
    epoch = steps_per_epoch(store)
    run = make_run(tiny_spec(store))
    ends = [f"kill:{epoch - 4}", f"kill:{epoch - 1}", f"kill:{epoch}", "kill:17", "never"]
    exits = [train_process(run, attempt=n, end=end) for n, end in enumerate(ends, 1)]
    assert exits == [KILLED] * 4 + [0]
    assert_same_end(run, uninterrupted)


def test_a_stop_request_loses_no_step(store: Path, make_run: MakeRun, uninterrupted: RunDir) -> None:
    run = make_run(tiny_spec(store))
    assert train_process(run, attempt=1, end="stop:7") == STOPPED
    assert newest_whole(run.checkpoints) == checkpoint_path(run.checkpoints, 7)
    assert train_process(run, attempt=2) == 0
    assert [e.get("step") for e in read_events(run.events) if e.event == "resumed"] == [7]
    assert_same_end(run, uninterrupted)


def test_muon_resumes_to_the_same_bits(store: Path, make_run: MakeRun) -> None:
    spec = tiny_spec(store, optimizer="muon")
    whole, interrupted = make_run(spec), make_run(spec)
    assert train_process(whole) == 0
    assert [
        train_process(interrupted, attempt=n, end=end) for n, end in enumerate(["kill:7", "stop:12"], 1)
    ] == [
        KILLED,
        STOPPED,
    ]
    assert train_process(interrupted, attempt=3) == 0
    assert_same_end(interrupted, whole)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_kills_leave_the_same_bits(
    seed: int, store: Path, make_run: MakeRun, uninterrupted: RunDir
) -> None:
    run = make_run(tiny_spec(store))
    for attempt, step in enumerate(sorted(random.Random(seed).sample(range(1, 24), 3)), 1):
        assert train_process(run, attempt=attempt, end=f"kill:{step}") == KILLED
    assert train_process(run, attempt=4) == 0
    assert_same_end(run, uninterrupted)


def test_a_damaged_newest_checkpoint_is_passed_over(
    store: Path, make_run: MakeRun, uninterrupted: RunDir
) -> None:
    run = make_run(tiny_spec(store))
    assert train_process(run, end="stop:12") == STOPPED
    newest = checkpoint_path(run.checkpoints, 12)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert train_process(run, attempt=2) == 0
    assert [e.get("step") for e in read_events(run.events) if e.event == "resumed"] == [10]
    assert_same_end(run, uninterrupted)


@pytest.mark.parametrize("denied", ["step-00000012.pt", ""])
def test_a_newest_checkpoint_that_may_not_be_read_now_ends_the_attempt_and_the_next_resumes_from_it(
    store: Path, make_run: MakeRun, uninterrupted: RunDir, denied: str
) -> None:
    run = make_run(tiny_spec(store))
    assert train_process(run, end="stop:12") == STOPPED
    path = run.checkpoints / denied
    mode = path.stat().st_mode
    path.chmod(0)
    assert train_process(run, attempt=2, before=BY_PERMISSION) == 1
    path.chmod(mode)
    assert train_process(run, attempt=3) == 0
    assert [e.get("step") for e in read_events(run.events) if e.event == "resumed"] == [12]
    assert_same_end(run, uninterrupted)


def test_steps_that_a_kill_cost_are_told_though_no_row_had_them(store: Path, make_run: MakeRun) -> None:
    run = make_run(tiny_spec(store))
    assert train_process(run, end="stop:7") == STOPPED
    beat = read_heartbeat(run.heartbeat)
    assert beat is not None
    write_heartbeat(
        run.heartbeat, dataclasses.replace(beat, step=12)
    )  # as if it had gone on, and been killed
    assert train_process(run, attempt=2) == 0
    assert [(e.get("step"), e.get("repeats")) for e in read_events(run.events) if e.event == "resumed"] == [
        (7, 5)
    ]


def test_four_ranks_resume_to_the_same_bits(store: Path, make_run: MakeRun) -> None:
    # A sum of two does not depend on its order; of four it does, and with it on how DDP groups its gradients.
    ranks = 4
    spec = tiny_spec(store, residues_per_gpu=RESIDUES_PER_STEP // ranks)
    whole, interrupted = make_run(spec), make_run(spec)
    assert train_process(whole, ranks=ranks) == 0
    assert train_process(interrupted, ranks=ranks, end="stop:8") == STOPPED
    assert train_process(interrupted, ranks=ranks, attempt=2) == 0
    assert_same_end(interrupted, whole)


def test_a_sharded_optimizer_is_the_same_to_the_bit_and_loads_on_any_number_of_ranks(
    store: Path, make_run: MakeRun
) -> None:
    spec = tiny_spec(store)
    sharded = spec.model_copy(update={"training": spec.training.model_copy(update={"shard": "optimizer"})})
    whole, spread = make_run(spec), make_run(sharded)
    assert train_process(whole, ranks=2) == 0
    assert train_process(spread, ranks=2, end="stop:8") == STOPPED
    assert train_process(spread, ranks=2, attempt=2) == 0
    one, other = (read_checkpoint(newest_whole(run.checkpoints)) for run in (whole, spread))
    for part in ("step", "model", "ema", "scaler"):
        assert_same_bits(one[part], other[part], part)
    assert_same_bits(one["optimizer"]["state"], other["optimizer"]["state"])
    assert whole.metrics.read_bytes() == spread.metrics.read_bytes()
    alone = make_run(sharded)
    assert train_process(alone, ranks=2, end="stop:8") == STOPPED
    assert train_process(alone, attempt=2) == 0
    assert_close_weights(alone, whole)


def test_the_number_of_ranks_changes_rounding_only(
    store: Path, make_run: MakeRun, uninterrupted: RunDir
) -> None:
    run = make_run(tiny_spec(store))
    assert train_process(run, ranks=2) == 0
    assert_close_weights(run, uninterrupted)


def test_a_run_refuses_other_data_than_it_began_with(store: Path, make_run: MakeRun, tmp_path: Path) -> None:
    from sedd.data.build import build_store
    from sedd.spec.build import BuildOptions
    from tests.tiny import PROTEINS

    run = make_run(tiny_spec(store))
    assert train_process(run, end="stop:3") == STOPPED
    other = tmp_path / "other.store"
    build_store([PROTEINS], other, BuildOptions(limit=50))
    run.spec.write_text(run.spec.read_text().replace(str(store), str(other)))
    with pytest.raises(DataError, match="changed"):
        train(run, attempt=2, ranks=Ranks(), stop=StopFlag())
