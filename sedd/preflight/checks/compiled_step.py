"""The compiled network against the network as it is written: one step of each, for specs that ask for torch.compile.

A compiler that is wrong gives no error: it has given each token the noise level of its neighbour's sequence.
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.preflight.read.compare_networks import Errors, busy_network, errors, one_step, release_gpu_memory
from sedd.preflight.read.device import is_compiled, training_device, training_dtype
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    import torch

_HINT = "training.compile: false trains as well, with fused kernels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    problem: str | None
    """Why it does not compile."""
    errors: Errors | None
    """Against the network as it is written; None where it does not compile."""
    seconds: float
    """To compile it, forward and backward."""


def gather(context: CheckContext) -> Facts | None:
    if not context.training_run.training.compile:
        return None
    import torch

    device = training_device(context)
    if not is_compiled(context, device):
        return None
    dtype = training_dtype(context, device)
    problem, found, seconds = None, None, math.nan
    try:
        # The random numbers that training draws must not depend on whether preflight ran.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            found, seconds = _compare(context, device, dtype)
    except RuntimeError as e:  # the compiler's errors are subclasses
        problem = _reason(str(e))
    torch.compiler.reset()
    release_gpu_memory(device)
    return Facts(problem=problem, errors=found, seconds=seconds)


def judge(facts: Facts) -> Verdict:
    if facts.errors is None:
        return fail(f"torch.compile: {facts.problem}", _HINT)
    saw = f"compiled in {facts.seconds:.0f} s; against the network as written {facts.errors}"
    if not facts.errors.are_small:
        return fail(saw, f"this torch compiles it wrongly: {_HINT}")
    return ok(saw)


def _compare(context: CheckContext, device: "torch.device", dtype: "torch.dtype") -> tuple[Errors, float]:
    """Errors, and seconds of the compiled step, at the spec's own batch."""
    import torch

    model, compute = busy_network(context, device), one_step(context, device, dtype)
    model.kernels = "torch"
    expected = compute(model, model)
    started = time.perf_counter()
    seen = compute(torch.compile(model), model)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return errors(seen, expected, dtype), seconds


def _reason(text: str) -> str:
    """The line of a compiler's error that says what is wrong, not which stage said so."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith("raised:")), "it failed without a word")


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    limit_s=300.0,
    catches="a compiler that fails, or makes another network of it (only with training.compile)",
    takes="the compilation, which training's own then finds done",
    passing=Facts(problem=None, errors=Errors(dtype="float16", output=2e-3, gradient=4e-3), seconds=25.0),
    failing=Facts(problem=None, errors=Errors(dtype="float16", output=0.6, gradient=0.8), seconds=25.0),
)
