"""`sedd evaluate`: the likelihood bound of given proteins under a trained network."""

from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.conditions import Conditions, parse_condition
from sedd.cli.console import out, print_json
from sedd.cli.load_network import Force, load, note, progress, require_network, require_place
from sedd.errors import UsageError

CURVE = (0.05, 0.15, 0.25, 0.5, 0.75, 0.95)


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run, a checkpoint file or an exported folder.")
    ],
    fasta: Annotated[list[Path], typer.Option("--fasta", help="FASTA files, plain or gzip.")],
    draws: Annotated[
        int, typer.Option(min=2, help="Noise levels a protein: more make the error smaller.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Another seed draws other noise.")] = 0,
    per_sequence: Annotated[
        Path | None, typer.Option(help="Table with a row a protein: .csv or .parquet.")
    ] = None,
    mask_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Also the cross-entropy with this share hidden, 0.15 as published; may be repeated."
        ),
    ] = None,
    curve: Annotated[bool, typer.Option("--curve", help=f"The mask rates {CURVE}.")] = False,
    against: Annotated[
        str | None, typer.Option(metavar="RUN|CKPT", help="Another network: the paired difference.")
    ] = None,
    condition: Conditions = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Upper bound on the negative log-likelihood of proteins, with EMA weights and its standard error.

    Example: sedd evaluate quickstart --fasta proteins.fasta.gz --per-sequence bounds.parquet
    """
    from sedd.data.records import read_records
    from sedd.inference.tables import require_writer, write_table
    from sedd.spec.inference import EvaluateOptions

    if per_sequence is not None:
        require_place(per_sequence, "--per-sequence", force=force)
        require_writer(per_sequence)
    require_network(run)
    if against is not None:
        require_network(against)
    rates = sorted({*(mask_rate or ()), *(CURVE if curve else ())})
    if any(not 0 < rate <= 1 for rate in rates):
        raise UsageError(
            f"--mask-rate is {rates[0] if rates[0] <= 0 else rates[-1]}: a share above 0, at most 1"
        )
    how = EvaluateOptions(
        draws=draws, seed=seed, mask_rates=tuple(rates), condition=parse_condition(condition)
    )
    records = [record for path in fasta for record in read_records(path, allow_empty=True)]
    from sedd.inference.comparison import report  # torch
    from sedd.inference.evaluation import per_sequence as columns
    from sedd.inference.evaluation import read_proteins

    trained = load(run).under(how.condition)
    other = load(against) if against is not None else None
    longest = min(trained.longest, other.longest if other is not None else trained.longest)
    proteins = read_proteins(records, longest=longest)
    with progress("evaluating", len(proteins.names)) as step:
        found = report(trained, proteins, how, against=other, progress=step)
    for remark in found.result.remarks(longest=longest):
        note(remark)
    if per_sequence is not None:
        write_table(per_sequence, columns(found.result))
    if as_json:
        print_json(found.document)
    else:
        out().print("\n".join(found.lines()), soft_wrap=True)
