"""`sedd sample`: new proteins from a trained network."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sedd.cli.console import err
from sedd.errors import UsageError

if TYPE_CHECKING:
    from sedd.training.generation import Frame
    from sedd.training.trained import Trained

LINE = 60


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="A run, or a checkpoint file.")],
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, help="Proteins, or draws of each template.")
    ] = 10,
    length: Annotated[
        str | None,
        typer.Option(help="Residues, or a range as 80-120; default: drawn as in the training data."),
    ] = None,
    infill: Annotated[
        Path | None, typer.Option(help="FASTA of templates: _ or ? marks free positions, the rest stays.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FASTA file; default: stdout.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 128,
    predictor: Annotated[str, typer.Option(help="analytic or euler.")] = "analytic",
    temperature: Annotated[float, typer.Option(min=0.01, help="Below 1: likelier residues.")] = 1.0,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Draw among the likeliest of this mass.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same proteins.")] = 0,
) -> None:
    """Draw proteins, with EMA weights, as FASTA.

    Example: sedd sample quickstart -n 10 --length 80-120 -o samples.fasta
    """
    from sedd.cli.trained import load, progress, require_place, write_output
    from sedd.data.records import read_records
    from sedd.diffusion.predictor import PREDICTORS
    from sedd.training import generation

    if predictor not in PREDICTORS:
        raise UsageError(f"--predictor is '{predictor}'; there are {', '.join(PREDICTORS)}")
    if infill is not None and length is not None:
        raise UsageError("--infill takes the length of its templates, so --length has no meaning")
    require_place(output, "--output")
    frames = [generation.parse_frame(record) for record in read_records(infill)] if infill else []
    trained = load(run)
    how = generation.How(steps=steps, predictor=predictor, temperature=temperature, top_p=top_p, seed=seed)
    with progress("sampling", steps) as tick:
        if infill:
            frames = [frame for frame in frames for _ in range(count)]
            sequences = list(generation.infill(trained, frames, how, tick))
        else:
            sequences = list(generation.generate(trained, _lengths(trained, count, length, seed), how, tick))
    text = "".join(_entries(trained, sequences, frames, how_text=f"seed={seed} steps={steps} {predictor}"))
    if output is None:
        sys.stdout.write(text)
        return
    write_output(output, text)
    err().print(f"{len(sequences)} proteins in {output}", markup=False, soft_wrap=True)


def _lengths(trained: "Trained", count: int, length: str | None, seed: int) -> list[int]:
    from sedd.training.generation import draw_lengths, draw_uniform_lengths

    if length is None:
        return draw_lengths(trained, count, seed)
    low, dash, high = length.partition("-")
    if not low.isdigit() or (dash and not high.isdigit()) or int(low) < 1 or int(high or low) < int(low):
        raise UsageError(f"--length is '{length}'", hint="write 100, or a range as 80-120")
    return draw_uniform_lengths(int(low), int(high or low), count, seed)


def _entries(
    trained: "Trained", sequences: Sequence[str], frames: Sequence["Frame"], *, how_text: str
) -> Iterable[str]:
    """FASTA entries whose headers say where they come from."""
    for number, sequence in enumerate(sequences):
        name = f"{frames[number].name}_{number}" if frames else f"sample_{number}"
        lines = [sequence[start : start + LINE] for start in range(0, len(sequence), LINE)]
        header = f">{name} run={trained.run} step={trained.step} {how_text} length={len(sequence)}"
        yield "\n".join([header, *lines]) + "\n"
