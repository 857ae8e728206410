"""The kernels that are compiled for this very card, against the same network by torch's operators: one step of each."""

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sedd.preflight.check import Check
from sedd.preflight.device import training_device, training_dtype, training_kernels
from sedd.preflight.finding import Verdict, fail, ok, warn
from sedd.preflight.scene import Scene, Side
from sedd.preflight.twin import TOLERANCE, busy_network, errors, one_step
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    import torch

_HINT = "training.kernels: torch trains as well, slower and with more memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str
    problem: str | None
    """Why they cannot be used here."""
    dtype: str
    output_error: float
    gradient_error: float
    seconds: float
    """To compile and load them."""


def gather(scene: Scene) -> Facts | None:
    device = training_device(scene)
    asked = training_kernels(scene, device)
    if asked == "torch" or (asked is None and device.type == "cpu"):
        return None
    from sedd.model.between import why_not_fused

    dtype, hidden = training_dtype(scene, device), scene.training_run.model.hidden
    started = time.perf_counter()
    problem = why_not_fused(device, dtype, hidden)
    seconds = time.perf_counter() - started
    output_error, gradient_error = (math.nan, math.nan) if problem else _compare(scene, device, dtype)
    return Facts(
        asked=asked or "auto",
        problem=problem,
        dtype=str(dtype).removeprefix("torch."),
        output_error=output_error,
        gradient_error=gradient_error,
        seconds=seconds,
    )


def judge(facts: Facts) -> Verdict:
    if facts.problem is not None:
        saw = f"no fused kernels: {facts.problem}"
        return fail(saw, _HINT) if facts.asked == "fused" else warn(saw, f"it goes on without; {_HINT}")
    tolerance = TOLERANCE[facts.dtype]
    saw = (
        f"compiled for this card in {facts.seconds:.1f} s; against torch's operators ({facts.dtype}) the output is off "
        f"by {facts.output_error:.1g}, the gradient by {facts.gradient_error:.1g}"
    )
    if not (facts.output_error <= tolerance and facts.gradient_error <= tolerance):  # NaN fails too
        return fail(f"{saw} (allowed: {tolerance:g})", f"the card or its driver computes wrongly; {_HINT}")
    return ok(saw)


def _compare(scene: Scene, device: "torch.device", dtype: "torch.dtype") -> tuple[float, float]:
    """Errors of output and gradient at the spec's own batch."""
    import torch

    # The random numbers that training draws must not depend on whether preflight ran.
    with torch.random.fork_rng([device]):
        model, compute = busy_network(scene, device), one_step(scene, device, dtype)
        results = []
        for kernels in ("fused", "torch"):
            model.kernels = kernels
            results.append(compute(model, model))
        found = errors(*results)
    del model, compute, results
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return found


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    catches="a card for which the fused kernels do not compile, or that computes wrong numbers with them",
    takes="2 s",
    gather=gather,
    judge=judge,
    passing=Facts(
        asked="auto", problem=None, dtype="float16", output_error=2e-3, gradient_error=4e-3, seconds=0.8
    ),
    failing=Facts(
        asked="auto", problem=None, dtype="float16", output_error=0.6, gradient_error=0.8, seconds=0.8
    ),
)
