"""A sweep as job arrays, against the site's MaxArraySize: how many arrays it takes, or that there are none."""

from collections import Counter
from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok, warn
from sedd.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    groups: tuple[int, ...]
    """Runs that ask for the same resources: an array has one set of them."""
    max_array_size: int
    """One more than the largest index; 0: the site has no arrays."""
    parallel: int | None


def gather(context: CheckContext) -> Facts | None:
    if context.site is None or len(context.runs_together) == 1:
        return None
    groups = Counter((e.name, e.resources.model_dump_json()) for e in context.runs_together)
    return Facts(
        groups=tuple(groups.values()),
        max_array_size=context.slurm.config().max_array_size,
        parallel=context.parallel,
    )


def judge(facts: Facts) -> Verdict:
    runs, largest = sum(facts.groups), facts.max_array_size
    if largest < 1:
        return fail(
            f"{counted(runs, 'run')}, and this site has no job arrays (MaxArraySize=0)",
            "submit the points one by one: the spec without sweep, and --set for each",
        )
    arrays = sum(-(-group // largest) for group in facts.groups)
    saw = f"{counted(runs, 'run')} in {counted(arrays, 'array')}"
    saw += f", indices up to {min(max(facts.groups), largest) - 1} (MaxArraySize={largest})"
    if max(facts.groups) > largest:
        saw += ": split to fit"
    at_once = _at_once(facts, arrays)
    if facts.parallel is None or at_once <= facts.parallel:
        return ok(saw)
    return warn(
        f"{saw}; SLURM limits each array by itself: {counted(at_once, 'run')} at a time, not {facts.parallel}",
        f"a larger sweep.parallel, or a sweep that is one array: at most {counted(largest, 'run')} "
        "of the same resources",
    )


def _at_once(facts: Facts, arrays: int) -> int:
    """Runs at a time: the limit is shared out over the arrays, each of which gets one at least."""
    return arrays * max(1, (facts.parallel or 0) // arrays)


CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="a sweep larger than the site's job arrays, or a site without them",
    takes="< 0.1 s",
    passing=Facts(groups=(1200,), max_array_size=1001, parallel=8),
    failing=Facts(groups=(12,), max_array_size=0, parallel=None),
)
