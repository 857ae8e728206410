"""`sedd submit`: submit specs as runs."""

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sedd.cli.console import err, out, print_json
from sedd.cli.submit_output import LISTED, REST_HINT, print_dry_run, print_submitted, submission_document
from sedd.cluster.profile import Profile, load_profile
from sedd.errors import RunError, UsageError
from sedd.launch.make_runs import Order
from sedd.launch.submit import Submission, render, resume, submit
from sedd.launch.submitted import (
    Known,
    find_submitted,
    find_unfinished,
    one_submission,
    require_not_submitted,
)
from sedd.model.size import parameter_count
from sedd.preflight.finding import Finding, Status, has_failures
from sedd.preflight.resolve_auto import resolve_auto
from sedd.rundir.find import find_runs, runs_root
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_request
from sedd.spec.task import TaskSpec

INTERRUPTED = 130


def command(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Experiment specs (jobs/*.yaml).")],
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster profile; default $SEDD_CLUSTER, else slurm/local.yaml.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the specs.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the batch script (or local command); touch nothing.")
    ] = False,
    preflight: Annotated[
        bool, typer.Option("--preflight/--no-preflight", help="Check that the job can run before submitting.")
    ] = True,
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
        typer.Option(metavar="RUN", help="Start when this run (or sweep) has completed. May be repeated."),
    ] = None,
    resubmit: Annotated[
        bool, typer.Option("--resubmit", help="Submit even if this spec was submitted before.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", hidden=True, help="The old name of --resubmit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Turn specs into jobs: check, freeze the code, make run folders, submit (a sweep as an array).

    Where a site takes only a part of a sweep, or the command is interrupted, the same command later submits the rest.

    Example: sedd submit jobs/uniref50_small.yaml --cluster slurm/v100.yaml --follow
    """
    if follow and as_json:
        raise UsageError("--follow draws on the terminal, --json is for machines", hint="use --wait --json")
    earlier = [run for text in after or () for run in find_runs(text, runs_root())]
    orders = [replace(_order(spec, cluster, set_ or ()), after=earlier) for spec in specs]
    now = dt.datetime.now(dt.UTC)
    if dry_run:
        print_dry_run([render(order, now=now) for order in orders], as_json=as_json)
        return
    is_waiting, resubmit = follow or wait, resubmit or again
    left, known = _left_to_submit(orders, may_attach=is_waiting, resubmit=resubmit)
    if left and preflight:
        left = _checked(left, as_json=as_json)
    elif left:
        _print_ignored_variables(left[0].profile)
    submissions: list[Submission] = []
    if left:
        known += _submit_alone(
            left, submissions, now=now, may_wait=is_waiting, resubmit=resubmit, as_json=as_json
        )
    for run in known:
        _remark(_describe_known(run))
    runs = [*(each.run for each in known), *(run for each in submissions for run in each.runs)]
    succeeded = None
    if is_waiting and not any(isinstance(each.stopped_by, KeyboardInterrupt) for each in submissions):
        succeeded = _watch(runs, left, follow=follow)
    _finish(runs, submissions, succeeded, as_json=as_json)


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
    if not left and not may_attach:
        for order in orders:
            require_not_submitted(order.request.experiments, order.runs)
    return left, known


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
    with one_submission(names, orders[0].runs):
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
    runs: Sequence[RunDir], submissions: Sequence[Submission], succeeded: bool | None, *, as_json: bool
) -> None:
    """The command's last words. Ends it with exit code 1 when something went wrong, or nothing could be submitted."""
    if as_json:
        print_json(submission_document(runs, submissions, succeeded))
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


def _order(spec: Path, cluster: Path | None, overrides: Sequence[str]) -> Order:
    profile = load_profile(cluster, spec=spec)
    request = resolve_auto(load_request(spec, overrides), profile)
    return Order(
        request=request,
        profile=profile,
        runs=runs_root(),
        parameters=[_parameters(experiment) for experiment in request.experiments],
    )


def _parameters(experiment: TaskSpec) -> int | None:
    return parameter_count(experiment.model) if isinstance(experiment, Experiment) else None


def _describe_known(known: Known) -> str:
    what = f"This spec was submitted before: run {known.run.name}/{known.run.id}, {known.standing}."
    return f"{what} --resubmit submits another."


def _checked(orders: Sequence[Order], *, as_json: bool) -> list[Order]:
    """The orders with what preflight found. Ends the command with exit code 1 when one of them could not run."""
    from sedd.preflight.context import Answers
    from sedd.preflight.read.batch_hash import known_first_batch
    from sedd.preflight.run_checks import check_login

    answers, shown, checked = Answers(), set[Finding](), []
    for order in orders:
        findings = check_login(order.request, order.profile, runs=order.runs, answers=answers)
        if has_failures(findings):
            _refuse(order, findings, as_json=as_json)
        remarkable = [finding for finding in findings if finding.status is not Status.OK]
        for finding in remarkable:
            if finding not in shown:  # of several specs most of it is about the site
                err().print(f"preflight {finding.status}: {finding.check}: {finding.saw}", markup=False)
        shown |= set(remarkable)
        batches = [known_first_batch(experiment, answers) for experiment in order.request.experiments]
        checked.append(
            replace(order, findings=[asdict(finding) for finding in remarkable], first_batches=batches)
        )
    return checked


def _print_ignored_variables(profile: Profile) -> None:
    """Without a preflight, too, nobody shall count on variables that do not reach the job."""
    from sedd.preflight.checks import environment

    verdict = environment.judge(environment.facts_of(os.environ, environment.reader_of(profile)))
    if verdict.status is Status.WARN:
        err().print(f"{verdict.status}: environment: {verdict.saw}", markup=False)


def _refuse(order: Order, findings: Sequence[Finding], *, as_json: bool) -> NoReturn:
    from sedd.preflight.show.render import conclusion, findings_table

    if as_json:
        print_json({"runs": [], "findings": [asdict(finding) for finding in findings]})
    else:
        out().print(findings_table(findings))
        out().print(conclusion(findings))
        name = order.request.experiments[0].name
        err().print(
            f"Nothing was submitted: {name} would not run to its end. --no-preflight submits all the same; "
            "its node looks again.",
            markup=False,
        )
    raise typer.Exit(1)


def _watch(runs: Sequence[RunDir], orders: Sequence[Order], *, follow: bool) -> bool:
    """Whether all runs succeeded, once all have ended; what waits for a place is submitted meanwhile.

    Ctrl-C leaves them running: exit code 130.
    """
    from sedd.cli.submit_rest import Rest
    from sedd.monitor.decide.failure import failure_line
    from sedd.monitor.show.follow import follow as follow_runs
    from sedd.monitor.show.follow import wait as wait_for

    rest = Rest(orders, notify=_remark)
    try:
        if follow:
            views = follow_runs(runs, console=out(), meanwhile=rest)
        else:
            views = wait_for(runs, notify=_remark, meanwhile=rest)
    except KeyboardInterrupt:
        if not follow:
            err().print("\nNo longer waiting; the runs continue. sedd status shows them.")
        raise typer.Exit(INTERRUPTED) from None
    failed = [view for view in views if not view.state.is_success]
    for view in failed[:LISTED]:
        _remark(failure_line(view))
    if len(failed) > LISTED:
        _remark(f"… and {len(failed) - LISTED} more: sedd status --all")
    return not failed


def _remark(text: str) -> None:
    err().print(text, markup=False, soft_wrap=True)
