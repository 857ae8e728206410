"""What `sedd submit` prints: what was submitted, what waits, and how to go on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sedd.cli.console import out, print_json, tell
from sedd.cluster.profile import Profile
from sedd.launch.make_runs import Order
from sedd.launch.submit import Submission
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest

REST_HINT = "the same command submits the rest as places come free; --wait does so by itself"
LISTED = 8
"""Runs of a sweep that are named one by one."""


def print_dry_run(
    scripts: Sequence[str], *, as_json: bool, choices: Sequence[Mapping[str, Any]] | None = None
) -> None:
    if as_json:
        print_json({"scripts": list(scripts)} | ({} if choices is None else {"soonest": list(choices)}))
        return
    for script in scripts:
        out().print(script, markup=False, soft_wrap=True)
    tell("Nothing was submitted, or checked: sedd preflight says whether it can run.")


def print_submitted(submission: Submission, order: Order) -> None:
    """What was submitted, where, and how to go on."""
    console, runs = out(), submission.runs
    name, total = order.request.experiments[0].name, len(runs)
    started = [run for run in runs if run not in submission.waiting]
    what = f"run {runs[0].id}" if total == 1 else f"{total} runs"
    if submission.waiting or submission.count < total:
        console.print(f"{name}: {submission}", markup=False, soft_wrap=True)
    else:
        where = _where(order.profile, runs[0])
        console.print(f"Submitted {name}: {what}, {where}", markup=False, soft_wrap=True)
    for run in started[:LISTED] if total > 1 else ():
        point = read_manifest(run).get("point") or {}
        values = ", ".join(f"{key}={value}" for key, value in point.items())
        console.print(f"  {run.id}  {values}", markup=False, soft_wrap=True)
    if len(started) > LISTED:
        console.print(f"  … and {len(started) - LISTED} more")
    if submission.waiting:
        console.print(f"  rest    {REST_HINT}", markup=False, soft_wrap=True)
    console.print(
        f"  folder  {runs[0].path if total == 1 else runs[0].path.parent}", markup=False, soft_wrap=True
    )
    for change in _changes(started[0]) if started else ():
        console.print(f"  changed by the site: {change}", style="yellow", markup=False, soft_wrap=True)
    if order.after:
        console.print(
            f"  after   {', '.join(f'{run.name}/{run.id}' for run in order.after[:LISTED])}", soft_wrap=True
        )
    together = runs[0].id if total == 1 else str(read_manifest(runs[0]).get("sweep"))
    console.print(f"  follow  sedd status {together if total == 1 else ''}".rstrip(), soft_wrap=True)
    console.print(f"  log     sedd logs {runs[0].id} -f", soft_wrap=True)
    console.print(f"  end     sedd cancel {together}", soft_wrap=True)


def _where(profile: Profile, run: RunDir) -> str:
    if profile.executor == "local":
        return "on this machine, in the background"
    partition = f", partition {profile.partition}" if profile.partition else ""
    return f"SLURM job {_job_id(run)}{partition}"


def _job_id(run: RunDir) -> str | None:
    return _submitted(run).get("job_id")


def _changes(run: RunDir) -> Sequence[str]:
    return tuple(_submitted(run).get("changed", ()))


def _submitted(run: RunDir) -> Mapping[str, Any]:
    """The fields of the newest submission; none before the first."""
    return next((e.fields for e in reversed(read_events(run.events)) if e.event == "submitted"), {})


def submission_document(
    runs: Sequence[RunDir], submissions: Sequence[Submission], succeeded: bool | None
) -> dict[str, Any]:
    listed = [
        {
            "name": run.name,
            "id": run.id,
            "path": str(run.path),
            "job_id": _job_id(run),
            "point": read_manifest(run).get("point"),
        }
        | ({"changed": list(changed)} if (changed := _changes(run)) else {})
        for run in runs
    ]
    waiting = sum(run["job_id"] is None for run in listed)
    why = next((submission.why for submission in submissions if submission.why), None)
    return (
        {"runs": listed}
        | ({"waiting": waiting, "why": why} if waiting else {})
        | ({} if succeeded is None else {"succeeded": succeeded})
    )
