"""`sedd status` itself, without the library that parses command lines: importing that takes as long as all the rest."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.cli.console import err, out, print_json
from sedd.errors import UsageError
from sedd.monitor.decide.snapshot import take_snapshot
from sedd.monitor.read.facts import Facts, RunFacts
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.show.table import recent, status_table
from sedd.rundir.find import find_runs, list_runs, runs_root
from sedd.rundir.layout import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What `sedd status` was asked for; cli/status.py says what each means."""

    runs: tuple[str, ...] = ()
    watch: bool = False
    every: bool = False
    as_json: bool = False


_FLAGS = {"--watch": "watch", "-w": "watch", "--all": "every", "--json": "as_json"}


def parse_glance(arguments: Sequence[str]) -> Glance | None:
    """What the arguments ask for; None for those that need the whole command line: --help, mistakes."""
    flags = [a for a in arguments if a.startswith("-")]
    if not all(flag in _FLAGS for flag in flags):
        return None
    runs = tuple(a for a in arguments if not a.startswith("-"))
    return Glance(runs=runs, **{_FLAGS[flag]: True for flag in flags})


def show(asked: Glance) -> None:
    """Print it, or watch until the user quits. Raises: UsageError."""
    root, runs = runs_root(), asked.runs
    if asked.watch and asked.as_json:
        raise UsageError(
            "--watch is for people, --json for machines", hint="call `sedd status --json` again and again"
        )
    chosen = [run for text in runs for run in find_runs(text, root)] if runs else list_runs(root)
    if asked.watch:
        _watch(chosen if runs else None, root, shows_all=asked.every or bool(runs))
        return
    facts = Gatherer().gather(chosen, now=dt.datetime.now(dt.UTC))
    if asked.as_json:
        _print_document(facts, one=bool(runs) and len(chosen) == 1, shows_all=asked.every or bool(runs))
    elif not chosen:
        message = f"No runs in {root} yet. Start one: sedd submit jobs/quickstart.yaml"
        err().print(message, soft_wrap=True, markup=False)
    elif len(chosen) == 1 and runs:
        _print_detail(facts, chosen[0])
    else:
        _print_table(facts, shows_all=asked.every or bool(runs), fold=not asked.every)


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
