"""Arithmetic with a known answer: matrix product and attention, forward and backward, against float64.

The attention is the kernel that training will use, at the spec's own head size and number format.
"""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.preflight.read.device import training_attention, training_device, training_dtype
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

# Largest error in units of the answer's largest entry: some roundings of the format (2^-11, 2^-8, 2^-24).
_TOLERANCE = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 1e-4}
_LENGTHS = (61, 3, 128, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    device: str
    dtype: str
    kernel: str
    errors: tuple[tuple[str, float], ...]
    """Of each quantity; NaN where it is not finite."""


def gather(context: CheckContext) -> Facts | None:
    from sedd.model.attention import attention, explicit_attention, fastest, is_legal

    device = training_device(context)
    dtype, model = training_dtype(context, device), context.training_run.model
    kernel = training_attention(context) or fastest(device, dtype)
    if not is_legal(kernel, device, dtype):  # the check `attention` says so
        return None
    product = _errors("matmul", device, dtype, [(256, model.hidden), (model.hidden, 256)], lambda a, b: a @ b)
    borders = _borders(_LENGTHS)

    def fast(q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        return attention(q, k, v, borders.to(device), max(_LENGTHS), implementation=kernel)

    def exact(q: "torch.Tensor", k: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        return explicit_attention(q, k, v, borders, max(_LENGTHS))

    shape = (sum(_LENGTHS), model.heads, model.hidden // model.heads)
    attended = _errors("attention", device, dtype, [shape] * 3, fast, exact)
    return Facts(
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        kernel=kernel,
        errors=(*product, *attended),
    )


def judge(facts: Facts) -> Verdict:
    tolerance = _TOLERANCE[facts.dtype]
    wrong = [f"{name} off by {error:.1g}" for name, error in facts.errors if not error <= tolerance]
    where = f"{facts.dtype} on {facts.device}, {facts.kernel} attention"
    if wrong:
        return fail(
            f"{where}: {', '.join(wrong)} (allowed: {tolerance:g})",
            "the card computes wrongly, or this torch does on it: another node, then another torch",
        )
    return ok(
        f"{where}: within {max(error for _, error in facts.errors):.1g} of float64, forward and backward"
    )


def _errors(
    name: str,
    device: "torch.device",
    dtype: "torch.dtype",
    shapes: list[tuple[int, ...]],
    fast: "Callable[..., torch.Tensor]",
    exact: "Callable[..., torch.Tensor] | None" = None,
) -> list[tuple[str, float]]:
    """Errors of a function and of its gradients on the device, against float64 on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    # Rounded first: both sides then start from the same numbers.
    inputs = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    near = [x.to(device).requires_grad_() for x in inputs]
    far = [x.double().requires_grad_() for x in inputs]
    answer, expected = fast(*near), (exact or fast)(*far)
    weight = torch.randn(expected.shape, generator=generator).to(dtype)
    with warnings.catch_warnings():
        # Torch's own remark on the first product of a process in a backward pass; it then does what is needed.
        warnings.filterwarnings("ignore", message="Attempting to run cuBLAS")
        # Of a sum: where the gradient of an answer is given, torch imports sympy, which takes half a second.
        gradients = torch.autograd.grad((answer * weight.to(device)).sum(), near)
    expected_gradients = torch.autograd.grad((expected * weight.double()).sum(), far)
    found = [(name, _error(answer, expected))]
    worst = max(map(_error, gradients, expected_gradients), key=lambda e: float("inf") if e != e else e)
    return [*found, (f"{name}'s gradient", worst)]


def _error(seen: "torch.Tensor", expected: "torch.Tensor") -> float:
    return float(
        (seen.detach().cpu().double() - expected.detach()).abs().max() / expected.detach().abs().max()
    )


def _borders(lengths: tuple[int, ...]) -> "torch.Tensor":
    import torch

    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)


_RIGHT = Facts(
    device="cuda:0", dtype="float16", kernel="efficient", errors=(("matmul", 4e-4), ("attention", 6e-4))
)

CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="a card, driver or kernel that computes wrong numbers",
    takes="0.2 s",
    passing=_RIGHT,
    failing=replace(_RIGHT, errors=(("matmul", 4e-4), ("attention", float("nan")))),
)
