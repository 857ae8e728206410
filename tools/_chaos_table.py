"""The result of chaos campaigns as tables of 80 columns: pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

Campaign = dict[str, Any]
"""What chaos.py writes with --json."""


def render(campaigns: Sequence[Campaign]) -> Group:
    """All campaigns together: faults by kind, runs by layout, and the verdict in one line."""
    return Group(_faults(campaigns), _runs(campaigns), summary(campaigns))


def summary(campaigns: Sequence[Campaign]) -> str:
    """One sentence with the figures that matter."""
    runs = list(_all(campaigns, "runs"))
    lost, different = _count(runs, lambda r: not r["completed"]), _count(runs, lambda r: r["differences"])
    return (
        f"{len(list(_all(campaigns, 'faults')))} faults, {len(runs)} runs: {lost} lost, {different} different, "
        f"{sum(r['overlaps'] for r in runs)} trained twice at once, "
        f"{sum(len(c['orphans']) for c in campaigns)} orphans, "
        f"by hand: {_by_hand(campaigns, 'held')} held, {_by_hand(campaigns, 'ended')} ended jobs,\n"
        f"{_strangers(campaigns, planted=True)} jobs of others planted, "
        f"{_strangers(campaigns, planted=False)} touched, "
        f"{sum(len(c['violations']) for c in campaigns)} things that must never happen,\n"
        f"{sum(r['steps_lost_gracefully'] for r in runs)} steps lost by graceful stops, "
        f"{sum(r['steps_repeated'] for r in runs)} repeated after hard ones"
    )


def _faults(campaigns: Sequence[Campaign]) -> Table:
    table = Table(title="faults")
    for name in ("fault", "times", "runs touched"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    faults = list(_all(campaigns, "faults"))
    for kind in sorted({f["fault"] for f in faults}):
        own = [f for f in faults if f["fault"] == kind]
        table.add_row(kind, str(len(own)), str(sum(len(f["victims"]) for f in own)))
    return table


def _runs(campaigns: Sequence[Campaign]) -> Table:
    table = Table(title="runs")
    for name in ("layout", "runs", "completed", "equal", "attempts", "repeated", "ETTR"):
        table.add_column(name, justify="left" if name == "layout" else "right")
    runs = list(_all(campaigns, "runs"))
    for layout in sorted({r["layout"] for r in runs}):
        own = [r for r in runs if r["layout"] == layout]
        table.add_row(
            layout,
            str(len(own)),
            str(_count(own, lambda r: r["completed"])),
            str(_count(own, lambda r: not r["differences"])),
            str(sum(r["attempts"] for r in own)),
            str(sum(r["steps_repeated"] for r in own)),
            f"{sum(r['ettr'] for r in own) / len(own):.2f}",
        )
    return table


def _all(campaigns: Sequence[Campaign], key: str) -> Iterable[dict[str, Any]]:
    return (item for campaign in campaigns for item in campaign[key])


def _by_hand(campaigns: Sequence[Campaign], what: str) -> int:
    return sum(campaign["by_hand"][what] for campaign in campaigns)


def _strangers(campaigns: Sequence[Campaign], *, planted: bool) -> int:
    told = [campaign["strangers"] for campaign in campaigns]
    return sum(one["planted"] if planted else len(one["touched"]) for one in told)


def _count(rows: Sequence[dict[str, Any]], fits: Any) -> int:
    return sum(bool(fits(row)) for row in rows)
