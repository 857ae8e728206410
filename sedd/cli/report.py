"""`sedd report`: a run as a page to send."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import err
from sedd.errors import RunError
from sedd.monitor.gather import Gatherer
from sedd.monitor.inspection import inspect
from sedd.monitor.report import read_papers, render_report
from sedd.rundir.atomic import replace_text
from sedd.rundir.find import find_run, runs_root


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, id, job id or name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page about a run: curves, attempts, samples, configuration.

    Example: sedd report quickstart -o report.html
    """
    found = find_run(run, runs_root())
    facts = Gatherer().gather([found], now=dt.datetime.now(dt.UTC))
    page = render_report(inspect(facts.runs[0], now=facts.taken), read_papers(found))
    try:
        replace_text(output, page)
    except OSError as e:
        raise RunError(f"cannot write {output}: {e.strerror}") from e
    err().print(f"{output.absolute()}", soft_wrap=True, markup=False)
