"""`sedd evaluate`: the likelihood bound of given proteins under a trained network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sedd.cli.console import err, note, out, print_json, put_table, require_one_on_stdout
from sedd.cli.load_network import load, progress, require_fasta, require_network, tells_interrupt
from sedd.cli.model_options import validated, with_options_of
from sedd.cli.options import FILE, Fasta, Force, Json, Network
from sedd.rundir.atomic import is_stdout
from sedd.spec.inference import EvaluateOptions

CURVE = (0.05, 0.15, 0.25, 0.5, 0.75, 0.95)


@with_options_of(EvaluateOptions)
@tells_interrupt("per_sequence", task="evaluate")
def command(
    *,
    run: Network,
    fasta: Fasta,
    given: dict[str, Any],
    per_sequence: Annotated[
        Path | None,
        typer.Option(
            help="Table with a row a protein: .csv, .tsv or .parquet (pyarrow); - is stdout.",
            metavar=FILE,
            readable=False,
        ),
    ] = None,
    curve: Annotated[bool, typer.Option("--curve", help=f"The mask rates {CURVE}.")] = False,
    against: Annotated[
        str | None, typer.Option(metavar="RUN|CKPT", help="Another network: the paired difference.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Upper bound on the negative log-likelihood of proteins, with EMA weights and its standard error.

    Example: sedd evaluate quickstart --fasta proteins.fasta.gz --per-sequence bounds.csv
    """
    from sedd.data.records import read_records
    from sedd.inference.tables import require_table

    require_table(per_sequence, force=force)
    require_one_on_stdout({"--per-sequence": is_stdout(per_sequence), "--json": as_json})
    require_network(run)
    if against is not None:
        require_network(against)
    require_fasta(*fasta)
    rates = sorted({*given["mask_rates"], *(CURVE if curve else ())})
    how = validated(EvaluateOptions, given | {"mask_rates": rates})
    records = [record for path in fasta for record in read_records(path, allow_empty=True)]
    from sedd.inference.comparison import report  # torch
    from sedd.inference.evaluation import per_sequence as columns
    from sedd.inference.evaluation import read_proteins

    trained = load(run).under(how.condition, notify=note)
    other = load(against) if against is not None else None
    longest = min(trained.longest, other.longest if other is not None else trained.longest)
    proteins = read_proteins(records, longest=longest)
    with progress("evaluating", len(proteins.names), "proteins") as step:
        found = report(trained, proteins, how, against=other, progress=step)
    for remark in found.result.remarks(longest=longest):
        note(remark)
    if per_sequence is not None:
        put_table(per_sequence, columns(found.result))
    if as_json:
        print_json(found.document)
    else:
        console = err() if is_stdout(per_sequence) else out()
        console.print("\n".join(found.lines()), soft_wrap=True)
