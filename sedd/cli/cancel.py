"""`sedd cancel`: end runs for good."""

import datetime as dt
from typing import Annotated

import typer

from sedd.cli.console import out, print_json
from sedd.launch.cancel import cancel
from sedd.rundir.find import find_run, runs_root


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, ids, job ids or names.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """End runs for good: they save a checkpoint, and nothing starts them again but `sedd requeue`.

    Example: sedd cancel quickstart
    """
    root = runs_root()
    results = cancel([find_run(text, root) for text in runs], now=dt.datetime.now(dt.UTC))
    if as_json:
        print_json({"runs": [{"id": r.run.id, "cancelled": r.changed, "detail": r.detail} for r in results]})
        return
    for result in results:
        out().print(f"{result.run.name}/{result.run.id}: {result.detail}", markup=False, soft_wrap=True)
