"""`sedd requeue`: let runs go on."""

import datetime as dt
from typing import Annotated

import typer

from sedd.cli.for_each_run import for_each
from sedd.launch.requeue import requeue


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

    A run that SLURM makes wait for two minutes after a requeue waits no longer.

    Example: sedd requeue uniref50-small
    """
    now = dt.datetime.now(dt.UTC)
    for_each(runs, lambda run: requeue([run], now=now)[0], word="requeued", as_json=as_json)
