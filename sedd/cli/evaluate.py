"""`sedd evaluate`: how well a trained network knows given proteins."""

from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import out, print_json
from sedd.cli.load_network import Force, load, note, progress, require_network, require_place


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
    how = EvaluateOptions(draws=draws, seed=seed)
    records = [record for path in fasta for record in read_records(path, allow_empty=True)]
    from sedd.inference.evaluation import evaluate, read_proteins, summary  # torch
    from sedd.inference.evaluation import per_sequence as columns

    trained = load(run)
    proteins = read_proteins(records, longest=trained.longest)
    with progress("evaluating", len(proteins.names)) as step:
        result = evaluate(trained, proteins, how=how, progress=lambda done: step(done, len(proteins.names)))
    for remark in result.remarks(longest=trained.longest):
        note(remark)
    if per_sequence is not None:
        write_table(per_sequence, columns(result))
    bound, document = result.bound, summary(trained, how, result)
    if as_json:
        print_json(document)
        return
    out().print(
        f"{document['sequences']} proteins, {document['residues']} residues\n"
        f"at most {bound.nats_per_residue:.4f} ± {bound.standard_error:.4f} nats a residue "
        f"({bound.bits_per_residue:.4f} bits), perplexity {bound.perplexity:.2f}"
    )
