"""`sedd sample`: new proteins from a trained network."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.console import note, put_table, require_one_on_stdout, tell, write_text
from sedd.cli.load_network import load, progress, require_fasta, require_network, tells_interrupt
from sedd.cli.model_options import validated, with_options_of
from sedd.cli.options import FILE, Force, Network
from sedd.errors import UsageError
from sedd.rundir.atomic import is_stdout, require_output
from sedd.spec.inference import SampleOptions
from sedd.units import counted

if TYPE_CHECKING:
    from sedd.inference.generation import Sample
    from sedd.inference.load_network import Trained


@with_options_of(
    SampleOptions,
    names={"count": ("--count", "-n")},
    settings={
        "omit": {"metavar": "LETTERS"},
        "length": {"metavar": "N|LOW-HIGH"},
        "infill": {"metavar": "FASTA"},
        "template": {"metavar": "TEXT"},
        "parent": {"metavar": "FASTA"},
        "keep": {"metavar": "RANGES"},
        "guide": {"metavar": "NAME=TARGET"},
    },
)
@tells_interrupt("output", "table", "report", task="sample")
def command(
    *,
    run: Network,
    given: dict[str, Any],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="FASTA file, compressed if it ends in .gz; default, and -: stdout.",
            metavar=FILE,
            readable=False,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Table of redesigns: .csv, .tsv or .parquet (needs pyarrow); - is stdout.",
            metavar=FILE,
            readable=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Page about the samples beside real proteins, .html; or numbers, .json.",
            metavar=FILE,
            readable=False,
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Training data for the report; default: where the run had it.")
    ] = None,
    force: Force = False,
) -> None:
    """Draw proteins, with EMA weights, as FASTA: new ones, around given residues, or redesigns of a parent.

    Example: sedd sample quickstart -n 100 -o samples.fasta --report samples.html

    Example: sedd sample quickstart --parent wt.fasta --noise 0.3 --keep 24-60,88 -n 100 --table redesigns.csv
    """
    from sedd.design.given import read_given

    how = validated(SampleOptions, given | {"length": _parse_length(given.get("length"))})
    require_output(output, force=force, written="FASTA", to_stdout=True)
    _require_table(table, how, force=force)
    _require_report(report, store, force=force)
    require_one_on_stdout({"FASTA": output is None or is_stdout(output), "--table": is_stdout(table)})
    require_network(run)
    require_fasta(*filter(None, (how.infill,)), option="--infill")
    require_fasta(*([how.redesign.parent] if how.redesign else ()), option="--parent")
    begin = read_given(how)
    from sedd.inference.generation import draw_samples, fasta_text, redesign_columns  # torch

    trained = load(run).under(how.condition, how.guiding, notify=note)
    with progress("sampling", how.steps, "steps over all batches") as tick:
        samples = draw_samples(trained, how, begin, tick, note)
    text = fasta_text(trained, how, samples)
    if write_text(output, text):
        tell(f"{counted(len(samples), 'protein')} in {output}")
    if table is not None:
        put_table(table, redesign_columns(samples))
    if report is not None:
        _report(report, trained, how, samples, store)


def _parse_length(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"--length is '{text[:40]}'", hint="write 100, or a range as 80-120")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise UsageError(
            f"--length is '{text}': the first number must not be larger than the second",
            hint=f"write {high}-{low}",
        )
    return (low, high) if found[2] else low


def _require_table(table: Path | None, how: SampleOptions, *, force: bool) -> None:
    """Refuse a table that could not be written, before the work. Raises: UsageError."""
    if table is None:
        return
    from sedd.inference.tables import require_table

    if how.redesign is None:
        raise UsageError("--table is of redesigns, and there is no --parent")
    require_table(table, force=force)


def _require_report(report: Path | None, store: Path | None, *, force: bool) -> None:
    """Refuse a report that could not be written, before the work. Raises: UsageError; DataError for no store."""
    from sedd.data.store import TokenStore
    from sedd.quality.neighbours import require_aligner

    if report is None:
        return
    require_output(report, force=force, endings=(".html", ".json", ""))
    require_aligner()
    if store is not None:
        TokenStore.open(store)


def _report(
    path: Path, trained: "Trained", how: SampleOptions, samples: "list[Sample]", given: Path | None
) -> None:
    from sedd.inference.sample_report import assess_samples, open_training_data, write_report

    store = open_training_data(trained, given)
    if store is None:
        gone = trained.experiment.data.store
        tell(f"the training data {gone} is not here: the report does without (--store names it)")
    write_report(path, trained, how, samples, assess_samples(trained, samples, store))
    tell(f"report in {path}")
