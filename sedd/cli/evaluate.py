"""`sedd evaluate`: how well a trained network knows given proteins."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sedd.cli.console import err, out, print_json

if TYPE_CHECKING:
    from sedd.training.evaluation import Evaluation


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="A run, or a checkpoint file.")],
    fasta: Annotated[list[Path], typer.Option("--fasta", help="FASTA files, plain or gzip.")],
    draws: Annotated[
        int, typer.Option(min=2, help="Noise levels a protein: more make the error smaller.")
    ] = 16,
    seed: Annotated[int, typer.Option(help="Another seed draws other noise.")] = 0,
    per_sequence: Annotated[Path | None, typer.Option(help="CSV file: one line a protein.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Upper bound on the negative log-likelihood of proteins, with EMA weights and its standard error.

    Example: sedd evaluate quickstart --fasta proteins.fasta.gz --per-sequence bounds.csv
    """
    from sedd.cli.trained import load, progress, require_place
    from sedd.data.records import read_records
    from sedd.training.evaluation import evaluate

    require_place(per_sequence, "--per-sequence")
    records = [record for path in fasta for record in read_records(path)]
    trained = load(run)
    with progress("evaluating", len(records)) as step:
        result = evaluate(
            trained, records, draws=draws, seed=seed, progress=lambda done: step(done, len(records))
        )
    if result.cut:
        longest = trained.experiment.data.max_length
        err().print(f"{result.cut} longer proteins: their first {longest} residues were evaluated")
    if per_sequence is not None:
        _write_csv(per_sequence, result)
    bound = result.bound
    document = {
        "run": trained.run,
        "step": trained.step,
        "sequences": len(result.names),
        "residues": int(bound.residues.sum()),
        "nats_per_residue": bound.nats_per_residue,
        "standard_error": bound.standard_error,
        "perplexity": bound.perplexity,
        "bits_per_residue": bound.bits_per_residue,
        "draws": draws,
        "seed": seed,
        "cut": result.cut,
    }
    if as_json:
        print_json(document)
        return
    out().print(
        f"{document['sequences']} proteins, {document['residues']} residues\n"
        f"at most {bound.nats_per_residue:.4f} ± {bound.standard_error:.4f} nats a residue "
        f"({bound.bits_per_residue:.4f} bits), perplexity {bound.perplexity:.2f}"
    )


def _write_csv(path: Path, result: "Evaluation") -> None:
    import csv
    import io

    from sedd.cli.trained import write_output

    bound = result.bound
    rows = zip(
        result.names,
        bound.residues.tolist(),
        (bound.nats / bound.residues).tolist(),
        (bound.variance.sqrt() / bound.residues).tolist(),
        strict=True,
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "residues", "nats_per_residue", "standard_error"])
    writer.writerows(rows)
    write_output(path, text.getvalue())
