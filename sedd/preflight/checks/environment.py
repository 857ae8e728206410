"""Variables of the submitting shell that the job will not get although somebody may count on them, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from sedd.cluster.inherited import RULES, Reader, Rule, withheld_from
from sedd.cluster.profile import LocalProfile, Profile
from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn

_NAMED = 6
"""Variables that are named one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    withheld: tuple[tuple[str, str, Rule], ...]
    """Name, value and rule of each variable that the job does not get."""


def gather(context: CheckContext) -> Facts:
    return facts_of(context.environ, reader_of(context.profile))


def reader_of(profile: Profile) -> Reader:
    return Reader.LOCAL_JOB if isinstance(profile, LocalProfile) else Reader.SLURM_JOB


def facts_of(environ: Mapping[str, str], reader: Reader) -> Facts:
    withheld = withheld_from(reader, environ)
    return Facts(withheld=tuple((name, environ[name], rule) for name, rule in sorted(withheld.items())))


def judge(facts: Facts) -> Verdict:
    wishes = [(f"{name}={value}", rule) for name, value, rule in facts.withheld if rule.is_wish]
    if wishes:
        saw = "; ".join(f"{names} does not count: {reason}" for reason, names in _by_reason(wishes).items())
        return warn(saw, "write what you want in the profile or the spec, and unset the variables")
    if facts.withheld:
        leftovers = [(name, rule) for name, _, rule in facts.withheld]
        told = "; ".join(f"{names} ({reason})" for reason, names in _by_reason(leftovers).items())
        return ok(f"not passed on: {told}")
    return ok("nothing in it is about another job, rank or W&B run")


def _by_reason(said: list[tuple[str, Rule]]) -> dict[str, str]:
    """Reason → the variables that it is about, as one text."""
    grouped: dict[str, list[str]] = {}
    for text, rule in said:
        grouped.setdefault(rule.reason, []).append(text)
    return {
        reason: ", ".join(texts[:_NAMED])
        + (f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else "")
        for reason, texts in grouped.items()
    }


_SBATCH = next(rule for rule in RULES if rule.covers("SBATCH_PARTITION"))

CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="SBATCH_PARTITION, WANDB_RUN_ID and the like, set for another job, which do not count for this one",
    takes="< 0.1 s",
    passing=Facts(withheld=()),
    failing=Facts(withheld=(("SBATCH_PARTITION", "debug", _SBATCH),)),
)
