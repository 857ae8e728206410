"""How long the training takes on these cards, and in how many attempts: as earlier runs measured it, else estimated."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.spec.experiment import Experiment
from sedd.units import counted, format_duration

_PATIENCE_S = 2.0
"""For reading what earlier runs measured."""
_LEAST_SHARE = 0.5
"""Of an attempt's time limit that should be left to training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the run, or of all points of a sweep; without waits in the queue, and where estimated without validation.

    Attributes:
        seconds: of each run, over all its attempts, with their starts.
        at_once: how many may run at the same time.
        gpus: of the longest.
        gpu_s: GPU-seconds of all.
        attempts: of the longest.
        usable_s: what start-up and saving leave of an attempt's time limit.
        source: where the speed is from, in words.
        other_card: the site's type of card, where the speed is only known of a V100.
        on_cpus: without GPUs: `gpus` counts processes.
    """

    seconds: tuple[float, ...]
    at_once: int
    gpus: int
    gpu_s: float
    attempts: int
    walltime_s: int
    usable_s: float
    source: str
    other_card: str | None = None
    on_cpus: bool = False


def gather(context: CheckContext) -> Facts | None:
    from sedd.soonest.training_hours import foresee_trainings

    site, trainings = context.site, context.training_runs
    if site is None or context.changed is not None:
        return None
    found = foresee_trainings(trainings, site, context.folder, patience_s=_PATIENCE_S)
    known = [each for each in found if each is not None]
    if not known or len(known) < len(found):
        return None
    longest = max(known, key=lambda each: each.seconds)
    card, is_measured = site.gpu.type or "v100", all(each.is_measured for each in known)
    return Facts(
        seconds=tuple(each.seconds for each in known),
        at_once=min(context.parallel or len(known), len(known)),
        gpu_s=sum(each.seconds * each.shape.layout.gpus for each in known),
        gpus=longest.shape.layout.gpus,
        attempts=longest.attempts,
        walltime_s=longest.shape.walltime_s,
        usable_s=longest.usable_s,
        source=longest.source,
        other_card=None if is_measured or "v100" in card.lower() else card,
        on_cpus=not any(each.resources.gpus_per_node for each in trainings),
    )


def judge(facts: Facts) -> Verdict:
    limit = format_duration(facts.walltime_s)
    if facts.usable_s < _LEAST_SHARE * facts.walltime_s:
        left = format_duration(max(0.0, facts.usable_s))
        return warn(
            f"of an attempt's {limit} start-up and saving leave {left} to training",
            "a longer resources.walltime, as far as the site allows",
        )
    attempts = (
        f"one attempt of {limit}" if facts.attempts == 1 else f"{facts.attempts} attempts of {limit} each"
    )
    source = facts.source
    if facts.other_card is not None:
        source = f"that is of V100s: no run here has measured this network on {facts.other_card}"
    return ok(f"about {_how_long(facts)}, in {attempts}; {source}")


def _how_long(facts: Facts) -> str:
    longest, cards = format_duration(max(facts.seconds)), counted(facts.gpus, "GPU")
    unit, hours = "GPU hours", facts.gpu_s / 3600
    if facts.on_cpus:
        cards, unit = f"{facts.gpus} process{'' if facts.gpus == 1 else 'es'}", "hours of processes"
    cost = f"{hours:.2g} {unit}" if hours < 10 else f"{hours:,.0f} {unit}"
    runs = len(facts.seconds)
    if runs == 1:
        return f"{longest} on {cards} ({cost})"
    together = format_duration(_ends_s(facts.seconds, facts.at_once))
    at_once = "all at once" if facts.at_once == runs else f"{facts.at_once} at a time"
    return f"{together} for {runs} runs ({cost}), {at_once}, each up to {longest} on {cards}"


def _ends_s(seconds: Sequence[float], at_once: int) -> float:
    """When the last ends, if each begins as soon as there is a place for it."""
    ends = [0.0] * at_once
    for each in seconds:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


_SMALL = Facts(
    seconds=(15_900.0,),
    at_once=1,
    gpus=4,
    gpu_s=63_600.0,
    attempts=1,
    walltime_s=86_400,
    usable_s=86_040.0,
    source="estimated for a V100, not measured",
)

CHECK = Check(
    sides=(Side.LOGIN,),
    tasks=(Experiment,),
    of_request=True,
    catches="a time limit that start-up and saving use up; says how long the training takes, once it runs",
    takes="0.1 s",
    passing=_SMALL,
    failing=replace(_SMALL, walltime_s=120, usable_s=0.0, attempts=0),
)
