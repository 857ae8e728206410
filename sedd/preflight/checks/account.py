"""The account that the profile charges: the user's own, and whether SLURM looks at it at all."""

import os
from dataclasses import dataclass

from sedd.cluster.accounts import query_accounts
from sedd.cluster.users import user_name
from sedd.preflight.check import SLURM_TIMEOUT_S, Check, CheckContext, Side, Verdict, fail, ok, warn

_ENFORCED_BY = {"associations", "limits", "qos", "safe", "all"}  # each of the others implies the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked: str | None
    is_enforced: bool
    """Whether SLURM refuses jobs that are charged to somebody else's account."""
    mine: tuple[str, ...] | None
    """None: this SLURM keeps no accounts."""


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    config = context.slurm.config()
    is_enforced = bool(_ENFORCED_BY & set(config.enforced))
    if context.site.account is None and not is_enforced:
        return None
    mine = (
        query_accounts(user_name(os.geteuid()), timeout_s=SLURM_TIMEOUT_S) if config.has_accounting else None
    )
    return Facts(asked=context.site.account, is_enforced=is_enforced, mine=mine)


def judge(facts: Facts) -> Verdict:
    if facts.mine is None:
        return ok(f"this SLURM keeps no accounts: {facts.asked} is ignored")
    yours = f"yours: {', '.join(facts.mine) or 'none'}"
    hint = f"account: in the profile; {yours}" if facts.mine else "ask the site for an account"
    if facts.asked is None:
        return ok(f"your default account ({yours})") if facts.mine else fail("you have no account here", hint)
    if facts.asked.lower() in facts.mine:  # SLURM keeps them in lower case
        return ok(f"{facts.asked} is one of yours")
    if facts.is_enforced:
        return fail(f"account {facts.asked} is not yours: SLURM refuses the job", hint)
    return warn(f"account {facts.asked} is not yours; SLURM ignores that here", hint)


CHECK = Check(
    sides=(Side.LOGIN,),
    of_request=True,
    catches="an account that is misspelt or somebody else's; says where SLURM ignores accounts",
    takes="0.1 s",
    passing=Facts(asked="science", is_enforced=True, mine=("science", "teaching")),
    failing=Facts(asked="sience", is_enforced=True, mine=("science", "teaching")),
)
