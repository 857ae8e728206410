"""`sedd submit plan.yaml`: what it prints, and how it waits for a plan."""

import contextlib
import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sedd.cli.console import print_json, show, tell, tell_wait
from sedd.cli.soonest import Picker
from sedd.cli.submit_checks import LoginChecks, parameters_of, resolved
from sedd.cli.submit_output import REST_HINT
from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.profile import Profile, load_profile
from sedd.errors import RunError, UsageError
from sedd.experiments.plan_graph import Graph, build_graph
from sedd.experiments.plan_text import foreseen_document, foreseen_lines, submitted_lines
from sedd.experiments.stages import Step
from sedd.experiments.submit_plan import (
    PlanSubmission,
    Site,
    foresee,
    order_of,
    resolver_for,
    submit_plan,
    submit_rest,
)
from sedd.launch.make_runs import Order
from sedd.launch.submitted import STOPPED, describe_progress
from sedd.rundir.attempts import is_left_out
from sedd.rundir.events import read_events
from sedd.rundir.find import runs_root
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord, find_own_plan
from sedd.soonest.choose import require_choice
from sedd.spec.experiment import Experiment
from sedd.spec.plan import load_plan
from sedd.spec.task import TaskSpec
from sedd.units import counted
from sedd.waiting import slow_waits_told

if TYPE_CHECKING:
    from sedd.monitor.decide.snapshot import Snapshot

REST_S = 30.0
"""Between two tries to submit what has no place yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What the command line asks for beside the plan."""

    preflight: bool
    wait: bool
    follow: bool
    anew: bool
    any_code: bool
    as_json: bool
    picker: Picker | None = None
    """Of `--soonest`; None: a range is its upper end."""


def submit(path: Path, cluster: Path | None, how: How, *, dry_run: bool) -> None:
    """Submit a plan, or show what would be done. Ends the command with its exit code."""
    graph = build_graph(load_plan(path))
    site = _site(path, cluster, how)
    if how.picker:
        _require_choice(graph, site)
    if dry_run:
        _print_foreseen(graph, site, how)
        return
    with slow_waits_told(tell_wait):
        submission = submit_plan(
            graph,
            site,
            source=path.read_text(encoding="utf-8-sig"),
            now=dt.datetime.now(dt.UTC),
            any_code=how.any_code,
            anew=how.anew,
        )
    if not how.as_json:
        for line in submitted_lines(submission):
            show(line)
    succeeded = _watch(submission.record, follow=how.follow) if how.wait or how.follow else None
    _finish(submission, succeeded, how)


def _site(path: Path, cluster: Path | None, how: How) -> Site:
    profile = load_profile(cluster, spec=path)
    checks = LoginChecks(as_json=how.as_json)

    def check(order: Order, awaited: Mapping[Path, str]) -> Order:
        return checks(order, awaited=awaited)

    site = site_of(profile)
    if how.picker:
        site = replace(site, pick=_Pick(how.picker))
    return replace(site, check=check) if how.preflight else site


def site_of(profile: Profile) -> Site:
    """Where the plan runs; nothing is checked there."""
    return Site(
        profile=profile,
        runs=runs_root(),
        settle=lambda request: resolved(request, profile),
        count=parameters_of,
    )


@dataclass(frozen=True, slots=True)
class _Pick:
    """Picks the shape of a training stage that has ranges; all its runs have the same."""

    picker: Picker

    def __call__(self, order: Order, step: Step) -> Order:
        if not _has_ranges(order.request.experiments[0]):
            return order
        name, needs = step.stage.name, ", ".join(step.stage.waits)
        later = f" waits for {needs}; its shape is picked by the queue as it is now" if step.awaited else ""
        tell(f"stage {name}{later}")
        return self.picker(order)


def _has_ranges(experiment: TaskSpec) -> bool:
    return isinstance(experiment, Experiment) and bool(experiment.resources.picked_fields)


def _require_choice(graph: Graph, site: Site) -> None:
    """Raises: UsageError where there is nobody to ask, or nothing to pick from."""
    first = [step.made.experiments[0] for step in foresee(resolver_for(graph, site, before=None))]
    ranged = [experiment for experiment in first if _has_ranges(experiment)]
    if not ranged:
        raise UsageError(
            f"--soonest has nothing to pick from: no training of plan {graph.name} has a range",
            hint="for example `set: {resources.gpus: 1-8, resources.walltime: 30m-24h}` in its stage",
        )
    require_choice(ranged[0], site.profile)


def _print_foreseen(graph: Graph, site: Site, how: How) -> None:
    before = find_own_plan(graph.name, site.runs)
    steps = foresee(resolver_for(graph, site, before=before, any_code=how.any_code, anew=how.anew))
    for step in steps:
        if step.missing is not None:
            site.pick(order_of(step.missing, site), step)
    if how.as_json:
        print_json(foreseen_document(graph, steps) | _choices(how))
        return
    for line in foreseen_lines(graph, steps):
        show(line)
    tell("Nothing was submitted, or checked.")


def _choices(how: How) -> dict[str, Any]:
    """For `--json`: what `--soonest` picked."""
    return {"soonest": how.picker.documents} if how.picker else {}


class _EndedError(Exception):
    """Whatever is not over yet waits in vain."""


def _watch(record: PlanRecord, *, follow: bool) -> bool:
    """Whether the plan has come to its end well, once nothing more can happen by itself.

    Ctrl-C leaves it running: exit code 130.
    """
    from sedd.cli.submit_rest import wait_for_runs

    rest = _Rest(record)

    def look(snapshot: "Snapshot") -> None:
        rest(snapshot)
        states = {view.run: view.state for view in snapshot.runs}
        failed = {run for run, state in states.items() if state.is_final and not state.is_success}
        is_open = [run for run, state in states.items() if not state.is_final]
        if failed and all(record.is_in_vain(run, failed) for run in is_open):
            raise _EndedError

    with contextlib.suppress(_EndedError):
        left = "the plan continues. sedd status shows it."
        wait_for_runs(record.runs, look, follow=follow, left=left)
    return all(_is_done(run) for run in record.runs)


class _Rest:
    """What the site had no place for at once: submitted as places come free."""

    def __init__(self, record: PlanRecord) -> None:
        self._record, self._tried = record, time.monotonic()

    def __call__(self, snapshot: "Snapshot") -> None:
        """Submit more, if that is due. Raises: SeddError when the rest is refused."""
        from sedd.monitor.decide.state import State

        is_left = any(view.state is State.UNSUBMITTED for view in snapshot.runs)
        if not is_left or time.monotonic() - self._tried < REST_S:
            return
        self._tried = time.monotonic()
        try:
            with slow_waits_told(tell):
                submit_rest(self._record)
        except SlurmUnreachableError:
            return  # it is asked again


def _is_done(run: RunDir) -> bool:
    events = read_events(run.events)
    return describe_progress(events) in ("completed", STOPPED) or is_left_out(events)


def _finish(submission: PlanSubmission, succeeded: bool | None, how: How) -> None:
    """The command's last words, and its exit code."""
    record = submission.record
    if how.as_json:
        print_json(
            {
                "plan": record.name,
                "id": record.id,
                "folder": str(record.folder),
                "succeeded": succeeded,
                "stages": [
                    {
                        "name": stage.name,
                        "runs": [str(run.path) for run in stage.runs],
                        "submitted": len(submission.submitted.get(stage.name, ())),
                    }
                    for stage in record.stages
                ],
            }
            | _choices(how)
        )
    if succeeded is None and submission.waiting and not submission.submitted:
        waiting = counted(len(submission.waiting), "waiting run")
        raise RunError(f"{waiting}: {submission.why}", hint=REST_HINT)
    if submission.stuck and succeeded is not True:
        run = submission.stuck[0]
        raise RunError(
            f"run {run.name}/{run.id} was cancelled or gave up: what needs it waits",
            hint=f"sedd requeue {record.name} lets the plan go on; --resubmit makes all of it anew",
        )
    if succeeded is False:
        raise typer.Exit(1)
