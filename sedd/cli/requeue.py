"""`sedd requeue`: let runs go on."""

import datetime as dt
from typing import Annotated

import typer

from sedd.cli.console import out, print_json
from sedd.launch.requeue import requeue
from sedd.rundir.find import find_run, runs_root


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, ids, job ids or names.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Revive runs that gave up, were killed or cancelled; make running ones save and go on elsewhere.

    Example: sedd requeue uniref50_small
    """
    root = runs_root()
    results = requeue([find_run(text, root) for text in runs], now=dt.datetime.now(dt.UTC))
    if as_json:
        print_json({"runs": [{"id": r.run.id, "requeued": r.changed, "detail": r.detail} for r in results]})
        return
    for result in results:
        out().print(f"{result.run.name}/{result.run.id}: {result.detail}", markup=False, soft_wrap=True)
