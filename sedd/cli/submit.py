"""`sedd submit`: specs in, runs out."""

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sedd.cli.console import err, out, print_json
from sedd.cluster.profile import Profile, load_profile
from sedd.errors import UsageError
from sedd.launch.submit import Order, render, submit
from sedd.launch.submitted import Known, find_submitted, one_submission, require_not_submitted
from sedd.model.size import parameter_count
from sedd.preflight.finding import Finding, Status, has_failures
from sedd.preflight.resolve_auto import resolve_auto
from sedd.rundir.events import read_events
from sedd.rundir.find import find_runs, runs_root
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_request
from sedd.spec.task import TaskSpec

INTERRUPTED = 130
_LISTED = 8
"""Runs of a sweep that are named one by one."""


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
        bool, typer.Option("--wait", help="Return when all runs ended; exit 1 if one failed.")
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
    """Turn specs into jobs: check, freeze the code, make run folders, submit (a sweep as one array).

    Example: sedd submit jobs/uniref50_small.yaml --cluster slurm/v100.yaml --follow
    """
    if follow and as_json:
        raise UsageError("--follow draws on the terminal, --json is for machines", hint="use --wait --json")
    earlier = [run for text in after or () for run in find_runs(text, runs_root())]
    orders = [replace(_order(spec, cluster, set_ or ()), after=earlier) for spec in specs]
    now = dt.datetime.now(dt.UTC)
    if dry_run:
        _print_dry_run([render(order, now=now) for order in orders], as_json=as_json)
        return
    watches, resubmit = follow or wait, resubmit or again
    known = None if resubmit else _known(orders, may_attach=watches)
    if known is None:
        if preflight:
            orders = _checked(orders, as_json=as_json)
        else:
            _print_ignored_variables(orders[0].profile)
        known, runs = _submit_alone(orders, now=now, resubmit=resubmit, may_attach=watches, as_json=as_json)
    if known is not None:
        _finish([known.run], _attach(known, follow=follow), as_json=as_json)
        return
    _finish(runs, _watch(runs, follow=follow) if watches else None, as_json=as_json)


def _submit_alone(
    orders: Sequence[Order], *, now: dt.datetime, resubmit: bool, may_attach: bool, as_json: bool
) -> tuple[Known | None, list[RunDir]]:
    """Submit the orders; or the run to watch instead, where somebody has submitted the same while we checked."""
    runs: list[RunDir] = []
    names = {experiment.name for order in orders for experiment in order.request.experiments}
    with one_submission(names, orders[0].runs):
        if known := None if resubmit else _known(orders, may_attach=may_attach):
            return known, runs
        for order in orders:
            made = submit(order, now=now)
            runs += made
            if not as_json:
                _print_submitted(made, order)
    return None, runs


def _finish(runs: Sequence[RunDir], succeeded: bool | None, *, as_json: bool) -> None:
    """The command's last words. Ends it with exit code 1 when a run that it waited for did not succeed."""
    if as_json:
        print_json(_document(runs, succeeded))
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


def _known(orders: Sequence[Order], *, may_attach: bool) -> Known | None:
    """The run that a single spec is submitted as already, to be watched instead; None: all is new.

    Raises:
        RunError: some of it is submitted already, and there is not one run to watch instead.
    """
    if may_attach and len(orders) == 1 and len(orders[0].request.experiments) == 1:
        known = find_submitted(orders[0].request.experiments, orders[0].runs)
        return known[-1] if known else None
    for order in orders:
        require_not_submitted(order.request.experiments, order.runs)
    return None


def _attach(known: Known, *, follow: bool) -> bool:
    """Watch the run that exists instead of submitting its spec again; whether it ended well."""
    what = f"This spec is submitted already: run {known.run.name}/{known.run.id}, {known.standing}."
    err().print(f"{what} --resubmit submits another.", markup=False, soft_wrap=True)
    return _watch([known.run], follow=follow)


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


def _print_dry_run(scripts: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"scripts": list(scripts)})
        return
    for script in scripts:
        out().print(script, markup=False, soft_wrap=True)
    err().print("Nothing was submitted, or checked: sedd preflight says whether it can run.", markup=False)


def _print_submitted(runs: Sequence[RunDir], order: Order) -> None:
    """What was submitted, where, and how to go on."""
    console = out()
    experiment, count = order.request.experiments[0], len(runs)
    what = f"run {runs[0].id}" if count == 1 else f"{count} runs"
    console.print(
        f"Submitted {experiment.name}: {what}, {_where(order.profile, runs[0])}", markup=False, soft_wrap=True
    )
    for run in runs[:_LISTED] if count > 1 else ():
        point = read_manifest(run).get("point") or {}
        values = ", ".join(f"{key}={value}" for key, value in point.items())
        console.print(f"  {run.id}  {values}", markup=False, soft_wrap=True)
    if count > _LISTED:
        console.print(f"  … and {count - _LISTED} more")
    console.print(
        f"  folder  {runs[0].path if count == 1 else runs[0].path.parent}", markup=False, soft_wrap=True
    )
    if order.after:
        console.print(
            f"  after   {', '.join(f'{run.name}/{run.id}' for run in order.after[:_LISTED])}", soft_wrap=True
        )
    together = runs[0].id if count == 1 else str(read_manifest(runs[0]).get("sweep"))
    console.print(f"  follow  sedd status {together if count == 1 else ''}".rstrip(), soft_wrap=True)
    console.print(f"  log     sedd logs {runs[0].id} -f", soft_wrap=True)
    console.print(f"  end     sedd cancel {together}", soft_wrap=True)


def _where(profile: Profile, run: RunDir) -> str:
    if profile.executor == "local":
        return "on this machine, in the background"
    partition = f", partition {profile.partition}" if profile.partition else ""
    return f"SLURM job {_job_id(run)}{partition}"


def _job_id(run: RunDir) -> str | None:
    return next((e.get("job_id") for e in reversed(read_events(run.events)) if e.event == "submitted"), None)


def _watch(runs: Sequence[RunDir], *, follow: bool) -> bool:
    """Whether all runs succeeded, once all have ended. Ctrl-C leaves them running: exit code 130."""
    from sedd.monitor.decide.failure import failure_line
    from sedd.monitor.show.follow import follow as follow_runs
    from sedd.monitor.show.follow import wait as wait_for

    try:
        views = follow_runs(runs, console=out()) if follow else wait_for(runs, notify=_remark)
    except KeyboardInterrupt:
        if not follow:
            err().print("\nNo longer waiting; the runs go on. sedd status shows them.")
        raise typer.Exit(INTERRUPTED) from None
    failed = [view for view in views if not view.state.is_success]
    for view in failed[:_LISTED]:
        _remark(failure_line(view))
    if len(failed) > _LISTED:
        _remark(f"… and {len(failed) - _LISTED} more: sedd status --all")
    return not failed


def _remark(text: str) -> None:
    err().print(text, markup=False, soft_wrap=True)


def _document(runs: Sequence[RunDir], succeeded: bool | None) -> dict[str, Any]:
    listed = [
        {
            "name": run.name,
            "id": run.id,
            "path": str(run.path),
            "job_id": _job_id(run),
            "point": read_manifest(run).get("point"),
        }
        for run in runs
    ]
    return {"runs": listed} | ({} if succeeded is None else {"succeeded": succeeded})
