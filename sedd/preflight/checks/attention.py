"""The attention kernel that the spec names, against the cards that will run it."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, unknown, warn
from sedd.preflight.read.device import BF16_FROM, precision_name, weakest_capability
from sedd.spec.experiment import Experiment

FLASH_FROM = (8, 0)
TILED_FROM = (7, 0)
"""The first with matrix units."""
_HINT = "training.attention: auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str
    precision: str
    """As the spec has it: auto or a number format."""
    needs_gpu: bool
    capability: tuple[int, int] | None
    """Of the weakest card; None where it is not known."""


def gather(context: CheckContext) -> Facts | None:
    training = context.training_run.training
    if training.attention == "auto":
        return None
    needs_gpu = context.training_run.resources.gpus_per_node > 0
    return Facts(
        asked=training.attention,
        precision=training.precision,
        needs_gpu=needs_gpu,
        capability=weakest_capability(context) if needs_gpu else None,
    )


def judge(facts: Facts) -> Verdict:
    asked, capability = facts.asked, facts.capability
    if asked == "explicit":
        return warn("explicit: memory grows with the square of all residues; it is for tests", _HINT)
    if asked == "padded":
        return ok("padded")
    if not facts.needs_gpu:
        return fail(f"{asked} on a CPU", _HINT, Fault.JOB)
    if capability is None:
        return unknown(f"{asked}, on a card that nobody named", _HINT)
    where = f"compute capability {capability[0]}.{capability[1]}"
    number = precision_name(facts.precision, capability)
    if asked == "flash" and capability < FLASH_FROM:
        return fail(f"flash on {where}: it needs 8.0", _HINT)
    if asked == "flash" and number == "fp32":
        return fail("flash in fp32: it computes in half precision only", _HINT, Fault.JOB)
    if asked == "tiled" and (number != "fp16" or capability < TILED_FROM):
        return fail(f"tiled in {number} on {where}: it computes in fp16, from 7.0 on", _HINT)
    if number == "bf16" and capability < BF16_FROM:
        return fail(f"{asked} in bf16 on {where}: it takes fp16 and fp32 there", "training.precision: auto")
    return ok(f"{asked} in {number} on {where}")


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.CARD,
    catches="an attention kernel forced on a card that cannot run it: flash on a V100",
    takes="< 0.1 s",
    passing=Facts(asked="efficient", precision="auto", needs_gpu=True, capability=(7, 0)),
    failing=Facts(asked="flash", precision="auto", needs_gpu=True, capability=(7, 0)),
)
