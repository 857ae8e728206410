"""The profile's `setup` lines: whether one of them failed on this node."""

from dataclasses import dataclass

from sedd.cluster.setup import setup_failure
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, ok, warn


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    failure: str | None
    """Which line failed, in a sentence."""


def gather(context: CheckContext) -> Facts | None:
    if context.site is None or not context.site.setup or context.run is None:
        return None
    return Facts(failure=setup_failure(context.site, context.environ))


def judge(facts: Facts) -> Verdict:
    if facts.failure is None:
        return ok("every line of setup: succeeded")
    return warn(facts.failure, "mend the line; the job goes on for setup_must_succeed: false in the profile")


CHECK = Check(
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="a line of `setup` that fails, such as a module that is not there, where the profile lets the job go on",
    takes="< 0.1 s",
    passing=Facts(failure=None),
    failing=Facts(failure="line 2 of setup: in the profile failed with exit code 127: conda activate sedd"),
)
