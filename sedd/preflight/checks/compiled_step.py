"""The compiled network against the network as it is written: one step of each, for specs that ask for torch.compile.

A compiler that is wrong gives no error: it has given each token the noise level of its neighbour's sequence.
"""

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sedd.preflight.check import Check
from sedd.preflight.device import (
    TRITON_FROM,
    capability_of,
    training_attention,
    training_device,
    training_dtype,
)
from sedd.preflight.finding import Verdict, fail, ok
from sedd.preflight.scene import Scene, Side
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from sedd.model.transformer import Transformer

# Largest error in units of the answer's largest entry: the compiler sums in another order, and rounds less often.
_TOLERANCE = {"float16": 3e-2, "bfloat16": 1e-1, "float32": 2e-3}
_LENGTHS = (1.0, 0.03, 0.4, 0.11)  # of the longest allowed; uneven: borders that are off by one must show
_HINT = "training.compile: false trains as well, a little slower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    problem: str | None
    """Why it does not compile."""
    dtype: str
    output_error: float
    gradient_error: float
    seconds: float
    """To compile it, forward and backward."""


def gather(scene: Scene) -> Facts | None:
    asked = scene.training_run.training.compile
    if not asked:
        return None
    import torch

    device = training_device(scene)
    capability = capability_of(device)
    if asked == "auto" and (capability is None or capability < TRITON_FROM):
        return None
    dtype = training_dtype(scene, device)
    problem, output_error, gradient_error, seconds = None, math.nan, math.nan, math.nan
    try:
        # The random numbers that training draws must not depend on whether preflight ran.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            output_error, gradient_error, seconds = _compare(scene, device, dtype)
    except RuntimeError as e:  # the compiler's errors are subclasses
        problem = _reason(str(e))
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return Facts(
        problem=problem,
        dtype=str(dtype).removeprefix("torch."),
        output_error=output_error,
        gradient_error=gradient_error,
        seconds=seconds,
    )


def judge(facts: Facts) -> Verdict:
    if facts.problem is not None:
        return fail(f"torch.compile: {facts.problem}", _HINT)
    tolerance = _TOLERANCE[facts.dtype]
    saw = (
        f"compiled in {facts.seconds:.0f} s; against the network as written ({facts.dtype}) its output is off by "
        f"{facts.output_error:.1g}, its gradient by {facts.gradient_error:.1g}"
    )
    if not (facts.output_error <= tolerance and facts.gradient_error <= tolerance):  # NaN fails too
        return fail(f"{saw} (allowed: {tolerance:g})", f"this torch compiles it wrongly: {_HINT}")
    return ok(saw)


def _compare(scene: Scene, device: "torch.device", dtype: "torch.dtype") -> tuple[float, float, float]:
    """Error of the output, of the gradient, and seconds of the compiled step, at the spec's own batch."""
    import torch

    model, compute = _network(scene, device), _step(scene, device, dtype)
    expected, expected_gradient = compute(model, model)
    started = time.perf_counter()
    output, gradient = compute(torch.compile(model), model)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return _error(output, expected), _error(gradient, expected_gradient), seconds


def _network(scene: Scene, device: "torch.device") -> "Transformer":
    """The spec's network with weights that all matter: many start at zero, and would hide what is wrong."""
    import torch

    from sedd.model.transformer import Transformer

    torch.manual_seed(0)
    spec = scene.training_run
    without_dropout = spec.model.model_copy(update={"dropout": 0.0})
    model = Transformer(
        without_dropout,
        attention=training_attention(scene),
        activation_checkpointing=spec.training.activation_checkpointing,
    )
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    return model.to(device)


def _step(
    scene: Scene, device: "torch.device", dtype: "torch.dtype"
) -> "Callable[[Callable[..., torch.Tensor], Transformer], tuple[torch.Tensor, torch.Tensor]]":
    """A function that gives output and gradient of a network (compiled or not) on one packed batch."""
    import torch

    borders = _borders(scene.training_run.training.micro_batch_residues, scene.training_run.data.max_length)
    cu_seqlens = torch.tensor(borders, dtype=torch.int32, device=device)
    tokens = torch.randint(4, 24, (borders[-1],), device=device)
    # Neighbours at opposite ends of the schedule.
    sigma_bar = torch.tensor([0.05 if n % 2 else 6.0 for n in range(len(borders) - 1)], device=device)
    max_length = scene.training_run.data.max_length

    def compute(
        forward: "Callable[..., torch.Tensor]", model: "Transformer"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
            output = forward(tokens, cu_seqlens, sigma_bar, max_length=max_length).float()
        loss = torch.nn.functional.cross_entropy(output, tokens)
        torch.autograd.backward(loss * 1024.0)  # away from fp16's smallest numbers
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
        return output.detach(), gradient

    return compute


def _borders(residues: int, longest: int) -> list[int]:
    """Ends of uneven sequences that fill the batch, from 0 on."""
    borders = [0]
    while borders[-1] < residues:
        length = max(1, int(longest * _LENGTHS[len(borders) % len(_LENGTHS)]))
        borders.append(min(residues, borders[-1] + length))
    return borders


def _error(seen: "torch.Tensor", expected: "torch.Tensor") -> float:
    return float((seen.float() - expected.float()).abs().max() / expected.float().abs().max())


def _reason(text: str) -> str:
    """The line of a compiler's error that says what is wrong, not which stage said so."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith("raised:")), "it failed without a word")


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    limit_s=300.0,
    catches="a compiler that fails, or makes another network of it (only with training.compile)",
    takes="the compilation, which training's own then finds done",
    gather=gather,
    judge=judge,
    passing=Facts(problem=None, dtype="float16", output_error=2e-3, gradient_error=4e-3, seconds=25.0),
    failing=Facts(problem=None, dtype="float16", output_error=0.6, gradient_error=0.8, seconds=25.0),
)
