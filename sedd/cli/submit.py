"""`sedd submit`: submit specs as runs."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sedd.cli.console import note, print_json, tell, tell_wait
from sedd.cli.halving import wake_and_tell
from sedd.cli.main import INTERRUPTED
from sedd.cli.options import Cluster, DryRun, Json, Overrides, Preflight
from sedd.cli.soonest import Backfill, Picker, Soonest, require_soonest
from sedd.cli.submit_checks import LoginChecks, parameters_of, print_ignored_variables, resolved
from sedd.cli.submit_output import LISTED, REST_HINT, print_dry_run, print_submitted, submission_document
from sedd.cluster.profile import load_profile
from sedd.errors import RunError, UsageError
from sedd.launch.liveness import find_jobless
from sedd.launch.make_runs import Order
from sedd.launch.submit import Submission, render, resume, submit
from sedd.launch.submitted import (
    Known,
    continuing,
    find_submitted,
    find_unfinished,
    one_submission,
    require_not_submitted,
)
from sedd.rundir.find import each_once, find_runs, runs_root
from sedd.rundir.layout import RunDir
from sedd.rundir.owner import other_owner
from sedd.spec.load import load_request
from sedd.spec.plan import is_plan
from sedd.waiting import slow_waits_told


def command(
    specs: Annotated[
        list[Path], typer.Argument(metavar="SPEC", help="Experiment specs, or one plan (jobs/*.yaml).")
    ],
    cluster: Cluster = None,
    set_: Overrides = None,
    dry_run: DryRun = False,
    preflight: Preflight = True,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Return when all runs ended; exit 1 if one failed. Submits the rest of a sweep as places come free.",
        ),
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="As --wait, with live progress; Ctrl-C leaves it.")
    ] = False,
    after: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Start when this run (or sweep) has completed."),
    ] = None,
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="Submit even if this spec was submitted before.")
    ] = False,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Of a plan: what ran with other code need not run again.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", hidden=True, help="The old name of --resubmit.")] = False,
    soonest: Soonest = False,
    backfill: Backfill = None,
    as_json: Json = False,
) -> None:
    """Turn specs into jobs: check, freeze the code, make run folders, submit (a sweep as an array).

    Where a site takes only a part of a sweep, or the command is interrupted, the same command later submits the rest.

    Example: sedd submit jobs/uniref50_small.yaml --cluster slurm/v100.yaml --follow
    """
    if follow and as_json:
        raise UsageError("--follow draws on the terminal, --json is for machines", hint="use --wait --json")
    require_soonest(backfill, soonest)
    picker = Picker(checkpoints=backfill, as_json=as_json) if soonest else None
    if plan := next(filter(is_plan, specs), None):
        from sedd.cli import submit_plan

        if len(specs) > 1 or set_ or after:
            raise UsageError(
                f"{plan} is a plan: it is submitted by itself, without other specs, --set and --after",
                hint="write `set:` and `needs:` into its stages",
            )
        how = submit_plan.How(
            preflight=preflight,
            wait=wait,
            follow=follow,
            anew=resubmit or again,
            any_code=any_code,
            as_json=as_json,
            picker=picker,
        )
        submit_plan.submit(plan, cluster, how, dry_run=dry_run)
    elif dry_run:
        _dry_run(_orders(specs, cluster, set_, after), picker, as_json=as_json)
    else:
        _submit(
            _orders(specs, cluster, set_, after),
            picker,
            preflight=preflight,
            is_waiting=follow or wait,
            follow=follow,
            resubmit=resubmit or again,
            as_json=as_json,
        )


def _orders(
    specs: Sequence[Path], cluster: Path | None, overrides: Sequence[str] | None, after: Sequence[str] | None
) -> list[Order]:
    """What the specs ask for, each once, to begin after the runs that `after` names."""
    earlier = each_once(run for text in after or () for run in find_runs(text, runs_root()))
    orders = _each_once(specs, [_order(spec, cluster, overrides) for spec in specs])
    return [replace(order, after=earlier) for order in orders]


def _submit(
    orders: Sequence[Order],
    picker: Picker | None,
    *,
    preflight: bool,
    is_waiting: bool,
    follow: bool,
    resubmit: bool,
    as_json: bool,
) -> None:
    """Submit what is not submitted yet; with `is_waiting` return when all runs have ended."""
    now = dt.datetime.now(dt.UTC)
    submissions: list[Submission] = []
    try:
        left, known = _left_to_submit(orders, may_attach=is_waiting, resubmit=resubmit)
        _tell_of_others(left)
        left = _checked(left, picker, preflight=preflight, as_json=as_json)
        if left:
            known += _submit_alone(
                left, submissions, now=now, may_wait=is_waiting, resubmit=resubmit, as_json=as_json
            )
    except KeyboardInterrupt:  # a submission under way has caught its own, and says what became of it
        if not submissions:
            tell("interrupted: nothing was submitted")
        raise
    gone = find_jobless([each.run for each in known])
    for each in known:
        tell(_describe_known(each, gone.get(each.run)))
    runs = [*(each.run for each in known), *(run for each in submissions for run in each.runs)]
    succeeded = None
    if is_waiting and not any(isinstance(each.stopped_by, KeyboardInterrupt) for each in submissions):
        succeeded = _watch(runs, left, follow=follow)
    _finish(runs, submissions, succeeded, as_json=as_json, choices=picker.documents if picker else None)


def _dry_run(orders: list[Order], picker: Picker | None, *, as_json: bool) -> None:
    """Print what would be submitted, and how a halving sweep would go."""
    orders, now = list(map(picker, orders)) if picker else orders, dt.datetime.now(dt.UTC)
    scripts = [render(order, now=now) for order in orders]
    print_dry_run(scripts, as_json=as_json, choices=picker.documents if picker else None)
    if after := next((order.after for order in orders if order.after), ()):
        tell(f"Its jobs would wait for {', '.join(f'{run.name}/{run.id}' for run in after)}.")
    for order in orders:
        if (halving := order.request.halving) and (steps := order.request.experiments[0].steps):
            tell(halving.outlook(len(order.request.points), steps))


def _checked(orders: list[Order], picker: Picker | None, *, preflight: bool, as_json: bool) -> list[Order]:
    """The orders, in the shapes that end soonest if `picker` picks them, after the checks of the login node."""
    orders = list(map(picker, orders)) if picker else orders
    if orders and preflight:
        return list(map(LoginChecks(as_json=as_json), orders))
    if orders:
        print_ignored_variables(orders[0].profile)
    return orders


def _left_to_submit(
    orders: Sequence[Order], *, may_attach: bool, resubmit: bool
) -> tuple[list[Order], list[Known]]:
    """Orders of which something is to be submitted, and the runs of those that are submitted already.

    Raises:
        RunError: nothing is left, and nobody waits for what there is; or some points of a sweep are runs already.
    """
    if resubmit:
        return list(orders), []
    left, known = [], list[Known]()
    for order in orders:
        experiments = order.request.experiments
        found = {each.spec_hash: each for each in find_submitted(experiments, order.runs)}
        if not found or find_unfinished(experiments, order.runs):
            left.append(order)
        elif len(found) < len({experiment.hash() for experiment in experiments}):
            require_not_submitted(experiments, order.runs)
        else:
            known += found.values()
    wake_and_tell([each.run for each in known])
    if not left and not may_attach:
        for order in orders:
            require_not_submitted(order.request.experiments, order.runs)
    return left, known


def _tell_of_others(orders: Sequence[Order]) -> None:
    """Note that other users have the same runs, in a folder that several share: its bits would be the same."""
    for order in orders:
        if found := find_submitted(order.request.experiments, order.runs, of_others=True):
            run, standing = found[-1].run, found[-1].standing
            note(f"{other_owner(run)} has submitted the same spec: run {run.name}/{run.id}, {standing}")


def _submit_alone(
    orders: Sequence[Order],
    submissions: list[Submission],
    *,
    now: dt.datetime,
    may_wait: bool,
    resubmit: bool,
    as_json: bool,
) -> list[Known]:
    """Submit the orders, or what is left of them; returns the runs that somebody has submitted while we checked.

    Each submission is noted in `submissions` as it ends.
    """
    names = {experiment.name for order in orders for experiment in order.request.experiments}
    with slow_waits_told(tell_wait), one_submission(names, orders[0].runs):
        left, known = _left_to_submit(orders, may_attach=may_wait, resubmit=resubmit)
        for order in left:
            unfinished = None if resubmit else find_unfinished(order.request.experiments, order.runs)
            if unfinished is None:
                submission = submit(order, now=now, may_wait=may_wait)
            else:
                submission = resume(order, unfinished, now=now)
            submissions.append(submission)
            if not as_json and (submission.count or may_wait):
                print_submitted(submission, order)
            if submission.stopped_by is not None:
                break
    return known


def _finish(
    runs: Sequence[RunDir],
    submissions: Sequence[Submission],
    succeeded: bool | None,
    *,
    as_json: bool,
    choices: Sequence[Mapping[str, Any]] | None,
) -> None:
    """The command's last words. Ends it with exit code 1 when something went wrong, or nothing could be submitted."""
    if as_json:
        document = submission_document(runs, submissions, succeeded)
        print_json(document if choices is None else document | {"soonest": list(choices)})
    for submission in submissions:
        if isinstance(submission.stopped_by, KeyboardInterrupt):
            raise typer.Exit(INTERRUPTED)
        if succeeded is None and submission.waiting and (submission.stopped_by or not submission.count):
            stopped = submission.stopped_by is not None
            raise RunError(
                str(submission), hint="then the same command submits the rest" if stopped else REST_HINT
            )
    if succeeded is False:
        raise typer.Exit(1)


def _each_once(specs: Sequence[Path], orders: Sequence[Order]) -> list[Order]:
    """The orders without those that ask for the same runs as one before, which a note tells."""
    first: dict[tuple[str, ...], tuple[Path, Order]] = {}
    for spec, order in zip(specs, orders, strict=True):
        asked = tuple(experiment.hash() for experiment in order.request.experiments)
        if first.setdefault(asked, (spec, order))[1] is not order:
            note(f"{spec} asks for the same as {first[asked][0]}, which is submitted once")
    return [order for _, order in first.values()]


def _order(spec: Path, cluster: Path | None, overrides: Sequence[str] | None) -> Order:
    profile = load_profile(cluster, spec=spec)
    request = resolved(load_request(spec, overrides or ()), profile)
    return Order(
        request=request,
        profile=profile,
        runs=runs_root(),
        parameters=[parameters_of(experiment) for experiment in request.experiments],
    )


def _describe_known(known: Known, gone: str | None) -> str:
    standing = f"of which nothing waits or runs any more: {gone} is gone" if gone else known.standing
    what = f"This spec was submitted before: run {known.run.name}/{known.run.id}, {standing}."
    go_on = f" {continuing([known.run])} lets it go on." if gone else ""
    return f"{what}{go_on} --resubmit submits another."


def _watch(runs: Sequence[RunDir], orders: Sequence[Order], *, follow: bool) -> bool:
    """Whether all runs succeeded, once all have ended; what waits for a place is submitted meanwhile.

    Ctrl-C leaves them running: exit code 130.
    """
    from sedd.cli.submit_rest import Rest, wait_for_runs
    from sedd.monitor.decide.failure import failure_line

    left = "the runs continue. sedd status shows them."
    views = wait_for_runs(runs, Rest(orders, notify=tell), follow=follow, left=left)
    failed = [view for view in views if not view.state.is_success]
    for view in failed[:LISTED]:
        tell(failure_line(view))
    if len(failed) > LISTED:
        tell(f"… and {len(failed) - LISTED} more: sedd status --all")
    return not failed
