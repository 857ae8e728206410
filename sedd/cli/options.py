"""What several commands have: arguments, options, and the form of their usage lines."""

import inspect
import itertools
import re
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from sedd.errors import UsageError

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
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a field of the spec; paths are taken from the current folder.",
    ),
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


FILE, FOLDER = "FILE", "FOLDER"
"""The metavars of outputs."""
_REPEATED = "May be repeated."
_VALUES = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


class Command(TyperCommand):
    """A command whose help reads the same with every typer: usage as `sedd status [OPTIONS] [RUN]...`, `--draws N`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = _unwrapped(self.help)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """After the command's name: `[OPTIONS]` and every argument."""
        arguments = [each for each in self.params if each.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_usage_piece, arguments)]

    def get_params(self, ctx: Any) -> Any:
        """Arguments and options, with a user's word for what each takes."""
        return _in_plain_words(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """As typer's. Raises: UsageError for a file to write whose name ends in a slash, which a `Path` forgets."""
        for each in self.params:
            if getattr(each, "metavar", None) == FILE:
                _refuse_slash(each.opts, args)
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """A group of commands whose options read as those of a `Command`."""

    def get_params(self, ctx: Any) -> Any:
        """Options, with a user's word for what each takes."""
        return _in_plain_words(super().get_params(ctx))


def _refuse_slash(names: list[str], arguments: list[str]) -> None:
    pairs = [
        *itertools.pairwise(arguments),
        *(tuple(each.split("=", 1)) for each in arguments if "=" in each),
    ]
    typed = [value for name, value in pairs if name in names]
    if slashed := next((value for value in typed if value.endswith("/")), None):
        raise UsageError(
            f"cannot write {slashed}: the slash at its end makes it a folder", hint="name a file in it"
        )


def _unwrapped(text: str | None) -> str | None:
    """A help text with each paragraph in one line: the source's line ends are not the terminal's."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text)) if text else text


def _usage_piece(argument: Any) -> str:
    name = argument.metavar if argument.required else f"[{argument.metavar}]"
    return name if argument.nargs == 1 else f"{name}..."


def _in_plain_words(parameters: list[Any]) -> list[Any]:
    """The parameters, with N or PATH for what they take; typer may say `<bool>`, `<list[str]>` or `<int range>`."""
    for each in parameters:
        if each.param_type_name == "argument":
            each.display_type_rich = _nothing  # its name says it: RUN, FASTA
            continue
        if each.multiple and _REPEATED not in (each.help or ""):
            each.help = f"{each.help} {_REPEATED}" if each.help else _REPEATED
        if each.is_flag:
            each.metavar = ""
        elif each.metavar is None and hasattr(each, "type_descriptor"):
            kind = each.type_descriptor.annotation
            each.metavar = _VALUES.get((get_args(kind) or (kind,))[0])  # list[str]: str; else what typer says
    return parameters


def _nothing(ctx: Any) -> None:
    return None
