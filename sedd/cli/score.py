"""`sedd score`: mutants beside their wild type, under a trained network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.conditions import Conditions, parse_condition
from sedd.cli.console import err, print_json, print_text
from sedd.cli.load_network import Force, load, progress, require_network, require_place
from sedd.errors import UsageError

if TYPE_CHECKING:
    from sedd.spec.inference import ScoreSpec


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run, a checkpoint file or an exported folder.")
    ],
    fasta: Annotated[list[Path] | None, typer.Option("--fasta", help="Wild types.")] = None,
    scan: Annotated[bool, typer.Option("--scan", help="All single mutants of the wild types.")] = False,
    mutants: Annotated[
        Path | None, typer.Option(help="CSV or TSV with a column mutant (A24G:L30P) or mutated_sequence.")
    ] = None,
    offset: Annotated[
        int, typer.Option(help="What numbers in names add to places in the wild type (from 1).")
    ] = 0,
    method: Annotated[
        list[str] | None, typer.Option(help="masked (default), wild_type, orders, bound; may be repeated.")
    ] = None,
    draws: Annotated[int, typer.Option(min=2, help="Orders, or noise levels of a bound.")] = 16,
    hidden: Annotated[
        float, typer.Option(min=0, max=1, help="orders: at most this share of the rest is hidden.")
    ] = 0.05,
    sigma_bar: Annotated[
        float | None, typer.Option(help="Noise level of marginals; default: fitting.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of orders and noise.")] = 0,
    measured: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Spearman's correlation with this column.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table: .csv or .parquet; default: CSV on stdout.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Page with heat maps, .html; or one heat map, .svg.")
    ] = None,
    condition: Conditions = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="A summary as JSON on stdout.")] = False,
) -> None:
    """Score mutants in nats, ln p(mutant) - ln p(wild type), each with its standard error.

    Example: sedd score quickstart --fasta protein.fasta --scan -o scores.csv --page scores.html
    """
    if scan == (mutants is not None):
        raise UsageError("give either --scan, for all single mutants, or --mutants TABLE")
    if scan and not fasta:
        raise UsageError("--scan needs --fasta: the wild types")
    require_network(run)
    from sedd.inference.score import (
        correlations,
        measured_numbers,
        require_substitutions,
        score_table,
        summary,
    )
    from sedd.inference.score_page import write_score_page
    from sedd.inference.tables import csv_text, write_table
    from sedd.inference.work import options_of, read_table
    from sedd.spec.inference import ScoreOptions

    wanted = _wanted(
        network=run, wild_types=fasta or [], mutants=mutants, offset=offset, methods=method or ["masked"],
        draws=draws, hidden=hidden, sigma_bar=sigma_bar, seed=seed, measured=measured,
        condition=parse_condition(condition),
    )  # fmt: skip
    how = options_of(ScoreOptions, wanted)
    _require_places(output, page, force=force)
    table = read_table(wanted)
    require_substitutions(table.variants, how)
    if measured is not None:
        measured_numbers(table, measured)
    trained = load(run).under(how.condition)
    with progress("scoring", len(table.variants)) as step:
        scores = score_table(trained, table, how, progress=step)
    if scores.windows:
        err().print(f"{scores.windows} mutants of longer proteins: {trained.longest} residues around each")
    if page is not None:
        write_score_page(page, trained, how, scores, measured=measured)
    if output is not None:
        write_table(output, scores.columns())
    if as_json:
        print_json(summary(trained, how, scores, measured))
    elif output is None:
        print_text(csv_text(scores.columns()))
    for name, found in (correlations(scores, measured) if measured else {}).items():
        err().print(f"{name}: Spearman {found.rho:.3f} ± {found.standard_error:.3f} ({found.pairs} pairs)")


def _wanted(**given: Any) -> "ScoreSpec":
    from pydantic import ValidationError

    from sedd.spec.inference import ScoreSpec

    try:
        return ScoreSpec(**given)
    except ValidationError as e:
        first = e.errors()[0]
        option = "--" + str(first["loc"][0] if first["loc"] else "fasta").replace("_", "-").removesuffix("s")
        raise UsageError(f"{option}: {first['msg'].removeprefix('Value error, ')}") from e


def _require_places(output: Path | None, page: Path | None, *, force: bool) -> None:
    """Refuse outputs that could not be written, before the work. Raises: UsageError."""
    from sedd.inference.score_page import require_page
    from sedd.inference.tables import require_writer

    require_place(output, "--output", force=force)
    require_place(page, "--page", force=force)
    if output is not None:
        require_writer(output)
    if page is not None:
        require_page(page)
