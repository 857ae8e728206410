"""`sedd data`: build, describe and verify token stores."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.console import out, print_json, show, tell
from sedd.cli.load_network import tells_interrupt
from sedd.cli.model_options import validated, with_options_of
from sedd.cli.options import FOLDER, Json
from sedd.cli.progress import reading
from sedd.errors import DataError, UsageError, writing
from sedd.rundir.atomic import require_folder
from sedd.spec.build import BuildOptions

if TYPE_CHECKING:
    from rich.table import Table

    from sedd.data.manifest import Manifest

app = typer.Typer(no_args_is_help=True)

Store = Annotated[Path, typer.Argument(readable=False, help="Folder of a token store.", metavar="STORE")]


@app.command("build")
@with_options_of(BuildOptions, settings={"label_numbers": {"metavar": "COLUMN"}})
@tells_interrupt("output")
def build(
    *,
    fasta: Annotated[
        list[Path],
        typer.Argument(
            metavar="FASTA", readable=False, help="FASTA files, plain or gzip; or older .pt files."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar=FOLDER, help="The store to make.", readable=False)
    ],
    given: dict[str, Any],
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=8, help="Processes; by default one a usable core. Changes no byte."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a store with other content.")] = False,
    as_json: Json = False,
) -> None:
    """Turn FASTA into a token store, split for training and validation.

    Example: sedd data build proteins.fasta.gz -o stores/proteins
    """
    from sedd.data.build import build_store

    with writing(output):
        if not output.exists():  # one that is whole need not be written
            require_folder(output)
    options = validated(BuildOptions, given)
    _require_there(*fasta, *filter(None, (options.clusters, options.labels, options.onto)))
    total = sum(path.stat().st_size for path in fasta if path.is_file())
    with reading("reading", total) as advance:
        result = build_store(fasta, output, options, force=force, workers=workers, progress=advance)
    if as_json:
        print_json({"store": str(output), "reused": result.reused, **asdict(result.manifest)})
        return
    state = "already built from the same input and options" if result.reused else "built"
    show(f"{output}: {state}")
    _describe(result.manifest)


@app.command("info")
def info(store: Store, as_json: Json = False) -> None:
    """Describe a store: sequences, residues, lengths, what was dropped and why.

    Example: sedd data info stores/proteins
    """
    from sedd.data.store import TokenStore

    _require_there(store, hint=_MAKE_IT)
    opened = TokenStore.open(store)
    if as_json:
        print_json({"store": str(store), **asdict(opened.manifest)})
        return
    show(f"{store}: {', '.join(file.name for file in opened.manifest.inputs)}")
    _describe(opened.manifest)


@app.command("verify")
def verify(store: Store, as_json: Json = False) -> None:
    """Read every file of a store and compare it with its checksum. Exit code 1 if one has changed.

    Example: sedd data verify stores/proteins
    """
    from sedd.data.verify import verify_store

    _require_there(store, hint=_MAKE_IT)
    total = sum(path.stat().st_size for path in store.glob("*/*.npy"))
    with reading("verifying", total) as advance:
        try:
            problems = verify_store(store, advance)
        except DataError as e:
            if isinstance(e, UsageError):
                raise
            problems = [e.message]  # so damaged that it cannot be opened, which is what was asked
    if as_json:
        print_json({"store": str(store), "ok": not problems, "problems": problems})
    else:
        show("\n".join(problems) if problems else f"{store}: every file is as it was built")
    raise typer.Exit(1 if problems else 0)


_MAKE_IT = "make it with: sedd data build proteins.fasta -o STORE"


def _require_there(*paths: Path, hint: str | None = None) -> None:
    """Raise UsageError for a path that leads nowhere: a slip of the pen, unlike a file that cannot be used."""
    from sedd.data.fasta import refuse_stdin

    for path in paths:
        refuse_stdin(path)
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint=hint)


def _describe(manifest: "Manifest") -> None:
    out().print(manifest_table(manifest))
    for note in manifest.notes:
        tell(f"warning: {note}", style="yellow")


def manifest_table(manifest: "Manifest") -> "Table":
    """Splits side by side, then what was dropped or altered."""
    from rich.table import Table

    from sedd.conditions.label_fields import describe
    from sedd.data.encode import TALLY
    from sedd.data.manifest import unigram_nats
    from sedd.units import format_count

    table = Table("", *manifest.splits, show_edge=False, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    splits = manifest.splits.values()
    table.add_row("sequences", *(f"{split.sequences:,}" for split in splits))
    table.add_row("residues", *(format_count(split.residues) for split in splits))
    for name in ("median", "mean", "max"):
        table.add_row(f"{name} length", *(f"{split.lengths[name]:,.0f}" for split in splits))
    if all(split.residues for split in splits):
        nats = unigram_nats(*(split.composition for split in splits))
        table.add_row("unigram nats/residue", "", f"{nats:.4f}")
    if manifest.labels:
        table.add_section()
        for field in manifest.labels:
            cells = [f"{s.sequences - field.missing[name]:,}" for name, s in manifest.splits.items()]
            table.add_row(f"label {field.name}: {describe(field)}", *cells)
    table.add_section()
    for name, count in manifest.tally.items():
        if count:
            table.add_row(TALLY[name], f"{count:,}", "")
    return table
