"""`sedd usage`: GPU-hours, energy and waiting, by name, sweep, plan or run."""

import datetime as dt
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from sedd.cli.console import note, out, print_json, tell
from sedd.errors import RunError, UsageError
from sedd.experiments.ranking_document import usage_document
from sedd.experiments.usage_text import parse_moment, summed, total_of, usage_table
from sedd.halving.savings import Savings, read_savings
from sedd.rundir.find import each_once, find_missing_root, find_runs, list_runs, runs_root
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.read_usage import read_usage
from sedd.rundir.usage import RunUse


class By(StrEnum):
    """What a row is a sum of."""

    NAME = "name"
    SWEEP = "sweep"
    PLAN = "plan"
    RUN = "run"


def command(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Runs or sweeps; none: all of them.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Only what was used since then: 30d for the last 30 days, or a date (UTC)."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="Only what was used until then: 7d for 7 days ago, or a date (UTC)."
        ),
    ] = None,
    by: Annotated[By, typer.Option(help="What a row is a sum of.")] = By.NAME,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document (sedd/experiments/README.md).")
    ] = False,
) -> None:
    """Show what runs have used: GPU-hours, hours queued, what interruptions cost, energy, CO₂.

    Example: sedd usage --since 30d
    """
    now, root = dt.datetime.now(dt.UTC), runs_root()
    start = parse_moment(since, now=now) if since else dt.datetime.min.replace(tzinfo=dt.UTC)
    end = parse_moment(until, now=now) if until else now
    if end <= start:
        raise UsageError(f"--until {until or 'now'} is not after --since {since or 'the beginning'}")
    chosen = each_once(run for text in runs for run in find_runs(text, root)) if runs else list_runs(root)
    if not chosen and (missing := find_missing_root(root)):
        note(missing)
    rows = summed(_labelled(chosen, by), since=start, until=end)
    savings = (
        _savings(chosen) if not (since or until) else None
    )  # of whole sweeps, not of a part of their time
    if as_json:
        documents = [{"label": r.label, "runs": r.runs} | usage_document(r.usage) for r in rows]
        total = total_of(rows)
        whole: dict[str, Any] = {"runs": total.runs} | usage_document(total.usage)
        period = {"since": start.isoformat() if since else None, "until": end.isoformat()}
        halving = {"halving": savings.document()} if savings else {}
        print_json({"version": 1, **period, "rows": documents, "total": whole, **halving})
    elif not rows:
        tell("Nothing was used in that time.")
    else:
        console = out()
        console.print(usage_table(rows, width=console.width))
        if savings:
            console.print(Text(str(savings), style="dim", overflow="fold"))


def _savings(runs: Iterable[RunDir]) -> Savings | None:
    try:
        return read_savings(runs)
    except RunError:
        return None  # the folder that cannot be read is named already


def _labelled(runs: Iterable[RunDir], by: By) -> Iterator[tuple[str, RunUse]]:
    """What each run used, under the name of its row; a folder that cannot be read is named on stderr."""
    for run in runs:
        try:
            use, manifest = read_usage(run), read_manifest(run)
        except RunError as e:
            tell(f"left out: {e.message}")
            continue
        match by:
            case By.NAME:
                yield run.name, use
            case By.RUN:
                yield f"{run.name}/{run.id}", use
            case By.SWEEP:
                yield f"{run.name}/{manifest.get('sweep') or run.id}", use
            case By.PLAN:
                yield str(manifest.get("plan") or "in no plan"), use
