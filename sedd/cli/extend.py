"""`sedd extend`: more steps for runs that have ended."""

import datetime as dt
from typing import Annotated

import typer

from sedd.amend.extend import extend, plan_extension
from sedd.amend.preview import Preview, preview
from sedd.cli.changed_run import check_of
from sedd.cli.console import tell_wait
from sedd.cli.for_each_run import for_each
from sedd.cli.options import DryRun, Json, Preflight, Runs
from sedd.launch.liveness import query_run_status
from sedd.rundir.layout import RunDir
from sedd.waiting import slow_waits_told


@slow_waits_told(tell_wait)
def command(
    runs: Runs,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all, those already done included.")],
    rewarm: Annotated[
        int | None,
        typer.Option(min=1, help="Of a cosine schedule: steps in which the learning rate rises again."),
    ] = None,
    dry_run: DryRun = False,
    preflight: Preflight = True,
    as_json: Json = False,
) -> None:
    """Let runs that completed, gave up or were cancelled go on to more steps, each in its folder.

    With a constant or inverse_sqrt schedule, a run ends with the same bits as one that was asked for that many steps
    from the start. A cosine schedule has fallen to its end: --rewarm N lets it rise in N steps and fall once more.

    Example: sedd extend uniref50-small --steps 400000 --rewarm 1000
    """
    now = dt.datetime.now(dt.UTC)

    def planned(run: RunDir) -> Preview:
        return preview(plan_extension(query_run_status(run), steps, rewarm=rewarm))

    for_each(
        runs,
        planned
        if dry_run
        else lambda run: extend(run, steps, rewarm=rewarm, check=check_of(preflight), now=now),
        word="extended",
        as_json=as_json,
        also_completed=True,
    )
