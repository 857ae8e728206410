"""The node's Python and torch against those of the login node: a job's setup lines may load others."""

import importlib.metadata
import platform
from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, ok, warn
from sedd.rundir.layout import read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    at_submit: tuple[tuple[str, str], ...]
    here: tuple[tuple[str, str | None], ...]


def gather(context: CheckContext) -> Facts | None:
    if context.run is None or not context.is_first_here:
        return None
    noted: dict[str, str] = read_manifest(context.run).get("versions") or {}
    here = ((name, _version(name)) for name in noted)
    return Facts(at_submit=tuple(noted.items()), here=tuple(here)) if noted else None


def judge(facts: Facts) -> Verdict:
    here = dict(facts.here)
    other = [
        f"{name} {here[name] or 'not installed'}, was {version}"
        for name, version in facts.at_submit
        if here[name] != version
    ]
    if other:
        return warn(
            f"other versions than at the login node: {'; '.join(other)}",
            "submit from the environment that the profile's setup lines make, or leave them out",
        )
    return ok(", ".join(f"{name} {version}" for name, version in facts.at_submit) + ", as at the login node")


def _version(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_NOTED = (("python", "3.11.9"), ("torch", "2.10.0+cu128"))

CHECK = Check(
    sides=(Side.NODE,),
    fault=Fault.NODE,
    catches="another Python or torch on the node than the one that was checked at the login node",
    takes="< 0.1 s",
    passing=Facts(at_submit=_NOTED, here=_NOTED),
    failing=Facts(at_submit=_NOTED, here=(("python", "3.12.1"), ("torch", "2.10.0+cu128"))),
)
