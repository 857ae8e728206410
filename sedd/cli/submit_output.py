"""What `sedd submit` prints: what was submitted, what waits, and how to go on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sedd.cli.console import print_json, show, tell
from sedd.cluster.profile import Profile
from sedd.launch.make_runs import Order
from sedd.launch.submit import Submission
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.yaml_text import assignments

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
        show(script)
    tell("Nothing was submitted, or checked: sedd preflight says whether it can run.")


def print_submitted(submission: Submission, order: Order) -> None:
    """What was submitted, where, and how to go on."""
    runs, name = submission.runs, order.request.experiments[0].name
    total = len(runs)
    started = [run for run in runs if run not in submission.waiting]
    what = f"run {runs[0].id}" if total == 1 else f"{total} runs"
    if submission.waiting or submission.count < total:
        show(f"{name}: {submission}")
    else:
        show(f"Submitted {name}: {what}, {_where(order.profile, runs)}")
    for run in started[:LISTED] if total > 1 else ():
        show(f"  {run.id}  {assignments(read_manifest(run).get('point') or {})}")
    if len(started) > LISTED:
        show(f"  … and {len(started) - LISTED} more")
    if (halving := order.request.halving) and (steps := order.request.experiments[0].steps):
        show(f"  {halving.outlook(len(order.request.points), steps)}")
    if submission.waiting:
        show(f"  rest    {REST_HINT}")
    show(f"  folder  {runs[0].path if total == 1 else runs[0].path.parent}")
    for change in _changes(started[0]) if started else ():
        show(f"  changed by the site: {change}", style="yellow")
    if order.after:
        show(f"  after   {', '.join(f'{run.name}/{run.id}' for run in order.after[:LISTED])}")
    together = runs[0].id if total == 1 else str(read_manifest(runs[0]).get("sweep"))
    show(f"  follow  sedd status {together} -w")
    show(f"  log     sedd logs {runs[0].id} -f")
    show(f"  end     sedd cancel {together}")


def _where(profile: Profile, runs: Sequence[RunDir]) -> str:
    if profile.executor == "local":
        return "on this machine, in the background"
    partition = f", partition {profile.partition}" if profile.partition else ""
    arrays = dict.fromkeys((_job_id(run) or "").partition("_")[0] for run in runs)
    job = f"SLURM job {_job_id(runs[0])}" if len(runs) == 1 else f"SLURM array {', '.join(arrays)}"
    return f"{job}{partition}"


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
