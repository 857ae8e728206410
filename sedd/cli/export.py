"""`sedd export`: a trained network for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import err


def command(
    run: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="A run, or a checkpoint file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the two files.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="The weights as trained instead of their average (EMA).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an exported network.")] = False,
) -> None:
    """Write model.safetensors and config.json; `sedd evaluate` and `sedd sample` read the folder as they do a run.

    Example: sedd export quickstart -o quickstart-model
    """
    from sedd.cli.load_network import note, require_network
    from sedd.errors import UsageError
    from sedd.rundir.find import runs_root

    require_network(run)
    from sedd.inference.export import require_new_export, write_export
    from sedd.inference.load_network import find_trained
    from sedd.training.checkpoint_file import read_checkpoint

    require_new_export(output, force=force)
    path = find_trained(run, runs_root(), notify=note)
    if path.is_dir():
        raise UsageError(f"{path} is exported already")
    write_export(read_checkpoint(path), output, raw=raw, force=force)
    err().print(
        f"{output}: {'trained' if raw else 'averaged'} weights of {path}", markup=False, soft_wrap=True
    )
