"""`sedd status`: what the runs are doing."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import err, out, print_json
from sedd.errors import UsageError
from sedd.monitor.decide.snapshot import take_snapshot
from sedd.monitor.read.facts import Facts, RunFacts
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.show.table import recent, status_table
from sedd.rundir.find import find_runs, list_runs, runs_root
from sedd.rundir.layout import RunDir


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders, ids, job ids or names; none: all of them."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Live; keys open, filter, cancel, requeue.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Also runs that ended more than a day ago.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document (sedd/monitor/README.md).")
    ] = False,
) -> None:
    """Show what runs are doing; of a single RUN everything, of a sweep all its points.

    Example: sedd status
    """
    root = runs_root()
    if watch and as_json:
        raise UsageError(
            "--watch is for people, --json for machines", hint="call `sedd status --json` again and again"
        )
    chosen = [run for text in runs or () for run in find_runs(text, root)] if runs else list_runs(root)
    if watch:
        _watch(chosen if runs else None, root, shows_all=every or bool(runs))
        return
    facts = Gatherer().gather(chosen, now=dt.datetime.now(dt.UTC))
    if as_json:
        _print_document(facts, one=bool(runs) and len(chosen) == 1, shows_all=every or bool(runs))
    elif not chosen:
        message = f"No runs in {root} yet. Start one: sedd submit jobs/quickstart.yaml"
        err().print(message, soft_wrap=True, markup=False)
    elif len(chosen) == 1 and runs:
        _print_detail(facts, chosen[0])
    else:
        _print_table(facts, shows_all=every or bool(runs), fold=not every)


def _print_document(facts: Facts, *, one: bool, shows_all: bool) -> None:
    from sedd.monitor.show.document import status_document, timeline_document

    snapshot = take_snapshot(facts)
    document = status_document(snapshot, snapshot.runs if shows_all else recent(snapshot))
    if one and snapshot.runs:
        document["runs"][0] |= timeline_document(facts.runs[0], snapshot.runs[0], now=facts.taken)
    print_json(document)


def _print_table(facts: Facts, *, shows_all: bool, fold: bool) -> None:
    snapshot = take_snapshot(facts)
    views = snapshot.runs if shows_all else recent(snapshot)
    if not views:
        err().print(f"No run was active in the last day; {len(facts.runs)} ended earlier: sedd status --all")
        return
    console = out()
    console.print(status_table(snapshot, views, width=console.width, fold=fold))


def _print_detail(facts: Facts, run: RunDir) -> None:
    from sedd.monitor.decide.inspection import inspect
    from sedd.monitor.show.detail import detail_view

    found = _require(facts, run)
    console = out()
    console.print(detail_view(inspect(found, now=facts.taken), width=console.width), soft_wrap=True)


def _require(facts: Facts, run: RunDir) -> RunFacts:
    if not facts.runs:
        raise UsageError(f"the run folder {run.path} has vanished")
    return facts.runs[0]


def _watch(chosen: list[RunDir] | None, root: Path, *, shows_all: bool) -> None:
    from sedd.monitor.read.listing import Listing
    from sedd.monitor.show.screen import Action
    from sedd.monitor.show.watch import is_possible, watch

    console = out()
    if not is_possible(console):
        raise UsageError(
            "--watch needs a terminal", hint="use `sedd status`, or `sedd status --json` in scripts"
        )
    list_now = Listing(root).runs if chosen is None else lambda: chosen
    watch(
        list_now,
        console=console,
        actions={Action.CANCEL: _cancel, Action.REQUEUE: _requeue},
        shows_all=shows_all,
    )


def _cancel(run: RunDir) -> str:
    from sedd.launch.cancel import cancel

    return cancel([run], now=dt.datetime.now(dt.UTC))[0].detail


def _requeue(run: RunDir) -> str:
    from sedd.launch.requeue import requeue

    return requeue([run], now=dt.datetime.now(dt.UTC))[0].detail
