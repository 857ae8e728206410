"""Two processes meet, and training's own meeting at the same port still works afterwards."""

import datetime as dt
import os
import socket
import subprocess
import sys

import pytest
import torch

from sedd.preflight.checks import all_reduce as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Fault, Status

TWO_CARDS = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.device_count() < 2, reason="no two CUDA devices"
    ),
]
RANK = """
import datetime as dt, os
import torch, torch.distributed as dist
from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks import all_reduce as check
from sedd.preflight.context import CheckContext, Side
from sedd.spec.experiment import Experiment
from pathlib import Path

rank, size, gpus = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "GPUS"))
experiment = Experiment.model_validate({"name": "x", "data": {"store": "/"}, "training": {"steps": 1},
                                        "resources": {"gpus_per_node": gpus}})
context = CheckContext(side=Side.NODE, experiment=experiment, profile=LocalProfile(executor="local"), folder=Path("/"),
              environ=os.environ, rank=rank, local_rank=rank, ranks_size=size)
verdict = check.judge(check.gather(context))
print(verdict.status, verdict.saw, flush=True)
if verdict.status == "OK":
    dist.init_process_group("nccl" if gpus else "gloo", timeout=dt.timedelta(seconds=20))  # as training does
    number = torch.ones(1, device=f"cuda:{rank}" if gpus else "cpu")
    dist.all_reduce(number)
    print("training", int(number), flush=True)
    dist.destroy_process_group()
"""


def start(rank: int, port: int, gpus: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1", "GPUS": str(gpus),
    }  # fmt: skip
    command = [sys.executable, "-c", RANK]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), pytest.param(2, "nccl", marks=TWO_CARDS)])
def test_ranks_sum_and_training_meets_again_at_the_same_port(gpus, backend):
    port = free_port()
    said = [process.communicate(timeout=180)[0] for process in [start(rank, port, gpus) for rank in (0, 1)]]
    for text in said:
        assert f"OK 2 ranks, {backend}: 32.0 MiB summed" in text
        assert "training 2" in text


@pytest.fixture
def hurried(monkeypatch):
    """Nobody is waited for."""
    monkeypatch.setattr(check, "_MEETING", dt.timedelta(seconds=0.3))
    monkeypatch.setattr(check, "_stores", [])


def meeting(port: int, **more: str) -> dict[str, str]:
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **more}


def test_a_rank_that_never_comes_is_a_finding_and_no_traceback(make_context, hurried):
    port = free_port()
    verdict = check.judge(check.gather(make_context(side=Side.NODE, environ=meeting(port), ranks_size=2)))
    assert verdict.status is Status.FAIL
    assert f"2 ranks, gloo, meeting at 127.0.0.1:{port}: " in verdict.saw
    assert "rank 1 did not come" in verdict.saw
    assert (verdict.fault, verdict.absent) == (Fault.PEER, (1,)), "this one has only waited"


def test_who_waits_for_several_names_those_that_never_came(make_context, hurried):
    import torch.distributed as dist

    port = free_port()
    agents = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    agents.set("preflight-0/here-2", "1")
    one_of_four = {"environ": meeting(port, TORCHELASTIC_USE_AGENT_STORE="True"), "ranks_size": 4, "rank": 0}
    verdict = check.judge(check.gather(make_context(side=Side.NODE, **one_of_four)))
    assert "ranks 1, 3 did not come" in verdict.saw
    assert (verdict.fault, verdict.absent) == (Fault.PEER, (1, 3))


@pytest.mark.parametrize(("answer", "fault"), [(ConnectionRefusedError, Fault.PEER), (TimeoutError, None)])
def test_where_the_first_rank_has_not_come_it_is_missed_and_behind_a_cut_cable_perhaps_nobody_is(
    make_context, hurried, monkeypatch, answer, fault
):
    """A machine that is there refuses the connection; without an answer either node may be at fault."""

    def connect(*_: object, **__: object) -> None:
        raise answer

    monkeypatch.setattr(check.socket, "create_connection", connect)
    context = make_context(side=Side.NODE, environ=meeting(free_port()), ranks_size=2, rank=1, local_rank=1)
    verdict = check.judge(check.gather(context))
    assert (verdict.status, verdict.fault, verdict.absent) == (Status.FAIL, fault, (0,))


def test_ranks_that_never_find_each_other_fail_the_node_before_the_check_is_given_up(
    make_context, hurried, monkeypatch
):
    """Unknown would let the training begin: it cannot make a group while this one is still being made."""
    import threading

    released = threading.Event()
    monkeypatch.setattr(check, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(check, "_sum_over_ranks", lambda *_: released.wait(60))
    try:
        context = make_context(side=Side.NODE, environ=meeting(free_port()), ranks_size=2)
        verdict = check.judge(check.gather(context))
    finally:
        released.set()
    assert verdict.status is Status.FAIL
    assert "no answer within 0.2 s" in verdict.saw


def test_preflight_takes_no_key_of_trainings_own(make_context, hurried):
    context = make_context(side=Side.NODE, environ=meeting(free_port(), SEDD_ATTEMPT="3"))
    check._meet(context)
    (store,) = check._stores
    assert store.check(["preflight-3/here-0"])
    assert not store.check(["here-0"])


def test_ranks_of_an_earlier_attempt_are_not_taken_for_this_ones(make_context, hurried):
    """torchrun's agent keeps its store while the ranks are started anew."""
    import torch.distributed as dist

    port = free_port()
    agents = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    for rank in (0, 1):
        agents.set(f"preflight-1/here-{rank}", "1")
    again = meeting(port, SEDD_ATTEMPT="2", TORCHELASTIC_USE_AGENT_STORE="True")
    verdict = check.judge(check.gather(make_context(side=Side.NODE, environ=again, ranks_size=2)))
    assert verdict.status is Status.FAIL
    assert verdict.absent == (1,)


def test_one_process_has_nobody_to_meet(make_context):
    assert check.gather(make_context(side=Side.NODE)) is None


def test_processes_that_share_a_card_are_the_specs_fault_not_the_nodes(make_context, hurried):
    """NCCL would refuse them here, and a FAIL of this check excludes the node."""
    shared = {
        "resources.gpus_per_node": 1,
        "resources.processes_per_node": 2,
        "training.residues_per_step": 1024,
    }
    context = make_context(shared, side=Side.NODE, environ=meeting(free_port()), ranks_size=2)
    assert check.gather(context) is None
