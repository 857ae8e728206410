"""Weights & Biases: the mode that the run will use, and whether a login is there for it. Reads no key's value."""

import importlib.util
import netrc
from collections.abc import Mapping
from dataclasses import dataclass

from sedd.errors import UsageError
from sedd.home import expand_home
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, ok, warn
from sedd.spec.experiment import Experiment

_HOST = "api.wandb.ai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    mode: str
    decided_by: str
    is_installed: bool
    login: str | None
    """Where a login was found; None: nowhere."""
    project: str


def gather(context: CheckContext) -> Facts:
    asked = context.training_run.tracking
    tracking = asked.at_site(context.profile.wandb)
    return Facts(
        mode=tracking.wandb,
        decided_by="the spec" if tracking is asked else "the profile",
        is_installed=importlib.util.find_spec("wandb") is not None,
        login=find_login(context.environ),
        project=f"{tracking.entity}/{tracking.project}" if tracking.entity else tracking.project,
    )


def judge(facts: Facts) -> Verdict:
    saw = f"{facts.mode} by {facts.decided_by}"
    if facts.mode == "disabled":
        return ok(f"{saw}; metrics.jsonl is always written")
    if not facts.is_installed:
        return warn(f"{saw}, but wandb is not installed: metrics.jsonl alone", "pip install wandb")
    if facts.mode == "offline":
        return ok(f"{saw}, project {facts.project}; `wandb sync` sends it later")
    if facts.login is None:
        return warn(
            f"{saw}, but not logged in: the run continues offline",
            "wandb login, or tracking.wandb: offline",
        )
    return ok(f"{saw}, project {facts.project}; login in {facts.login}")


def find_login(environ: Mapping[str, str]) -> str | None:
    """Where wandb would find a key, or None."""
    if environ.get("WANDB_API_KEY"):
        return "$WANDB_API_KEY"
    host = environ.get("WANDB_BASE_URL", f"https://{_HOST}").split("//")[-1].strip("/")
    try:
        path = expand_home(environ.get("NETRC") or f"{environ.get('HOME', '~')}/.netrc")
        found = netrc.netrc(str(path)).authenticators(host)
    except (OSError, UsageError, netrc.NetrcParseError):
        return None
    return str(path) if found and found[2] else None


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.JOB,
    catches="online tracking without a login, or without wandb",
    takes="< 0.1 s",
    passing=Facts(mode="offline", decided_by="the spec", is_installed=True, login=None, project="sedd"),
    failing=Facts(mode="online", decided_by="the spec", is_installed=True, login=None, project="sedd"),
)
