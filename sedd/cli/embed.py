"""`sedd embed`: hidden states of proteins under a trained network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sedd.cli.console import note, tell
from sedd.cli.load_network import load, progress, require_fasta, require_network, tells_interrupt
from sedd.cli.model_options import validated, with_options_of
from sedd.cli.options import FILE, Fasta, Force, Network
from sedd.spec.inference import EmbedOptions


@with_options_of(EmbedOptions)
@tells_interrupt("output", task="embed")
def command(
    *,
    run: Network,
    fasta: Fasta,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File: .npz, .safetensors or .parquet (needs pyarrow).",
            metavar=FILE,
            readable=False,
        ),
    ],
    given: dict[str, Any],
    force: Force = False,
) -> None:
    """Write hidden states of each protein, in the order of the files; packed batches give what single proteins give.

    Example: sedd embed quickstart --fasta proteins.fasta.gz -o embeddings.npz
    """
    from sedd.data.records import read_records
    from sedd.inference.embedding_file import require_format, write_embeddings

    how = validated(EmbedOptions, given)
    require_format(output, force=force)
    require_network(run)
    require_fasta(*fasta)
    records = [record for path in fasta for record in read_records(path, allow_empty=True)]
    from sedd.inference.embed import embed  # torch
    from sedd.inference.work import read_residues

    trained = load(run).under(how.condition, notify=note)
    proteins = read_residues(records, longest=trained.longest, notify=note)
    names, residues = [name for name, _ in proteins], [tokens for _, tokens in proteins]
    with progress("embedding", len(proteins), "proteins") as step:
        found = embed(trained, residues, how, progress=step)
    write_embeddings(output, [(names, residues, found)], pooled=how.pooling == "mean")
    shapes = ", ".join(f"{name} {list(rows.shape)}" for name, rows in found.items())
    tell(f"{output}: {shapes}")
