"""`sedd requeue`: revive runs, or move running ones."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

import typer

from sedd.cli.for_each_run import Outcome, Refused, for_each
from sedd.errors import RunError, SeddError
from sedd.launch.requeue import requeue, submit_first
from sedd.launch.unsubmitted import confirm_all
from sedd.rundir.layout import RunDir


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders, ids, job ids or names; a sweep is all its points."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Revive runs that gave up, were killed or cancelled; make running ones save and go on elsewhere.

    Points of a sweep that were not submitted yet are submitted, as far as the site takes them.

    A run that SLURM makes wait for two minutes after a requeue waits no longer.

    Example: sedd requeue uniref50-small
    """
    now = dt.datetime.now(dt.UTC)
    for_each(
        runs,
        lambda run: requeue([run], now=now)[0],
        word="requeued",
        as_json=as_json,
        together=_submit_first,
    )


def _submit_first(runs: Sequence[RunDir]) -> dict[RunDir, Outcome]:
    """Points of a sweep that were never submitted become arrays; where the site has no place, that is a refusal."""
    try:
        confirm_all(runs)
        results = submit_first(runs)
    except SeddError:
        return {}  # each run by itself says what is wrong with it
    return {
        run: each if each.changed else Refused(RunError(f"run {run.id} is {each.detail}"))
        for run, each in results.items()
    }
