"""`sedd export`: a trained network for other programs."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.console import note, tell
from sedd.cli.options import FOLDER

if TYPE_CHECKING:
    from sedd.rundir.layout import RunDir


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="A run, or a checkpoint file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar=FOLDER, help="It is made.", readable=False)
    ],
    raw: Annotated[
        bool, typer.Option("--raw", help="The weights as trained instead of their average (EMA).")
    ] = False,
    format: Annotated[
        str, typer.Option(help="plain: for this package and torch; hf: for transformers.AutoModel.")
    ] = "plain",
    license: Annotated[
        str, typer.Option(help="hf: of the weights, as Hugging Face names it, such as mit or cc-by-4.0.")
    ] = "other",
    adapters: Annotated[
        bool, typer.Option("--adapters", help="The adapters of a run with training.lora alone: a small file.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an exported network.")] = False,
) -> None:
    """Write model.safetensors, config.json and a README; `sedd evaluate` and `sedd sample` read the folder as a run.

    With --format hf, transformers.AutoModel.from_pretrained(folder, trust_remote_code=True) loads it without this
    package. Adapters are merged into the weights, unless --adapters asks for them alone.

    Example: sedd export quickstart -o quickstart-model
    """
    from sedd.cli.load_network import require_network
    from sedd.errors import UsageError, writing
    from sedd.finetune.adapters_folder import require_new_adapters
    from sedd.inference.find_network import require_new_export
    from sedd.rundir.atomic import require_folder
    from sedd.rundir.find import runs_root

    if format not in ("plain", "hf"):
        hint = "transformers reads hf" if format.lower().startswith(("hugging", "transf")) else None
        raise UsageError(f"--format is '{format}'; there are plain and hf", hint=hint)
    if adapters and format == "hf":
        raise UsageError("--adapters has a format of its own", hint="without --adapters they are merged")
    require_folder(output)
    with writing(output):
        (require_new_adapters if adapters else require_new_export)(output, force=force)
    _refuse_adapters_folder(run)
    require_network(run)
    from sedd.inference.export import write_export
    from sedd.inference.export_transformers import write_transformers_export
    from sedd.inference.find_network import run_of
    from sedd.inference.load_network import find_trained
    from sedd.training.checkpoint_file import read_checkpoint

    path = find_trained(run, runs_root(), notify=note)
    if path.is_dir():
        raise UsageError(f"{path} is exported already")
    saved, of_run = read_checkpoint(path), run_of(path)
    _tell_what_is_missing(saved, of_run, adapters=adapters)
    with writing(output), _nothing_left_of_half(output):
        if adapters:
            _write_adapters(saved, output, raw=raw, force=force)
        elif format == "hf":
            if saved.get("conditions"):
                note("labels are left out: for transformers it is the network without conditions")
            write_transformers_export(saved, output, raw=raw, force=force, run=of_run, license_name=license)
        else:
            write_export(saved, output, raw=raw, force=force, run=of_run)
    tell(f"{output}: {'trained' if raw else 'averaged'} {'adapters' if adapters else 'weights'} of {path}")


def _refuse_adapters_folder(text: str) -> None:
    """Raises: UsageError for what `--adapters` has written: it has been without its run's checkpoint since."""
    from sedd.errors import UsageError
    from sedd.finetune.adapters_folder import is_adapters, read_config
    from sedd.home import expand_home

    if is_adapters(folder := expand_home(text)):
        raise UsageError(
            f"{text} holds adapters alone, which are exported from their run or its checkpoint",
            hint=f"sedd export {read_config(folder).get('run')} -o FOLDER writes the network with them merged",
        )


@contextlib.contextmanager
def _nothing_left_of_half(folder: Path) -> Iterator[None]:
    """Remove a new folder when writing it fails: half of it would be in the way of the next try."""
    is_new = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _tell_what_is_missing(saved: Mapping[str, Any], run: "RunDir | None", *, adapters: bool) -> None:
    """Tell that the training is not completed, or that the base of the adapters is missing."""
    from sedd.finetune.base_network import saved_base
    from sedd.finetune.parent import lineage_in
    from sedd.rundir.attempts import is_completed
    from sedd.rundir.events import read_events
    from sedd.rundir.find import runs_root

    if run is not None and not is_completed(read_events(run.events)):
        note(f"the training is not completed: this is its step {saved['step']:,}")
    parent = lineage_in(saved)
    if adapters and parent and not (base := saved_base(parent, runs_root())).is_file():
        tell(
            f"warning: these adapters belong to {parent['run']}, step {parent['step']}, which is not at {base}: "
            "they cannot be used without it; `sedd export` without --adapters writes the whole network"
        )


def _write_adapters(saved: Mapping[str, Any], output: Path, *, raw: bool, force: bool) -> None:
    from sedd.finetune.adapters_file import write_adapters
    from sedd.spec.experiment import Experiment
    from sedd.yaml import parse_document, validate

    experiment = validate(Experiment, parse_document(saved["spec"], name="the checkpoint's spec"))
    write_adapters(saved, experiment, output, raw=raw, force=force)
