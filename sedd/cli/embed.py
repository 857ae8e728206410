"""`sedd embed`: hidden states of proteins under a trained network."""

from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.conditions import Conditions, parse_condition
from sedd.cli.console import err
from sedd.cli.load_network import Force, load, note, progress, require_network, require_place
from sedd.errors import UsageError


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run, a checkpoint file or an exported folder.")
    ],
    fasta: Annotated[list[Path], typer.Option("--fasta", help="FASTA files, plain or gzip.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File: .parquet, .npz or .safetensors.")],
    layer: Annotated[
        list[int] | None,
        typer.Option(help="0: embedding, k: behind block k, -1 (default): the last; may be repeated."),
    ] = None,
    pooling: Annotated[str, typer.Option(help="mean: a vector a protein; none: one a residue.")] = "mean",
    sigma_bar: Annotated[
        float | None, typer.Option(help="Noise level given to the network; default: the cleanest.")
    ] = None,
    condition: Conditions = None,
    force: Force = False,
) -> None:
    """Write hidden states of each protein, in the order of the files; packed batches give what single proteins give.

    Example: sedd embed quickstart --fasta proteins.fasta.gz -o embeddings.parquet
    """
    from pydantic import ValidationError

    from sedd.spec.inference import EmbedOptions

    labels = parse_condition(condition)
    try:
        how = EmbedOptions.model_validate(
            {"layers": layer or [-1], "pooling": pooling, "sigma_bar": sigma_bar, "condition": labels}
        )
    except ValidationError as e:
        first = e.errors()[0]
        raise UsageError(f"--{str(first['loc'][0]).replace('_', '-')}: {first['msg']}") from e
    require_place(output, "--output", force=force)
    require_network(run)
    from sedd.inference.embed import embed  # torch
    from sedd.inference.embedding_file import require_format, write_embeddings
    from sedd.inference.work import read_residues

    require_format(output)
    trained = load(run).under(how.condition)
    proteins = read_residues(fasta, longest=trained.longest, notify=note)
    names, residues = [name for name, _ in proteins], [tokens for _, tokens in proteins]
    with progress("embedding", len(proteins)) as step:
        found = embed(trained, residues, how, progress=step)
    write_embeddings(output, [(names, residues, found)], pooled=how.pooling == "mean")
    shapes = ", ".join(f"{name} {list(rows.shape)}" for name, rows in found.items())
    err().print(f"{output}: {shapes}", markup=False, soft_wrap=True)
