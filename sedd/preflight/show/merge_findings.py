"""Merge a check's verdicts on all points of a sweep into one finding."""

from collections.abc import Sequence
from dataclasses import dataclass

from sedd.preflight.finding import Finding, Status, Verdict, worst

_SHOWN = 3
"""Problems that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verdict, and the point of the sweep that it is about; empty: about all of them."""

    verdict: Verdict
    point: str


def merge(name: str, answers: Sequence[Answer]) -> Finding | None:
    """The gravest status, and each thing that was seen once; None without an answer.

    What is the same at every point is said without one.
    """
    points: dict[Verdict, list[str]] = {}
    for answer in answers:
        points.setdefault(answer.verdict, []).append(answer.point)
    if not points:
        return None
    problems = [verdict for verdict in points if verdict.status is not Status.OK]
    shown = [verdict for status in _GRAVEST_FIRST for verdict in problems if verdict.status is status]
    if not shown:
        shown = list(points)[:1]
    seen = [verdict.saw + _where(points[verdict], alone=len(points) == 1) for verdict in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        seen.append(f"and {len(shown) - _SHOWN} more like these")
    hints = dict.fromkeys(verdict.hint for verdict in shown[:_SHOWN] if verdict.hint)
    return Finding(
        check=name,
        status=worst(points),
        saw="; ".join(seen),
        hint="; ".join(hints) or None,
        fault=next((verdict.fault for verdict in shown if verdict.fault), None),  # a node checks one run
        absent=next((verdict.absent for verdict in shown if verdict.absent), ()),
    )


def _where(points: Sequence[str], *, alone: bool) -> str:
    """` (at model.hidden=768 and 2 more)`; nothing where no other point saw anything else."""
    if alone or not points[0]:
        return ""
    more = f" and {len(points) - 1} more" if len(points) > 1 else ""
    return f" (at {points[0]}{more})"


_GRAVEST_FIRST = (Status.FAIL, Status.WARN, Status.UNKNOWN, Status.LATER)
