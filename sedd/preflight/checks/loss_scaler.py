"""The way out of an fp16 overflow: the scaler skips the step, halves its scale, and goes on."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.preflight.read.device import capability_of, precision_name, training_device
from sedd.spec.experiment import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    skipped_overflow: bool
    scale_before: float
    scale_after: float
    stepped_after: bool


def gather(context: CheckContext) -> Facts | None:
    import torch

    from sedd.model.adamw import AdamW

    device = training_device(context)
    if (
        precision_name(context.training_run.training.precision, capability_of(device)) != "fp16"
        or device.type != "cuda"
    ):
        return None
    weight = torch.ones(8, 8, device=device, requires_grad=True)
    optimizer = AdamW([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**16)

    def step(size: float) -> bool:
        """Whether the weights moved in a step on inputs of this size."""
        before = weight.detach().clone()
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = (torch.full((8, 8), size, device=device) @ weight).float().mean()
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()
        return not torch.equal(before, weight.detach())

    scale_before = scaler.get_scale()
    skipped = not step(60_000.0)  # times the scale: beyond fp16's 65504
    return Facts(
        skipped_overflow=skipped,
        scale_before=scale_before,
        scale_after=scaler.get_scale(),
        stepped_after=step(1e-3),
    )


def judge(facts: Facts) -> Verdict:
    hint = "fp16 training would diverge here: another torch, or another node"
    if not facts.skipped_overflow:
        return fail("a step with overflowed gradients was taken", hint)
    if facts.scale_after >= facts.scale_before:
        return fail(f"the scale stayed at {facts.scale_after:g} after an overflow", hint)
    if not facts.stepped_after:
        return fail("no step was taken after an overflow", hint)
    return ok(f"an overflow was skipped, the scale went from {facts.scale_before:g} to {facts.scale_after:g}")


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="fp16 overflows that reach the weights",
    takes="0.1 s",
    passing=Facts(skipped_overflow=True, scale_before=65536.0, scale_after=32768.0, stepped_after=True),
    failing=Facts(skipped_overflow=False, scale_before=65536.0, scale_after=65536.0, stepped_after=True),
)
