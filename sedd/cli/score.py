"""`sedd score`: mutants beside their wild type, under a trained network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.console import note, print_json, put_table, require_one_on_stdout, tell
from sedd.cli.load_network import load, progress, require_fasta, require_network, tells_interrupt
from sedd.cli.model_options import validated, with_options_of
from sedd.cli.options import FILE, Force, Json, Network
from sedd.complaints import clip
from sedd.errors import UsageError
from sedd.rundir.atomic import is_stdout, require_output
from sedd.spec.inference import ScoreOptions, ScoreSpec, options_of
from sedd.units import counted

if TYPE_CHECKING:
    from sedd.inference.load_network import Trained
    from sedd.inference.score import Scores
    from sedd.inference.variants import VariantTable


@with_options_of(ScoreOptions)
@tells_interrupt("output", "page", task="score")
def command(
    *,
    run: Network,
    fasta: Annotated[list[Path] | None, typer.Option("--fasta", help="Wild types.")] = None,
    scan: Annotated[bool, typer.Option("--scan", help="All single mutants of the wild types.")] = False,
    mutants: Annotated[
        Path | None, typer.Option(help="CSV or TSV with a column mutant (A24G:L30P) or mutated_sequence.")
    ] = None,
    offset: Annotated[
        int,
        typer.Option(
            help="Where the table counts otherwise: 23 if it calls the first residue of the wild type number 24."
        ),
    ] = 0,
    given: dict[str, Any],
    measured: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the table to compare scores with, by Spearman's correlation.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Table: .csv, .tsv or .parquet (needs pyarrow); default, and -: CSV on stdout.",
            metavar=FILE,
            readable=False,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Page with heat maps, .html; or one heat map, .svg.", metavar=FILE, readable=False),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score mutants in nats, ln p(mutant) - ln p(wild type), each with the standard error of its draws.

    Example: sedd score quickstart --fasta protein.fasta --scan -o scores.csv --page scores.html
    """
    if scan == (mutants is not None):
        raise UsageError("give either --scan, for all single mutants, or --mutants TABLE")
    if scan and not fasta:
        raise UsageError("--scan needs --fasta: the wild types")
    _require_column(measured, mutants)
    require_network(run)
    require_fasta(*(fasta or ()))
    subject = {"network": run, "wild_types": fasta or [], "mutants": mutants, "offset": offset}
    wanted = validated(ScoreSpec, given | subject | {"measured": measured})
    how = options_of(ScoreOptions, wanted)
    _require_outputs(output, page, force=force, as_json=as_json)
    table = _read_scorable(wanted, how)
    from sedd.inference.score import score_table, summary  # torch
    from sedd.inference.score_page import write_score_page

    trained = load(run).under(how.condition, notify=note)
    with progress("scoring", len(table.variants), "mutants") as step:
        scores = score_table(trained, table, how, progress=step)
    _tell_windows(scores, trained)
    for remark in scores.remarks():
        note(remark)
    if page is not None:
        write_score_page(page, trained, how, scores, measured=measured)
        tell(f"page in {page}")
    if (output is not None or not as_json) and put_table(output, scores.columns()):
        tell(f"{counted(len(table.variants), 'mutant')} in {output}")
    if as_json:
        print_json(summary(trained, how, scores, measured))
    if measured:
        _tell_correlations(scores, measured)


def _require_column(measured: str | None, mutants: Path | None) -> None:
    """Raise UsageError for a column of no table, and for a table in its place."""
    if measured is None:
        return
    is_file = Path(measured).suffix.lower() in (".csv", ".tsv") or Path(measured).is_file()
    if mutants is None:
        raise UsageError(
            "--measured names a column of the table of --mutants",
            hint=f"the file goes to --mutants: --mutants {clip(measured)} --measured COLUMN"
            if is_file
            else f"did you mean --mutants TABLE --measured {clip(measured)}, instead of --scan?",
        )
    if is_file and measured == str(mutants):
        raise UsageError(
            f"--measured is {clip(measured)}, a file; it names a column of that table",
            hint=f"sedd score --mutants {clip(measured)} --measured COLUMN",
        )


def _require_outputs(output: Path | None, page: Path | None, *, force: bool, as_json: bool) -> None:
    """Refuse what could not be written, before anything is computed. Raises: UsageError."""
    from sedd.inference.tables import require_table

    require_table(output, force=force)
    require_one_on_stdout({"-o": is_stdout(output), "--json": as_json})
    require_output(page, force=force, endings=(".html", ".svg", ""))


def _read_scorable(wanted: ScoreSpec, how: ScoreOptions) -> "VariantTable":
    """The mutants, which can be scored so and compared with what was measured. Raises: SeddError."""
    from sedd.inference.correlation import measured_numbers
    from sedd.inference.variant_table import read_table
    from sedd.inference.variants import require_substitutions

    table = read_table(wanted)
    require_substitutions(table.variants, how)
    if wanted.measured is not None:
        measured_numbers(table, wanted.measured)
    return table


def _tell_windows(scores: "Scores", trained: "Trained") -> None:
    """Of proteins that are longer than those on which the network was trained."""
    if scores.windows:
        tell(
            f"note: {counted(scores.windows, 'mutant')} scored by the {trained.longest} residues around the mutation"
        )


def _tell_correlations(scores: "Scores", measured: str) -> None:
    from sedd.inference.score import correlations

    for name, found in correlations(scores, measured).items():
        tell(f"{name}: Spearman {found.text()}")
