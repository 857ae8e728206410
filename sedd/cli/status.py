"""`sedd status`: what the runs are doing."""

import dataclasses
import datetime as dt
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.console import note, out, print_json, tell
from sedd.cli.find_run import find_each
from sedd.cli.notify_pending import tell_trouble
from sedd.cluster.users import user_name
from sedd.errors import ClusterError, RunError, SeddError, UsageError
from sedd.monitor.decide.snapshot import RunView, take_snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read.facts import Facts, QueueFacts, RunFacts
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.show.table import recent, status_table
from sedd.rundir.find import find_missing_root, list_runs, runs_root, typed_sweep
from sedd.rundir.layout import RunDir
from sedd.rundir.owner import own_runs
from sedd.rundir.plan_record import PlanRecord, find_plan, find_plans, list_plans

if TYPE_CHECKING:
    from sedd.experiments.rank import Ranking
    from sedd.halving.savings import Savings
    from sedd.launch.orphans import Orphan


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Run folders, ids, job ids or names; none: all of them."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Live; keys open, filter, cancel, requeue.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Also runs that ended more than a day ago.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document (sedd/monitor/README.md).")
    ] = False,
) -> None:
    """Show what runs are doing; of a single RUN everything, of a sweep all its points, of a plan its stages.

    Columns: ppl is the perplexity, ckpt how long ago the newest checkpoint was written, risk how much training a kill
    now would lose (4s–12m: of the training alone, and of its node), ettr the share of the time since submission that
    went into training. Of several RUNs those that exist are shown, whatever the others are.

    Example: sedd status
    """
    root = runs_root()
    if watch and as_json:
        raise UsageError(
            "--watch is for people, --json for machines", hint="call `sedd status --json` again and again"
        )
    missing = None
    if runs:
        found = find_each(runs, root)
        if found.error is not None and (watch or not found.runs):
            raise found.error
        chosen, runs, missing = found.runs, found.texts, found.error
    else:
        chosen = list_runs(root)
    plans = find_plans(runs, root) if runs else list_plans(root)
    if not chosen and (why := find_missing_root(root)):
        note(why)
    if watch:
        _watch(chosen if runs else None, root, shows_all=every or bool(runs))
        return
    queue = Queue()
    facts = Gatherer(queue=queue).gather(chosen, now=dt.datetime.now(dt.UTC))
    tell_trouble(facts)
    _let_go_on(facts)
    orphans = [] if runs else _find_orphans(facts, queue)
    if as_json:
        one = bool(runs) and len(chosen) == 1
        _print_document(facts, orphans, plans, one=one, shows_all=every or bool(runs))
    else:
        _print(facts, chosen, runs or [], plans, root, every=every)
        _print_orphans(orphans)
    if missing is not None:
        raise missing


def _print(
    facts: Facts, chosen: list[RunDir], runs: list[str], plans: list[PlanRecord], root: Path, *, every: bool
) -> None:
    """What people read: one run in full, plans as trees, several runs as a table."""
    if not chosen:
        tell(f"No runs in {root} yet. Start one: sedd submit jobs/quickstart.yaml")
    elif runs and all(find_plan(text, root) for text in runs):
        _print_plans(facts, plans)
    elif len(chosen) == 1 and runs:
        _print_detail(facts, chosen[0])
        from sedd.cli.same_name import tell_of_others

        tell_of_others(runs, chosen)
    else:
        folded = [] if every or runs else plans
        _print_table(facts, folded, shows_all=every or bool(runs), fold=not every)
        if runs:
            _print_savings(facts)
            _print_best(facts)


def _print_orphans(orphans: "Sequence[Orphan]") -> None:
    for orphan in orphans:
        text = f"{orphan.description}; sedd cancel {orphan.job.job_id} ends it"
        out().print(text, style="yellow", soft_wrap=True, markup=False, highlight=False)


def _let_go_on(facts: Facts) -> None:
    """Where points wait at a rung: do what somebody may have been killed doing for them."""
    paused = [r.run for r in facts.runs if r.history.last is not None and r.history.last.event == "paused"]
    if paused:
        from sedd.cli.halving import wake_and_tell

        wake_and_tell(paused)


def _find_orphans(facts: Facts, queue: Queue) -> "list[Orphan]":
    """Jobs of this user that belong to no run folder; none where SLURM does not answer, which the table says."""
    if facts.runs and not any(run.plan.executor == "slurm" for run in facts.runs):
        return []
    if shutil.which("squeue") is None:
        return []
    from sedd.launch.orphans import find_orphans

    user = user_name(os.geteuid())
    if queue.facts == QueueFacts():  # no run had to be asked for
        queue.refresh([user], now=facts.taken)
    identities = [run.history.identity for run in facts.runs]
    claimed = {(i.token, i.job_id) for i in identities if i is not None and i.token is not None}
    try:
        return find_orphans(queue.jobs, user=user, claimed=claimed)
    except ClusterError:
        return []  # it has answered just now; the next look will tell


def _print_document(
    facts: Facts, orphans: "Sequence[Orphan]", plans: Sequence[PlanRecord], *, one: bool, shows_all: bool
) -> None:
    from sedd.monitor.show.document import status_document, timeline_document

    snapshot = take_snapshot(facts)
    document = status_document(snapshot, snapshot.runs if shows_all else recent(snapshot))
    document["orphans"] = [{"job_id": o.job.job_id, "name": o.job.name, "folder": o.folder} for o in orphans]
    document["plans"] = [
        {"name": p.name, "id": p.id, "stages": {s.name: [run.id for run in s.runs] for s in p.stages}}
        for p in plans
    ]
    if (best := _best(facts)) is not None and shows_all:
        from sedd.experiments.ranking_document import best_document

        document["best"] = best_document(best)
    if shows_all and (savings := _savings(facts)) is not None:
        document["halving"] = savings.document()
    if one and snapshot.runs:
        document["runs"][0] |= timeline_document(facts.runs[0], snapshot.runs[0], now=facts.taken)
        document["runs"][0]["usage"] = _usage(facts.runs[0].run)
    print_json(document)


def _print_plans(facts: Facts, plans: Sequence[PlanRecord]) -> None:
    from sedd.monitor.show.plan_tree import plan_tree

    snapshot, console = take_snapshot(facts), out()
    for plan in plans:
        for line in plan_tree(plan, snapshot, width=console.width):
            console.print(line, no_wrap=True, highlight=False)
    _tell_of_lost(snapshot.runs)


def _print_table(facts: Facts, plans: Sequence[PlanRecord], *, shows_all: bool, fold: bool) -> None:
    """The runs; those of the `plans` are one line for each plan."""
    from sedd.monitor.show.plan_tree import plan_row

    snapshot = take_snapshot(facts)
    views = snapshot.runs if shows_all else recent(snapshot)
    active = {view.run for view in views}
    plans = [plan for plan in plans if active & set(plan.runs)]
    for plan in plans:
        out().print(plan_row(plan, snapshot), no_wrap=True, overflow="ellipsis", highlight=False)
    folded = {run for plan in plans for run in plan.runs}
    views = tuple(view for view in views if view.run not in folded)
    others = tuple(view for view in snapshot.runs if view.run not in folded)
    snapshot = dataclasses.replace(snapshot, runs=others)
    if not views and plans:
        return
    if not views:
        tell(f"No run was active in the last day; {len(facts.runs)} ended earlier: sedd status --all")
        return
    console = out()
    console.print(status_table(snapshot, views, width=console.width, fold=fold))
    _tell_of_lost(views)


def _tell_of_lost(views: Sequence[RunView]) -> None:
    """How to continue runs that were killed and that nothing starts again."""
    lost = own_runs(view.run for view in views if view.state is State.LOST)
    if len(lost) == 1:
        tell(f"to continue the lost run: sedd requeue {lost[0].id}")
    elif lost:
        tell("to continue a lost run: sedd requeue RUN")


def _usage(run: RunDir) -> "dict[str, Any] | None":
    from sedd.experiments.ranking_document import usage_document
    from sedd.rundir.read_usage import read_usage

    try:
        return usage_document(read_usage(run).within())
    except RunError:
        return None


def _best(facts: Facts) -> "Ranking | None":
    """The ranking of a sweep's points, when they are those of one sweep and two of them have been validated."""
    sweeps = {run.plan.sweep for run in facts.runs}
    if len(facts.runs) < 2 or len(sweeps) > 1 or None in sweeps:
        return None
    from sedd.experiments.rank import rank
    from sedd.experiments.results import read_result

    try:
        return rank([read_result(run.run, with_spec=False) for run in facts.runs])
    except SeddError:
        return None  # none is validated, or a folder cannot be read, which the table says


def _savings(facts: Facts) -> "Savings | None":
    from sedd.halving.savings import read_savings

    try:
        return read_savings([run.run for run in facts.runs if run.plan.sweep])
    except RunError:
        return None  # which the table says


def _print_savings(facts: Facts) -> None:
    if (savings := _savings(facts)) is not None:
        out().print(str(savings), soft_wrap=True, markup=False)


def _print_best(facts: Facts) -> None:
    if (ranking := _best(facts)) is None:
        return
    from sedd.experiments.ranking_text import best_lines

    is_over = all(view.state.is_final for view in take_snapshot(facts).runs)
    for line in best_lines(ranking, is_over=is_over):
        out().print(line, soft_wrap=True, markup=False)
    first = facts.runs[0]
    sweep = typed_sweep(first.run, first.plan.sweep or "")
    out().print(f"sedd compare {sweep}", style="bold", soft_wrap=True, markup=False)


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
    from sedd.monitor.show.live_table import is_possible, watch
    from sedd.monitor.show.screen import Action

    console = out()
    if not is_possible(console):
        raise UsageError(
            "--watch needs a terminal", hint="use `sedd status`, or `sedd status --json` in scripts"
        )
    listing = Listing(root)
    watch(
        listing.runs if chosen is None else lambda: chosen,
        list_plans=listing.plans if chosen is None else lambda: (),
        console=console,
        actions={Action.CANCEL: _cancel, Action.REQUEUE: _requeue},
        shows_all=shows_all,
    )


def _cancel(run: RunDir) -> str:
    from sedd.launch.cancel import cancel

    return cancel([run], now=dt.datetime.now(dt.UTC))[0].detail


def _requeue(run: RunDir) -> str:
    from sedd.cli.changed_run import check_of_revival
    from sedd.launch.requeue import requeue

    check = check_of_revival(True, notify=lambda text: None)  # the screen shows one line: what refuses it
    return requeue([run], now=dt.datetime.now(dt.UTC), check=check)[0].detail
