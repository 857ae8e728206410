"""How fast this card multiplies matrices and copies memory, beside what the same card did in earlier jobs."""

import contextlib
import datetime as dt
import socket
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, ok, warn
from sedd.preflight.read.device import training_device, training_dtype
from sedd.rundir.card_history import CardSpeed, append_speed, history_path, read_speeds
from sedd.spec.experiment import Experiment
from sedd.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

SLOWER = 0.15
"""A card that does so much less than its median has become slow."""
_ENOUGH, _RECENT = 3, 20
_SIZE, _COPY_BYTES = 4096, 1 << 29
_TURNS, _REPEATS = 3, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    host: str
    now: CardSpeed
    earlier: tuple[CardSpeed, ...]
    """Of the same card in the same number format, oldest first."""


def gather(context: CheckContext) -> Facts | None:
    if context.training_run.resources.gpus_per_node == 0:
        return None
    device = training_device(context)
    if device.type != "cuda":  # the check `torch_device` says so
        return None
    host = context.environ.get("SEDD_HOST") or socket.gethostname()
    now = _measure(device, training_dtype(context, device))
    if context.run is None:
        return Facts(host=host, now=now, earlier=())
    path = history_path(context.run.path.parent.parent, host)
    earlier = [past for past in read_speeds(path) if (past.card, past.dtype) == (now.card, now.dtype)]
    with contextlib.suppress(OSError):  # a full disk has a check of its own
        append_speed(path, now)
    return Facts(host=host, now=now, earlier=tuple(earlier[-_RECENT:]))


def judge(facts: Facts) -> Verdict:
    now = facts.now
    saw = f"{now.name}: {now.tflops:.1f} TFLOP/s in {now.dtype}, {now.gb_per_s:.0f} GB/s"
    if len(facts.earlier) < _ENOUGH:
        return ok(saw)
    tflops = statistics.median(past.tflops for past in facts.earlier)
    gb_per_s = statistics.median(past.gb_per_s for past in facts.earlier)
    usual = f"{tflops:.1f} and {gb_per_s:.0f} in {counted(len(facts.earlier), 'job')} since {facts.earlier[0].t[:10]}"
    if min(now.tflops / tflops, now.gb_per_s / gb_per_s) >= 1 - SLOWER:
        return ok(f"{saw}, as usual ({usual})")
    return warn(
        f"{saw}; the same card on {facts.host} had a median of {usual}",
        "used by others, too hot, or worn: report it; retry.exclude_slow: true avoids the node next time",
    )


def _measure(device: "torch.device", dtype: "torch.dtype") -> CardSpeed:
    import torch

    properties = torch.cuda.get_device_properties(device)
    left = torch.randn(_SIZE, _SIZE, device=device, dtype=dtype)
    product = torch.empty_like(left)
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    multiply_s = _seconds(lambda: torch.mm(left, left, out=product))
    copy_s = _seconds(lambda: target.copy_(source))
    return CardSpeed(
        t=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        card=str(getattr(properties, "uuid", "") or device.index),
        name=properties.name,
        dtype=str(dtype).removeprefix("torch."),
        tflops=round(2 * _SIZE**3 / multiply_s / 1e12, 2),
        gb_per_s=round(2 * _COPY_BYTES / copy_s / 1e9, 1),
    )


def _seconds(work: "Callable[[], object]") -> float:
    """Of one call, by the card's clock: the quickest turn, after one that wakes the card."""
    import torch

    turns: list[float] = []
    for _ in range(1 + _TURNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(_REPEATS):
            work()
        end.record()
        end.synchronize()
        turns.append(begin.elapsed_time(end) / 1000 / _REPEATS)
    return min(turns[1:])


_NOW = CardSpeed(
    t="2026-11-22T10:00:00+00:00",
    card="GPU-0",
    name="Tesla V100-SXM2-32GB",
    dtype="float16",
    tflops=91.0,
    gb_per_s=770.0,
)
_USUAL = Facts(host="node7", now=_NOW, earlier=(_NOW,) * 12)

CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="a card that has become slower than it was in earlier jobs of this runs folder",
    takes="0.2 s",
    passing=_USUAL,
    failing=replace(_USUAL, now=replace(_NOW, tflops=62.0)),
)
