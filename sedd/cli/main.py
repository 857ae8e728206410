"""The `sedd` command: every subcommand is a file of this folder, imported only when it is called."""

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from sedd.cli.notify_pending import tell_ends
from sedd.cli.streams import prepare_streams
from sedd.errors import SeddError, exit_code_of, reason_of

if TYPE_CHECKING:
    import typer

COMMANDS = {
    "submit": "Turn specs into jobs: preflight, freeze the code, make run folders, submit.",
    "status": "What the runs are doing.",
    "logs": "Show a run's log; -f follows it.",
    "compare": "Which of several runs, or of a sweep's points, is the best, and whether that can be told.",
    "usage": "GPU-hours, waiting, losses and energy of runs, by name, sweep or run.",
    "report": "One self-contained HTML page about a run.",
    "cancel": "End runs for good.",
    "requeue": "Revive runs that gave up, or move running ones on.",
    "extend": "More steps for runs that have ended.",
    "cluster": "Write and check the profile of this site.",
    "preflight": "Will this spec run to its end here? The readiness checks alone.",
    "train": "Train in the foreground, without a scheduler; also under torchrun.",
    "evaluate": "Likelihood bound of a run or checkpoint on FASTA files.",
    "sample": "Generate proteins from a run or checkpoint.",
    "score": "Score mutants beside their wild type with a run or checkpoint.",
    "embed": "Hidden states of proteins, from a run or checkpoint.",
    "export": "A trained network as safetensors and config.json.",
    "data": "Build, check and describe token stores.",
    "schema": "JSON Schema of specs or cluster profiles, for editors.",
    "completion": "Install completion by Tab in bash, zsh or fish.",
}
"""Name to one line of help. `sedd/cli/<name>.py` holds `command`, a function, or `app`, a group of them."""

INTERRUPTED = 130
"""Exit code after Ctrl-C."""


def main() -> None:
    """Run the command line: errors become one line and an exit code; a traceback only with --debug."""
    prepare_streams()
    if "SLURM_JOB_ID" in os.environ:  # in an allocation, before anything asks CUDA
        from sedd.cuda_order import slurm_order

        os.environ.update(slurm_order(os.environ))
    with noted_interrupts() as interrupts:
        _run(interrupts)


def _run(interrupts: Sequence[int]) -> None:
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    said = ""
    debug = len(arguments) < len(sys.argv) - 1 or bool(os.environ.get("SEDD_DEBUG"))
    try:
        try:
            code = _call(arguments)
        finally:
            sys.stdout.flush()
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as e:
        if interrupts and not isinstance(e, SeddError) and not debug:
            sys.exit(INTERRUPTED)  # a package's import, say, swallowed the interrupt and left half of itself
        said = e.message if isinstance(e, SeddError) else ""
        if debug:
            traceback.print_exc()
        else:
            _print_error(e)
        sys.exit(exit_code_of(e))
    finally:
        try:
            tell_ends(next((a for a in arguments if not a.startswith("-")), None), said=said)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


@contextlib.contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Inside, Ctrl-C also appends to this list; not where it is ignored, or handled otherwise."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _call(arguments: list[str]) -> int:
    """Run a command; its exit code. Raises: UsageError for what typer does not understand."""
    import typer

    click_error: Any = typer.BadParameter.__mro__[2]  # ClickException: click's, or typer's copy of it
    try:
        result = build_app(arguments)(args=arguments, prog_name="sedd", standalone_mode=False)
    except click_error as e:
        if type(e).__name__ == "NoArgsIsHelpError":
            e.show()
            return 2
        from sedd.cli.wrong_usage import as_usage_error

        called = next((a for a in arguments if a in COMMANDS), "")
        raise as_usage_error(e, f"sedd {called}".rstrip(), arguments) from e
    except typer.Abort:
        return 1
    return result if isinstance(result, int) else 0


def build_app(arguments: list[str]) -> "typer.Typer":
    """The command line with the called command imported and the others as names: `--help` stays quick."""
    import typer

    from sedd.cli.options import Command, Group

    app = typer.Typer(
        help="Train SEDD protein diffusion on V100 SLURM clusters: preflighted, preemption-proof, monitored.",
        epilog="Example: sedd submit jobs/quickstart.yaml --follow",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        cls=Group,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    version = typer.Option(
        "--version",
        is_eager=True,
        callback=_print_version,
        help="Version and commit of this code, of Python and of torch.",
    )

    # Taken out of the arguments by `main`, wherever it stands.
    debug = typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")

    def root(version: Annotated[bool, version] = False, debug: Annotated[bool, debug] = False) -> None:
        pass

    app.callback()(root)
    called = next((a for a in arguments if not a.startswith("-")), None)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"sedd.cli.{name}") if name == called else None
        if module is not None and hasattr(module, "app"):
            for inner in module.app.registered_commands:
                inner.cls = Command
            app.add_typer(module.app, name=name, help=summary, cls=Group)
        else:
            app.command(name, cls=Command, short_help=summary)(module.command if module else _not_called)
    return app


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        import typer

        from sedd.cli.version import version_text

        print(version_text())
        raise typer.Exit


def _not_called() -> None:
    raise AssertionError("a command that was not called has been run")


def _print_error(error: Exception) -> None:
    if isinstance(error, SeddError):
        message, hint = error.message, error.hint
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message, hint = f"{where}{reason_of(error)}", None
    else:
        message, hint = f"{type(error).__name__}: {error}", "this is a bug; --debug shows where"
    for line in message.splitlines() or [""]:
        print(f"error: {line}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
