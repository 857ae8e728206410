"""`sedd sample`: new proteins from a trained network."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from sedd.cli.console import err, print_text
from sedd.cli.load_network import Force, load, progress, require_network, require_place
from sedd.errors import UsageError

if TYPE_CHECKING:
    from sedd.inference.generation import Sample
    from sedd.inference.load_network import Trained
    from sedd.spec.inference import SampleOptions


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run, a checkpoint file or an exported folder.")
    ],
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
    omit: Annotated[
        str,
        typer.Option(metavar="LETTERS", help="Never drawn; XBUZOC: no cysteine either; '': all are drawn."),
    ] = "XBUZO",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same seed draws the same proteins.")
    ] = 0,
    report: Annotated[
        Path | None,
        typer.Option(help="Page about the samples beside real proteins, .html; or numbers, .json."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Training data for the report; default: where the run had it.")
    ] = None,
    force: Force = False,
) -> None:
    """Draw proteins, with EMA weights, as FASTA.

    Example: sedd sample quickstart -n 100 -o samples.fasta --report samples.html
    """
    from sedd.inference.frames import read_frames
    from sedd.rundir.atomic import write_output

    how = _options(
        count=count, length=_parse_length(length), infill=infill, steps=steps,
        predictor=predictor, temperature=temperature, top_p=top_p, omit=omit, seed=seed,
    )  # fmt: skip
    require_place(output, "--output", force=force)
    _require_report(report, force=force)
    require_network(run)
    frames = read_frames(infill) if infill is not None else []
    from sedd.inference.generation import draw_samples, fasta_text  # torch

    trained = load(run)
    with progress("sampling", steps) as tick:
        samples = draw_samples(trained, how, frames, tick)
    text = fasta_text(trained, how, samples)
    if output is None:
        print_text(text)
    else:
        write_output(output, text)
        err().print(f"{len(samples)} proteins in {output}", markup=False, soft_wrap=True)
    if report is not None:
        _report(report, trained, how, samples, store)


def _options(**given: Any) -> "SampleOptions":
    from pydantic import ValidationError

    from sedd.spec.inference import SampleOptions

    predictors = get_args(SampleOptions.model_fields["predictor"].annotation)
    if given["predictor"] not in predictors:
        raise UsageError(f"--predictor is '{given['predictor']}'; there are {', '.join(predictors)}")
    try:
        return SampleOptions(**given)
    except ValidationError as e:
        raise UsageError("; ".join(f"--{error['msg'].partition(', ')[2]}" for error in e.errors())) from e


def _parse_length(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"--length is '{text[:40]}'", hint="write 100, or a range as 80-120")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise UsageError(
            f"--length is '{text}': the first number must not be larger than the second",
            hint=f"write {high}-{low}",
        )
    return (low, high) if found[2] else low


def _require_report(report: Path | None, *, force: bool) -> None:
    """Refuse a report that could not be written, before the work. Raises: UsageError."""
    from sedd.quality.neighbours import require_aligner

    if report is None:
        return
    require_place(report, "--report", force=force)
    if report.suffix not in (".html", ".json"):
        raise UsageError(f"--report is {report}: neither .html nor .json")
    require_aligner()


def _report(
    path: Path, trained: "Trained", how: "SampleOptions", samples: "list[Sample]", given: Path | None
) -> None:
    from sedd.inference.sample_report import assess_samples, open_training_data, write_report

    store = open_training_data(trained, given)
    if store is None:
        gone = trained.experiment.data.store
        err().print(
            f"the training data {gone} is not here: the report does without (--store names it)", markup=False
        )
    write_report(path, trained, how, assess_samples(trained, samples, store))
    err().print(f"report in {path}", markup=False, soft_wrap=True)
