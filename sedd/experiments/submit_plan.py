"""Submit a plan: run folders for what is not there yet, then one stage after the other to the scheduler.

The run folders are the ledger. A plan that is asked for again, after a kill at any moment or after a change, finds the
runs whose inputs are the same by what their manifests say, makes those that are missing, and submits what has no job.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sedd.cluster.profile import Profile
from sedd.experiments.plan_graph import Graph
from sedd.experiments.stages import Missing, Resolver, Step, record_of
from sedd.launch.liveness import find_jobless
from sedd.launch.make_runs import Order, make_runs, remove_runs
from sedd.launch.resources import require_no_secrets, require_plain_path
from sedd.launch.submitted import STOPPED, describe_progress, one_submission
from sedd.launch.unsubmitted import confirm_all, submit_unsubmitted
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.attempts import is_left_out, is_unsubmitted
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, run_id
from sedd.rundir.plan_record import PREFIX, PlanRecord, find_own_plan, write_plan
from sedd.spec.load import Request
from sedd.spec.task import TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a plan runs, and what the command line knows of the place.

    Attributes:
        settle: completes a request: what is `auto` becomes a number.
        pick: gives the runs of a stage that are to be made the shape that is picked from their ranges.
        count: the network parameters of a spec; None where it has no network of its own.
        check: looks whether an order can run, and notes what it found. The second argument: files and folders that
            other stages are still to make, and which stage makes each. It raises when the order cannot run.
    """

    profile: Profile
    runs: Path
    settle: Callable[[Request], Request]
    count: Callable[[TaskSpec], int | None]
    pick: Callable[[Order, Step], Order] = lambda order, _: order
    check: Callable[[Order, Mapping[Path, str]], Order] = lambda order, _: order


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSubmission:
    """What a submission came to.

    Attributes:
        submitted: the runs that were submitted now, by stage.
        waiting: those for which there was no place.
        why: why they wait.
        stuck: runs that were there already, and will not complete by themselves.
        gone: runs of which nothing waits or runs any more, though no event says so.
        replaced: runs of the plan as it was before that are still under way.
    """

    record: PlanRecord
    submitted: Mapping[str, Sequence[RunDir]] = field(default_factory=dict)
    waiting: Sequence[RunDir] = ()
    why: str | None = None
    stuck: Sequence[RunDir] = ()
    gone: Sequence[RunDir] = ()
    replaced: Sequence[RunDir] = ()


def foresee(resolver: Resolver) -> list[Step]:
    """What `submit_plan` would do. Touches nothing: runs that are not made have a name that none has."""
    return resolver.steps(
        lambda missing: [
            RunDir(resolver.runs / experiment.name / f"to-be-made-{number}")
            for number, experiment in zip(missing.numbers, missing.request.experiments, strict=True)
        ]
    )


def submit_plan(
    graph: Graph,
    site: Site,
    *,
    source: str,
    now: dt.datetime,
    any_code: bool = False,
    anew: bool = False,
) -> PlanSubmission:
    """Make what is missing of a plan and submit what has no job; `source` is its file's text.

    Raises:
        SeddError: a stage cannot run, a folder cannot be made, SLURM refuses or does not answer. What was submitted
            before that stays so; asked for again, the rest follows.
    """
    require_no_secrets(site.profile)
    require_plain_path(site.runs)
    names = {graph.name, *(stage.run_name for stage in graph.stages.values())}
    with one_submission(names, site.runs):
        before = find_own_plan(graph.name, site.runs)
        resolver = resolver_for(graph, site, before=before, any_code=any_code, anew=anew)
        checked = {
            step.stage.name: site.check(site.pick(order_of(step.missing, site), step), step.awaited)
            for step in foresee(resolver)
            if step.missing is not None
        }
        steps = _make(resolver, site, checked, now)
        record = _recorded(graph, steps, before, source, now)
        replaced = set(before.runs) - set(record.runs) if before is not None else set()
        return replace(
            submit_rest(record), replaced=[run for run in sorted(replaced, key=str) if _is_open(run)]
        )


def resolver_for(
    graph: Graph, site: Site, *, before: PlanRecord | None, any_code: bool = False, anew: bool = False
) -> Resolver:
    """How the plan's stages are resolved at this site."""
    return Resolver(
        graph=graph, runs=site.runs, settle=site.settle, before=before, any_code=any_code, anew=anew
    )


def _make(resolver: Resolver, site: Site, checked: Mapping[str, Order], now: dt.datetime) -> list[Step]:
    """Make the run folders that are missing; when one cannot be made, those of this call go again."""
    made: list[Path] = []

    def make(missing: Missing) -> Sequence[RunDir]:
        order, known = order_of(missing, site), checked.get(missing.stage)
        if known is not None and len(known.request.experiments) == len(order.request.experiments):
            order = replace(
                order,
                request=_in_shape_of(known.request, order.request),
                findings=known.findings,
                first_batches=known.first_batches,
            )
        return make_runs(order, now=now, made=made).runs

    try:
        return resolver.steps(make)
    except BaseException:
        remove_runs(made)
        raise


def _in_shape_of(picked: Request, request: Request) -> Request:
    """The request with the resources of the one for which shapes were picked."""
    pairs = zip(request.experiments, picked.experiments, strict=True)
    shaped = tuple(own.model_copy(update={"resources": other.resources}) for own, other in pairs)
    return replace(request, experiments=shaped)


def order_of(missing: Missing, site: Site) -> Order:
    """What is to be made of a stage, as an order of its own."""
    return Order(
        request=missing.request,
        profile=site.profile,
        runs=site.runs,
        parameters=[site.count(experiment) for experiment in missing.request.experiments],
        more=missing.more,
    )


def _recorded(
    graph: Graph, steps: Sequence[Step], before: PlanRecord | None, source: str, now: dt.datetime
) -> PlanRecord:
    """The plan's record: the newest one, if nothing has changed since."""
    record = record_of(graph, steps, Path())
    if before is not None and replace(before, folder=Path()) == record:
        return before
    digest = steps[-1].made.experiments[0].hash()
    folder = steps[0].made.folder.resolve() / f"{PREFIX}{run_id(now, digest)}"
    record = replace(record, folder=folder)
    write_plan(record, source)
    return record


def submit_rest(record: PlanRecord) -> PlanSubmission:
    """Submit what has no job, stage after stage, until the site takes no more.

    Raises:
        SeddError: SLURM refuses or does not answer; what was submitted before that stays so.
    """
    confirm_all(record.runs)
    wake_sweeps_of(record.runs)
    submitted: dict[str, Sequence[RunDir]] = {}
    why = None
    for stage in record.stages:
        if why is None and (waiting := [run for run in stage.runs if _has_no_job(run)]):
            reasons = submit_unsubmitted(waiting)
            submitted[stage.name] = [run for run in waiting if reasons.get(run) is None]
            why = next((reason for reason in reasons.values() if reason), None)
    return PlanSubmission(
        record=record,
        submitted={name: runs for name, runs in submitted.items() if runs},
        waiting=[run for run in record.runs if _has_no_job(run)],
        why=why,
        stuck=[run for run in record.runs if _is_stuck(run)],
        gone=list(find_jobless([run for run in record.runs if _is_open(run)])),
    )


def _is_stuck(run: RunDir) -> bool:
    events = read_events(run.events)
    return describe_progress(events) is None and not is_unsubmitted(events) and not is_left_out(events)


def _is_open(run: RunDir) -> bool:
    """Whether a run may still do something, or wait to."""
    events = read_events(run.events) if run.manifest.exists() else ()
    return bool(events) and describe_progress(events) not in (None, "completed", STOPPED)


def _has_no_job(run: RunDir) -> bool:
    return is_unsubmitted(read_events(run.events))
