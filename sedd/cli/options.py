"""What several commands have: arguments, options, and the form of their usage lines."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Network = Annotated[
    str, typer.Argument(metavar="RUN|CKPT", help="A run, a checkpoint file or an exported folder.")
]
Fasta = Annotated[list[Path], typer.Option("--fasta", help="FASTA files, plain or gzip.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Run folder, id, job id or name.")]
Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN", help="Run folders, ids, job ids or names; a sweep is all its points; a plan."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the spec.")
]
Cluster = Annotated[
    Path | None, typer.Option(help="Cluster profile; default $SEDD_CLUSTER, else slurm/local.yaml.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the batch script (or local command); touch nothing.")
]
Preflight = Annotated[
    bool, typer.Option("--preflight/--no-preflight", help="Check that the job can run before submitting.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist already.")]


class Command(TyperCommand):
    """A command whose usage line is `sedd status [OPTIONS] [RUN]...`; typer's braces and its dots differ by version."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """After the command's name: `[OPTIONS]` and every argument."""
        arguments = [each for each in self.params if each.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_usage_piece, arguments)]


def _usage_piece(argument: Any) -> str:
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return name if argument.nargs == 1 else f"{name}..."
