"""`sedd logs`: print what a run printed."""

import sys
from typing import Annotated

import typer

from sedd.cli.console import tell
from sedd.cli.find_run import find_one
from sedd.cli.options import Run
from sedd.errors import RunError, UsageError
from sedd.monitor.read.logs import follow_log, is_job_output, last_lines, telling_log
from sedd.rundir.events import damaged_lines, read_events
from sedd.rundir.layout import RunDir, read_manifest


def command(
    run: Run,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on, across attempts, until the run ends.")
    ] = False,
    rank: Annotated[int, typer.Option(help="Rank of the process whose log to show.", min=0)] = 0,
    tail: Annotated[int, typer.Option(help="How many of the last lines to show first.", min=0)] = 100,
) -> None:
    """Show a run's newest log; of a job that died before any rank had one, what the job printed.

    Example: sedd logs quickstart -f
    """
    found = find_one(run)
    _require_rank(found, rank)
    for number in _damaged(found):
        _remark(f"{found.events}:{number}: damaged line, passed over")
    log = telling_log(found, rank=rank)
    if log is None:
        _explain_none(found, rank)
    else:
        what = ": what the job itself printed; no rank has a log" if is_job_output(log) else ""
        tell(f"{log}{what}", style="dim")
    if follow and log is not None and is_job_output(log):
        _write(last_lines(log, tail))  # of the ranks nothing may follow
    if follow:
        for text in follow_log(found, rank=rank, tail=tail, notify=_remark):
            _write(text)
    elif log is not None:
        _write(last_lines(log, tail))


def _require_rank(run: RunDir, rank: int) -> None:
    """Raises: UsageError for a rank that the run does not have."""
    try:
        ranks = int(read_manifest(run).get("ranks", rank + 1))
    except RunError:
        return  # a damaged manifest keeps nobody from the logs
    if rank >= ranks:
        has = "one rank, 0" if ranks == 1 else f"the ranks 0 to {ranks - 1}"
        raise UsageError(f"--rank is {rank}; run {run.id} has {has}")


def _damaged(run: RunDir) -> tuple[int, ...]:
    try:
        return damaged_lines(run.events.read_bytes())
    except OSError:
        return ()


def _explain_none(run: RunDir, rank: int) -> None:
    others = "" if rank == 0 else f" of rank {rank}"
    events = read_events(run.events)
    started = [event for event in events if event.event == "attempt_started"]
    message = f"No log{others} yet in {run.logs}: the job has not started."
    if started and started[-1].get("executor") == "foreground":
        message = f"No log: attempt {started[-1].attempt} ran in the foreground, and printed to its terminal."
    elif started:
        message = f"No log{others} in {run.logs}: there is no such rank, or it has printed nothing."
    tell(message)


def _remark(text: str) -> None:
    tell(text, style="yellow")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
