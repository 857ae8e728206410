"""The kernels that are compiled for this very card, against the same network by torch's operators: one step of each."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.preflight.read.compare_networks import Errors, busy_network, errors, one_step, release_gpu_memory
from sedd.preflight.read.device import training_device, training_dtype, training_kernels
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    import torch

_HINT = "training.kernels: torch trains as well, slower and with more memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str
    problem: str | None
    """Why they cannot be used here."""
    errors: Errors | None
    """Against the network by torch's operators; None where they cannot be used."""
    seconds: float
    """To compile and load them."""


def gather(context: CheckContext) -> Facts | None:
    device = training_device(context)
    asked = training_kernels(context, device)
    if asked == "torch" or (asked is None and device.type == "cpu"):
        return None
    from sedd.model.block_ops import why_not_fused

    dtype, hidden = training_dtype(context, device), context.training_run.model.hidden
    started = time.perf_counter()
    problem = why_not_fused(device, dtype, hidden)
    seconds = time.perf_counter() - started
    found = None if problem else _compare(context, device, dtype)
    return Facts(asked=asked or "auto", problem=problem, errors=found, seconds=seconds)


def judge(facts: Facts) -> Verdict:
    if facts.errors is None:
        saw = f"no fused kernels: {facts.problem}"
        if facts.asked == "fused":
            return fail(saw, _HINT)
        return warn(saw, f"continuing without the fused kernels; {_HINT}")
    saw = f"compiled for this card in {facts.seconds:.1f} s; against torch's operators {facts.errors}"
    if not facts.errors.are_small:
        return fail(saw, f"the card or its driver computes wrongly; {_HINT}")
    return ok(saw)


def _compare(context: CheckContext, device: "torch.device", dtype: "torch.dtype") -> Errors:
    """At the spec's own batch."""
    import torch

    # The random numbers that training draws must not depend on whether preflight ran.
    with torch.random.fork_rng([device]):
        model, compute = busy_network(context, device), one_step(context, device, dtype)
        model.kernels = "fused"
        seen = compute(model, model)
        model.kernels = "torch"
        found = errors(seen, compute(model, model), dtype)
    del model, compute, seen
    release_gpu_memory(device)
    return found


_EXACT = Facts(
    asked="auto", problem=None, errors=Errors(dtype="float16", output=2e-3, gradient=4e-3), seconds=0.8
)

CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="a card for which the fused kernels do not compile, or that computes wrong numbers with them",
    takes="2 s",
    passing=_EXACT,
    failing=replace(_EXACT, errors=Errors(dtype="float16", output=0.6, gradient=0.8)),
)
