"""Python and the packages that this one requires: installed, and in the range that it names."""

import importlib.metadata
import re
import shlex
import sys
from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, unknown

DISTRIBUTION = "protein-sedd"
PYTHON_FROM = (3, 11)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(;.*)?")
_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][^,\s]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    python: tuple[int, int, int]
    required: tuple[tuple[str, str], ...] | None
    """Package and range, `("torch", ">=2.6,<2.14")`; None when this package has no metadata."""
    installed: tuple[tuple[str, str], ...]


def gather(context: CheckContext) -> Facts | None:
    if not context.is_first_here:
        return None
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return Facts(python=sys.version_info[:3], required=None, installed=())
    required = parse_requirements(lines)
    versions = ((name, _version(name)) for name, _ in required)
    installed = tuple((name, version) for name, version in versions if version)
    return Facts(python=sys.version_info[:3], required=required, installed=installed)


def judge(facts: Facts) -> Verdict:
    python = ".".join(map(str, facts.python))
    if facts.python[:2] < PYTHON_FROM:
        return fail(
            f"Python {python}",
            f"needs {PYTHON_FROM[0]}.{PYTHON_FROM[1]} or later: make the environment with it",
        )
    if facts.required is None:
        return unknown(
            f"Python {python}; {DISTRIBUTION} is not installed here", "pip install -e . tells what it needs"
        )
    versions = dict(facts.installed)
    missing = [name for name, _ in facts.required if name not in versions]
    wrong = [
        f"{name} {versions[name]}" for name, wanted in facts.required if not _fits(versions.get(name), wanted)
    ]
    if missing or wrong:
        problems = [f"not installed: {', '.join(missing)}"] if missing else []
        problems += [f"outside the range: {', '.join(wrong)}"] if wrong else []
        mend = [f"{n}{w}" for n, w in facts.required if n in missing or f"{n} {versions.get(n)}" in wrong]
        return fail("; ".join(problems), shlex.join([sys.executable, "-m", "pip", "install", *mend]))
    return ok(f"Python {python}, all {len(facts.required)} required packages in range")


def parse_requirements(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """Package and range of each requirement that is not an extra's."""
    found = (match for line in lines if (match := _REQUIREMENT.fullmatch(line.strip())))
    return tuple((m[1], m[2].replace(" ", "")) for m in found if "extra" not in (m[3] or ""))


def in_range(version: str, wanted: str) -> bool:
    """Whether `2.10.0+cu128` is in `>=2.6,<2.14`; parts that are not numbers end the comparison."""
    return all(_holds(_numbers(version), kind, _numbers(bound)) for kind, bound in _CLAUSE.findall(wanted))


def _fits(version: str | None, wanted: str) -> bool:
    return version is None or in_range(version, wanted)


def _holds(version: tuple[int, ...], kind: str, bound: tuple[int, ...]) -> bool:
    width = max(len(version), len(bound))
    a, b = (numbers + (0,) * (width - len(numbers)) for numbers in (version, bound))
    if kind == "~=":
        return a >= b and version[: len(bound) - 1] == bound[:-1]
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b}[kind]


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_REQUIRED = (("torch", ">=2.6,<2.14"), ("submitit", ">=1.5.4"))

CHECK = Check(
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.NODE,
    of_request=True,
    catches="a package missing or of a version that was never tried: the import error after a night in the queue",
    takes="0.1 s",
    passing=Facts(
        python=(3, 11, 9), required=_REQUIRED, installed=(("torch", "2.10.0+cu128"), ("submitit", "1.5.4"))
    ),
    failing=Facts(python=(3, 11, 9), required=_REQUIRED, installed=(("submitit", "1.4.0"),)),
)
