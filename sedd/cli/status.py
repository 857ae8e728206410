"""`sedd status`: what the runs are doing."""

from typing import Annotated

import typer

from sedd.cli.fast_status import Glance, show


def command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders, ids, job ids or names; none: all of them."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Live; keys open, filter, cancel, requeue.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Also runs that ended more than a day ago.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document (sedd/monitor/README.md).")
    ] = False,
) -> None:
    """Show what runs are doing; of a single RUN everything, of a sweep all its points.

    Example: sedd status
    """
    show(Glance(runs=tuple(runs or ()), watch=watch, every=every, as_json=as_json))
