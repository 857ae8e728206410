"""Copies of a state: what was when they were taken, whatever comes after, in the same memory."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sedd.rundir.layout import RunDir, list_checkpoints
from sedd.spec.experiment import Experiment
from sedd.training.async_saver import Saver
from sedd.training.checkpoint_file import checkpoint_path, read_checkpoint, write_checkpoint
from sedd.training.host_copy import SnapshotMemory
from tests.tiny import tiny_spec

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=on_gpu)]


def a_state(device: str, *, width: int = 1000) -> dict[str, Any]:
    """Tensors of every kind that a training has, in every container that it has."""
    return {
        "format": 1,
        "step": 3,
        "model": {"weight": torch.arange(width, dtype=torch.float32, device=device).view(10, -1)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(7, device=device).bfloat16()}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}],
        },
        "flags": [torch.tensor([True, False, True], device=device), torch.tensor(5, device=device)],
        "none": torch.empty(0, 4, device=device),
    }


def taken(memory: SnapshotMemory, state: dict[str, Any]) -> dict[str, Any]:
    memory.reserve(state)
    return memory.take(state).contents()


def assert_same(value: Any, expected: Any) -> None:
    assert type(value) is type(expected)
    if isinstance(value, Tensor):
        assert value.device.type == "cpu"
        torch.testing.assert_close(value, expected, rtol=0, atol=0, check_device=False)
    elif isinstance(value, dict):
        assert list(value) == list(expected)
        for key in value:
            assert_same(value[key], expected[key])
    elif isinstance(value, list | tuple):
        for one, other in zip(value, expected, strict=True):
            assert_same(one, other)
    else:
        assert value == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_copy_is_what_was_copied(device: str) -> None:
    assert_same(taken(SnapshotMemory(), a_state(device)), a_state(device))


@pytest.mark.parametrize("device", DEVICES)
def test_later_steps_do_not_change_a_copy(device: str) -> None:
    memory, state = SnapshotMemory(), a_state(device)
    memory.reserve(state)
    copy = memory.take(state)
    state["model"]["weight"].zero_()
    state["optimizer"]["state"][0]["step"] += 1
    state["optimizer"]["param_groups"][0]["lr"] = 0.0
    state["flags"].clear()
    assert_same(copy.contents(), a_state(device))


@pytest.mark.parametrize("device", DEVICES)
def test_the_next_copy_takes_the_same_memory_and_a_larger_one_more(device: str) -> None:
    memory = SnapshotMemory()
    first = taken(memory, a_state(device))["model"]["weight"].data_ptr()
    assert taken(memory, a_state(device))["model"]["weight"].data_ptr() == first
    assert_same(taken(memory, a_state(device, width=50_000)), a_state(device, width=50_000))


@pytest.mark.parametrize("device", DEVICES)
def test_a_file_of_a_copy_is_that_of_the_state_itself(device: str, tmp_path: Path) -> None:
    memory, state = SnapshotMemory(), a_state(device)
    write_checkpoint(tmp_path, 1, taken(memory, state))
    write_checkpoint(tmp_path, 2, state)
    copied, itself = (read_checkpoint(checkpoint_path(tmp_path, step)) for step in (1, 2))
    assert_same(copied, a_state("cpu"))
    weights = [state["model"]["weight"] for state in (copied, itself)]
    assert [weight.untyped_storage().nbytes() for weight in weights] == [4000, 4000]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("how", ["released", "forgotten"])
def test_memory_that_was_given_back_can_be_had_again(device: str, how: str) -> None:
    for _ in range(3):
        memory = SnapshotMemory()
        assert_same(taken(memory, a_state(device)), a_state(device))
        if how == "released":
            memory.release()
            assert_same(taken(memory, a_state(device)), a_state(device))


def test_a_save_that_gets_no_memory_is_put_off_and_the_next_may_pass(
    make_run: Callable[[Experiment], RunDir], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, said = tiny_spec(store), list[str]()
    run = make_run(spec)
    saver = Saver(
        run, spec.training.checkpoint, attempt=1, make_rows_durable=lambda: None, notify=said.append
    )
    with monkeypatch.context() as full:
        full.setattr("sedd.training.host_copy._own_pages", no_memory)
        saver.prepare(a_state("cpu"))
        saver.save_in_background(3, a_state("cpu"))
    assert said == ["checkpoint put off, training continues: Cannot allocate memory"]
    saver.save_in_background(4, a_state("cpu"))
    saver.close()
    assert [path.name for path in list_checkpoints(run.checkpoints)] == ["step-00000004.pt"]


def no_memory(size: int) -> Tensor:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_nobody_waits_for_a_copy_but_who_reads_it() -> None:
    memory, state = SnapshotMemory(), a_state("cuda", width=10 << 20)
    memory.reserve(state)
    torch.cuda._sleep(1 << 30)  # the GPU is busy for about half a second
    copy, done = memory.take(state), torch.cuda.Event()
    state["model"]["weight"].zero_()
    done.record()
    assert not done.query()
    weight = copy.contents()["model"]["weight"]
    assert weight.is_pinned()
    assert weight.view(-1)[-1] == (10 << 20) - 1
    memory.release()
