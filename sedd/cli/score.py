"""`sedd score`: mutants beside their wild type, under a trained network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sedd.cli.console import note, print_json, put_table, require_one_on_stdout, tell
from sedd.cli.load_network import load, progress, require_network
from sedd.cli.model_options import validated, with_options_of
from sedd.cli.options import Force, Json, Network
from sedd.errors import UsageError
from sedd.rundir.atomic import is_stdout, require_output
from sedd.spec.inference import ScoreOptions, ScoreSpec, options_of
from sedd.units import counted


@with_options_of(ScoreOptions)
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
            readable=False,
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Page with heat maps, .html; or one heat map, .svg.", readable=False)
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score mutants in nats, ln p(mutant) - ln p(wild type), each with its standard error.

    Example: sedd score quickstart --fasta protein.fasta --scan -o scores.csv --page scores.html
    """
    if scan == (mutants is not None):
        raise UsageError("give either --scan, for all single mutants, or --mutants TABLE")
    if scan and not fasta:
        raise UsageError("--scan needs --fasta: the wild types")
    require_network(run)
    from sedd.inference.correlation import measured_numbers
    from sedd.inference.tables import require_table
    from sedd.inference.variant_table import read_table
    from sedd.inference.variants import require_substitutions

    subject = {"network": run, "wild_types": fasta or [], "mutants": mutants, "offset": offset}
    wanted = validated(ScoreSpec, given | subject | {"measured": measured})
    how = options_of(ScoreOptions, wanted)
    require_table(output, force=force)
    require_one_on_stdout({"-o": is_stdout(output), "--json": as_json})
    require_output(page, force=force, endings=(".html", ".svg", ""))
    table = read_table(wanted)
    require_substitutions(table.variants, how)
    if measured is not None:
        measured_numbers(table, measured)
    from sedd.inference.score import correlations, score_table, summary  # torch
    from sedd.inference.score_page import write_score_page

    trained = load(run).under(how.condition, notify=note)
    with progress("scoring", len(table.variants)) as step:
        scores = score_table(trained, table, how, progress=step)
    if scores.windows:
        # The protein is longer than the network was trained on.
        tell(
            f"note: {counted(scores.windows, 'mutant')} scored by the {trained.longest} residues around the mutation"
        )
    if page is not None:
        write_score_page(page, trained, how, scores, measured=measured)
        tell(f"page in {page}")
    if (output is not None or not as_json) and put_table(output, scores.columns()):
        tell(f"{counted(len(table.variants), 'mutant')} in {output}")
    if as_json:
        print_json(summary(trained, how, scores, measured))
    for name, found in (correlations(scores, measured) if measured else {}).items():
        tell(f"{name}: Spearman {found.text()}")
