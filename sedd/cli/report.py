"""`sedd report`: one HTML page about a run."""

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import tell
from sedd.cli.find_run import find_one
from sedd.cli.options import FILE, Force, Run
from sedd.monitor.decide.inspection import inspect
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.show.report import read_documents, read_samples, render_report
from sedd.rundir.atomic import require_output, write_output


def command(
    run: Run,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="HTML file to write.", metavar=FILE, readable=False)
    ] = Path("report.html"),
    samples: Annotated[
        Path | None,
        typer.Option(help="FASTA of `sedd sample` to show; default: the newest in the run's samples folder."),
    ] = None,
    force: Force = False,
) -> None:
    """Write one self-contained HTML page about a run: curves, attempts, samples, configuration.

    Example: sedd report quickstart --samples samples.fasta -o report.html
    """
    found = find_one(run)
    require_output(output, force=force, endings=(".html", ""))
    facts = Gatherer().gather([found], now=dt.datetime.now(dt.UTC))
    documents = read_documents(found)
    if samples is not None:
        documents = dataclasses.replace(documents, samples=_read_given(samples))
    page = render_report(inspect(facts.runs[0], now=facts.taken), documents)
    write_output(output, page)
    tell(f"report in {output}")


def _read_given(path: Path) -> tuple[tuple[str, str], ...]:
    """The first proteins of a FASTA file. Raises: DataError for what is none."""
    from sedd.data.records import read_records

    next(read_records(path, allow_empty=True), None)
    return read_samples(path)
