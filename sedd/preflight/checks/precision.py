"""The number format that training will use, against what the card computes in hardware."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.preflight.read.device import BF16_FROM, weakest_capability
from sedd.spec.experiment import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str
    needs_gpu: bool
    capability: tuple[int, int] | None
    """Of the weakest card; None where it is not known."""


def gather(context: CheckContext) -> Facts:
    needs_gpu = context.training_run.resources.gpus_per_node > 0
    return Facts(
        asked=context.training_run.training.precision,
        needs_gpu=needs_gpu,
        capability=weakest_capability(context) if needs_gpu else None,
    )


def judge(facts: Facts) -> Verdict:
    asked, capability = facts.asked, facts.capability
    if not facts.needs_gpu:
        if asked == "fp16":
            return fail("fp16 on a CPU", "training.precision: auto (fp32 on a CPU)", Fault.JOB)
        return ok(f"{'fp32' if asked == 'auto' else asked} on the CPU")
    if asked == "bf16" and capability is not None and capability < BF16_FROM:
        return fail(
            f"bf16 on compute capability {capability[0]}.{capability[1]}: emulated, slow, O(N²) attention memory",
            "training.precision: auto (fp16 with loss scaling there)",
        )
    if asked == "bf16" and capability is None:
        return warn("bf16, on a card that nobody named", "bf16 needs compute capability 8.0: use auto")
    if asked == "auto" and capability is not None:
        return ok("auto: bf16" if capability >= BF16_FROM else "auto: fp16 with loss scaling")
    return ok(f"{asked}" + (": chosen by the card's capability" if asked == "auto" else ""))


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.CARD,
    catches="bf16 forced on a V100, fp16 on a CPU",
    takes="< 0.1 s",
    passing=Facts(asked="auto", needs_gpu=True, capability=(7, 0)),
    failing=Facts(asked="bf16", needs_gpu=True, capability=(7, 0)),
)
