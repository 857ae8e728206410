"""The ranks of the job find each other and sum a tensor: NCCL on GPUs, gloo on CPUs."""

import datetime as dt
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.preflight.read.device import training_device
from sedd.spec.experiment import Experiment
from sedd.units import counted, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_MEETING = dt.timedelta(seconds=40)
"""Longest wait for the others: they may still be importing torch from a slow file system."""
_SUMMING = dt.timedelta(seconds=15)
_PATIENCE_S = 90.0
"""For all of it: NCCL has no limit for finding the others, as where a network swallows what it sends."""
_PROBE_S = 2.0
"""For an answer of the meeting's host, once nobody has come there."""
_BYTES = 32 << 20
# Rank 0's store stays: training's own meeting, at the same port, goes on in it without a moment in between at which
# another rank would find nobody there.
_stores: list[Any] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    ranks: int
    backend: str
    meeting: str
    problem: str | None
    seconds: float
    """Of one all-reduce."""
    is_right: bool
    absent: tuple[int, ...] = ()
    """Ranks that did not come to the meeting, as far as this one sees."""
    is_cut_off: bool = False
    """Whether this rank cannot reach the meeting's host at all, so that its own node may as well be at fault."""


class _AbsentError(RuntimeError):
    """The others did not come in time."""

    def __init__(self, message: str, ranks: tuple[int, ...], *, is_cut_off: bool = False) -> None:
        super().__init__(message)
        self.ranks, self.is_cut_off = ranks, is_cut_off


def gather(context: CheckContext) -> Facts | None:
    resources = context.training_run.resources
    if context.ranks_size == 1 or resources.ranks_per_node > resources.gpus_per_node > 0:
        return None  # two processes on one card: the check `gpu_memory` says so
    device = training_device(context)
    backend = "nccl" if device.type == "cuda" else "gloo"
    meeting = f"{context.environ['MASTER_ADDR']}:{context.environ['MASTER_PORT']}"
    problem, seconds, is_right = None, 0.0, False
    absent: tuple[int, ...] = ()
    is_cut_off = False
    try:
        seconds, is_right = _within(_PATIENCE_S, lambda: _sum_over_ranks(context, device, backend))
    except _AbsentError as e:
        problem, absent, is_cut_off = str(e), e.ranks, e.is_cut_off
    except RuntimeError as e:  # torch.distributed's errors are subclasses
        problem = str(e).strip().splitlines()[0]
    return Facts(
        ranks=context.ranks_size,
        backend=backend,
        meeting=meeting,
        problem=problem,
        seconds=seconds,
        is_right=is_right,
        absent=absent,
        is_cut_off=is_cut_off,
    )


def judge(facts: Facts) -> Verdict:
    saw = f"{counted(facts.ranks, 'rank')}, {facts.backend}"
    if facts.absent:
        return fail(
            f"{saw}, meeting at {facts.meeting}: {facts.problem}",
            "their logs say how far they came; or the network between nodes: see NCCL_SOCKET_IFNAME, firewalls",
            None if facts.is_cut_off else Fault.PEER,
            facts.absent,
        )
    if facts.problem:
        return fail(
            f"{saw}, meeting at {facts.meeting}: {facts.problem}",
            "another rank failed (its log says why), or the network between nodes: see NCCL_SOCKET_IFNAME, firewalls",
        )
    if not facts.is_right:
        return fail(
            f"{saw}: the sum over the ranks is wrong", "the cards' links compute wrongly: another node"
        )
    speed = format_bytes(_BYTES / max(facts.seconds, 1e-9))
    return ok(f"{saw}: {format_bytes(_BYTES)} summed in {1000 * facts.seconds:.0f} ms ({speed}/s)")


def _within(limit_s: float, work: "Callable[[], tuple[float, bool]]") -> tuple[float, bool]:
    """What the work gives. Raises: what it raises; RuntimeError where it takes longer.

    Then the node fails: where a group of ranks is still being made, training could not make another.
    """
    done: Future[tuple[float, bool]] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except Exception as e:
            done.set_exception(e)

    threading.Thread(target=do, name="preflight-nccl", daemon=True).start()
    try:
        return done.result(limit_s)
    except TimeoutError as e:
        raise RuntimeError(f"no answer within {limit_s:g} s") from e


def _sum_over_ranks(context: CheckContext, device: "torch.device", backend: str) -> tuple[float, bool]:
    """Seconds of an all-reduce, and whether its result is right."""
    import torch
    import torch.distributed as dist

    store = _meet(context)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend, store=store, rank=context.rank, world_size=context.ranks_size, timeout=_SUMMING
    )
    numbers = torch.full((_BYTES // 4,), float(context.rank + 1), device=device)
    dist.all_reduce(numbers)  # the first one connects
    expected = context.ranks_size * (context.ranks_size + 1) / 2
    is_right = bool((numbers == expected).all())
    started = time.perf_counter()
    dist.all_reduce(numbers)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    dist.destroy_process_group()  # not after an error, as in sedd.training.distributed.connected
    return seconds, is_right


def _meet(context: CheckContext) -> Any:
    """The store at the job's meeting point, once all ranks are there. Raises: RuntimeError, _AbsentError."""
    import torch.distributed

    dist: Any = torch.distributed  # its stores are not in its types

    is_host = context.rank == 0 and context.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    place = context.environ["MASTER_ADDR"], int(context.environ["MASTER_PORT"])
    try:
        store = dist.TCPStore(
            *place, context.ranks_size, is_host, timeout=_MEETING, wait_for_workers=False, multi_tenant=True
        )
    except RuntimeError as e:
        if is_host:
            raise
        raise _host_missed(place, str(e)) from e
    _stores.append(store)
    attempt = context.environ.get("SEDD_ATTEMPT", "0")  # keys of their own: training's must not be taken
    mine = dist.PrefixStore(f"preflight-{attempt}", store)
    mine.set(f"here-{context.rank}", "1")
    ranks = range(context.ranks_size)
    try:
        mine.wait([f"here-{rank}" for rank in ranks], _MEETING)
    except RuntimeError as e:
        absent = tuple(rank for rank in ranks if not mine.check([f"here-{rank}"]))
        if not absent:  # the last one came just now
            raise
        named = f"rank{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}"
        raise _AbsentError(f"{named} did not come within {_MEETING.total_seconds():g} s", absent) from e
    return mine


def _host_missed(place: tuple[str, int], problem: str) -> _AbsentError:
    """Rank 0 has not come to open the meeting, or this rank does not get there."""
    try:
        with socket.create_connection(place, timeout=_PROBE_S):
            is_refused = False
    except OSError as e:
        is_refused = isinstance(e, ConnectionRefusedError)
    if is_refused:
        return _AbsentError(f"rank 0 did not come within {_MEETING.total_seconds():g} s", (0,))
    return _AbsentError(problem.strip().splitlines()[0], (0,), is_cut_off=True)


_SOUND = Facts(ranks=4, backend="nccl", meeting="node1:29500", problem=None, seconds=0.004, is_right=True)

CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    limit_s=_PATIENCE_S + 30,
    catches="ranks that do not find each other, a slow or broken network, a bad link between cards",
    takes="1 s, and the wait for the last rank",
    passing=_SOUND,
    failing=replace(_SOUND, problem="rank 3 did not come within 40 s", absent=(3,)),
)
