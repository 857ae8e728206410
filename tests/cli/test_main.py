"""The command line's frame: lazy commands, one-line errors, exit codes."""

import contextlib
import importlib
import importlib.metadata
import inspect
import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from sedd import __version__
from sedd.cli import main as cli
from sedd.cli import version
from sedd.cli.main import COMMANDS, build_app
from sedd.cli.wrong_usage import as_usage_error
from sedd.errors import DataError, RunError, SpecError
from tests.command_line import BY_PERMISSION

ENVIRONMENT = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
Run = Callable[..., subprocess.CompletedProcess[str]]
Result = tuple[int, str, str]


@pytest.fixture
def sedd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command line in this process with a `logs` that does `act`; gives exit code, stdout, stderr."""

    def run(act: Callable[[], None], *arguments: str) -> Result:
        def command() -> None:
            act()

        module = types.ModuleType("sedd.cli.logs")
        module.command = command  # type: ignore[attr-defined] # a module made for the test
        monkeypatch.setitem(sys.modules, "sedd.cli.logs", module)
        monkeypatch.setattr(sys, "argv", ["sedd", "logs", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        captured = capsys.readouterr()
        code = caught.value.code
        return code if isinstance(code, int) else 0, captured.out, captured.err

    return run


def raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_a_command_that_returns_is_0(sedd):
    assert sedd(lambda: print("done")) == (0, "done\n", "")


def test_a_users_error_is_one_line_for_each_problem_and_a_hint(sedd):
    error = SpecError("a.yaml:1: no\na.yaml:2: no", hint="did you mean yes?")
    assert sedd(raises(error)) == (
        2,
        "",
        "error: a.yaml:1: no\nerror: a.yaml:2: no\nhint: did you mean yes?\n",
    )


def test_what_failed_is_1_and_what_was_asked_wrongly_2(sedd):
    assert sedd(raises(RunError("torn")))[0] == 1
    assert sedd(raises(DataError("torn")))[0] == 2
    assert sedd(raises(SpecError("torn")))[0] == 2
    assert sedd(raises(typer.Exit(1)))[0] == 1


def test_the_systems_errors_name_the_file(sedd):
    code, _, said = sedd(lambda: print(Path("/no such folder/file").read_text()))
    assert (code, said) == (2, "error: /no such folder/file: no such file or directory\n")


def test_a_bug_of_ours_is_admitted_without_a_traceback(sedd):
    code, _, said = sedd(lambda: 1 / 0)
    assert code == 1
    assert said == "error: ZeroDivisionError: division by zero\nhint: this is a bug; --debug shows where\n"


def test_debug_shows_the_traceback_and_keeps_the_exit_code(sedd, monkeypatch):
    code, _, said = sedd(raises(SpecError("torn")), "--debug")
    assert code == 2
    assert "Traceback" in said
    monkeypatch.setenv("SEDD_DEBUG", "1")
    assert "Traceback" in sedd(raises(DataError("torn")))[2]


def test_control_c_is_130_and_no_traceback(sedd):
    code, _, said = sedd(raises(KeyboardInterrupt()))
    assert code == 130
    assert "Traceback" not in said


def test_control_c_that_a_package_swallows_is_no_bug_of_ours(sedd):
    """As those whose import a C++ extension asks for: they are then there by half."""

    def act() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        raise AttributeError("module 'numpy' has no attribute 'multiply'")

    assert sedd(act) == (130, "", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_control_c_while_the_command_line_is_imported_is_no_traceback():
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'sedd.cli.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from sedd.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.fixture
def shell(tmp_path: Path) -> Run:
    """Run sedd in a process of its own, in an empty folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sedd", *arguments],
            cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


def test_help_names_every_command(shell: Run):
    done = shell("--help")
    assert done.returncode == 0
    assert [name for name in cli.COMMANDS if f" {name} " not in done.stdout] == []


def words() -> list[tuple[str, ...]]:
    """Every command and subcommand."""
    found: list[tuple[str, ...]] = []
    for name in cli.COMMANDS:
        module = importlib.import_module(f"sedd.cli.{name}")
        group = (
            [each.name or each.callback.__name__ for each in module.app.registered_commands]
            if hasattr(module, "app")
            else []
        )
        found += [(name, each) for each in group] or [(name,)]
    return found


@pytest.mark.parametrize("command", words(), ids=" ".join)
def test_no_option_is_cut_at_80_columns(command: tuple[str, ...]):
    result = CliRunner().invoke(cli.build_app(list(command)), [*command, "--help"], env={"COLUMNS": "80"})
    assert "…" not in result.output


@pytest.mark.parametrize("command", words(), ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]):
    result = CliRunner().invoke(cli.build_app(list(command)), [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert f"Example: sedd {' '.join(command)}" in result.output
    assert not re.search(r"<(bool|int|float|str|list|path|file)\b", result.output), (
        "a type of Python's, not of a user's"
    )


def usage(*command: str) -> str:
    """The line of the help that shows how to call a command."""
    result = CliRunner().invoke(cli.build_app(list(command)), [*command, "--help"], env={"COLUMNS": "200"})
    (line,) = (text.strip() for text in result.output.splitlines() if "Usage:" in text)
    return line


@pytest.mark.parametrize("command", words(), ids=" ".join)
def test_a_usage_line_names_each_argument_in_capitals(command: tuple[str, ...]):
    called, _, arguments = usage(*command).partition(" [OPTIONS]")
    assert called.endswith(f" {' '.join(command)}")
    for argument in arguments.split():
        assert re.fullmatch(r"([A-Z|]+|\[[A-Z|]+\])(\.\.\.)?", argument)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("cluster init", ""),
        ("preflight", " SPEC"),
        ("submit", " SPEC..."),
        ("schema", " [KIND]"),
        ("status", " [RUN]..."),
        ("data build", " FASTA..."),
    ],
)
def test_a_usage_line_says_what_may_be_left_out_or_repeated(command: str, arguments: str):
    assert usage(*command.split()).endswith(f" {command} [OPTIONS]{arguments}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sttus"], ["there is no command 'sttus'", "did you mean 'status'?"]),
        (["data", "builds"], ["there is no command 'builds'", "did you mean 'build'?"]),
        (["status", "--wach"], ["there is no option --wach", "did you mean '--watch'?"]),
        (["sample", "run", "--page", "a.html"], ["there is no option --page", "did you mean '--report'?"]),
        (["score", "run", "--report", "a.html"], ["there is no option --report", "did you mean '--page'?"]),
        (["compare", "run", "--page", "a.html"], ["there is no option --page", "did you mean '--html'?"]),
        (["compare", "run", "--report", "a.html"], ["there is no option --report", "did you mean '--html'?"]),
        (
            ["score", "run", "--fasta", "a.fasta", "--scan", "--measured", "activity"],
            [
                "--measured names a column of the table of --mutants",
                "did you mean --mutants TABLE --measured activity, instead of --scan?",
            ],
        ),
        (
            ["score", "run", "--fasta", "a.fasta", "--scan", "--measured", "blat.csv"],
            [
                "--measured names a column of the table of --mutants",
                "the file goes to --mutants: --mutants blat.csv --measured COLUMN",
            ],
        ),
        (
            ["score", "run", "--mutants", "blat.csv", "--measured", "blat.csv"],
            [
                "--measured is blat.csv, a file; it names a column of that table",
                "sedd score --mutants blat.csv --measured COLUMN",
            ],
        ),
        (
            ["schema", "plam"],
            ["KIND is 'plam'; it must be 'spec', 'plan' or 'profile'", "did you mean 'plan'?"],
        ),
        (["sample", "run", "-n", "x"], ["--count is 'x'; it must be a whole number", "sedd sample --help"]),
        (
            ["sample", "run", "-n", "0"],
            ["--count is 0; it must be greater than or equal to 1", "sedd sample --help"],
        ),
        (["sample", "run", "-n"], ["-n needs a value", "sedd sample --help"]),
        (["score", "run", "more"], ["unexpected argument more", "sedd score --help"]),
        (
            ["evaluate", "run", "--fasta", "a.fasta", "b.fasta"],
            [
                "unexpected argument b.fasta",
                "--fasta takes one value and may be repeated: --fasta a.fasta --fasta b.fasta",
            ],
        ),
        (
            ["evaluate", "--fasta", "a.fasta", "b.fasta", "run"],
            [
                "unexpected argument run",
                "--fasta takes one value and may be repeated: --fasta a.fasta --fasta b.fasta",
            ],
        ),
        (["evaluate", "mine", "p.fasta"], ["--fasta is missing", "did you mean --fasta p.fasta?"]),
        (
            ["embed", "-o", "a.npz", "mine", "p.fasta"],
            ["--fasta is missing", "did you mean --fasta p.fasta?"],
        ),
        (
            ["score", "mine", "--scan", "p.fasta"],
            ["unexpected argument p.fasta", "did you mean --fasta p.fasta?"],
        ),
        (
            ["evaluate", "p.fasta", "mine"],
            ["--fasta is missing", "the network comes first: sedd evaluate mine --fasta p.fasta"],
        ),
        (
            ["score", "--scan", "p.fasta", "mine"],
            ["unexpected argument mine", "the network comes first: sedd score mine --fasta p.fasta"],
        ),
        (
            ["score", "mine", "--fasta", "p.fasta", "m.csv"],
            ["unexpected argument m.csv", "did you mean --mutants m.csv?"],
        ),
        (
            ["score", "mine", "--fasta", "p.fasta", "p.fasta", "--scan"],
            [
                "unexpected argument p.fasta",
                "--fasta takes one value and may be repeated: --fasta p.fasta --fasta p.fasta",
            ],
        ),
        (
            ["sample", "mine", "new.fasta"],
            ["unexpected argument new.fasta", "did you mean --output new.fasta?"],
        ),
        (["sample", "mine", "p.fasta"], ["unexpected argument p.fasta", "did you mean --parent p.fasta?"]),
        (["data", "build", "p.fasta"], ["--output is missing", "sedd data build --help"]),
        (["export", "mine", "folder"], ["--output is missing", "did you mean --output folder?"]),
        (
            ["sample", "mine", "--noise", "30", "--parent", "p.fasta"],
            ["--noise is 30; it must be less than or equal to 1", "did you mean 0.3?"],
        ),
        (
            ["data", "build", "p.fasta", "-o", "s", "--validation-fraction", "5"],
            ["--validation-fraction is 5; it must be less than or equal to 0.5", "did you mean 0.05?"],
        ),
        (["compare"], ["RUN is missing", "sedd compare --help"]),
        (["embed", "run"], ["--fasta is missing", "sedd embed --help"]),
    ],
)
def test_bad_usage_is_2_with_a_line_why_and_a_hint(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    told: list[str],
):
    (tmp_path / "p.fasta").write_text(">a\nMKV\n")
    (tmp_path / "m.csv").write_text("mutant\nM1A\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sedd", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", f"error: {told[0]}\nhint: {told[1]}\n")


def test_a_reader_that_hangs_up_is_no_noise(tmp_path: Path):
    done = subprocess.run(
        f"'{sys.executable}' -m sedd schema | true",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def cpu_seconds(arguments: list[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "sedd", *arguments], cwd=folder, capture_output=True, timeout=300
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr.decode()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["status", "--json"]])
def test_what_is_called_often_starts_at_once(arguments: list[str], tmp_path: Path):
    """The goal is 0.5 s on an idle machine; the bound leaves room for a busy one."""
    assert min(cpu_seconds(arguments, tmp_path) for _ in range(3)) < 1.0


def test_version_names_code_commit_python_and_torch_without_importing_it(shell: Run):
    done = shell("--version")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    checkout = Path(__file__).parents[2]
    git = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert first.startswith(f"protein-sedd {__version__}")
    assert not git.stdout or f"commit {git.stdout[:12]}" in first
    assert second == f"python {platform.python_version()}, torch {importlib.metadata.version('torch')}"


def test_version_imports_no_torch():
    asks = "import sys; from sedd.cli.version import version_text; version_text(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asks], env=ENVIRONMENT, timeout=300).returncode == 0


@pytest.mark.parametrize(
    ("is_here", "told"), [(True, ", commit 0123456789ab"), (False, "")], ids=["this copy", "another copy"]
)
def test_the_commit_of_a_package_that_pip_took_from_git_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_here: bool, told: str
):
    """An installed package has no checkout around it; PEP 610's direct_url.json has the commit."""
    package = tmp_path / "here" / "sedd"
    package.mkdir(parents=True)
    info = tmp_path / ("here" if is_here else "there") / "protein_sedd-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: protein-sedd\nVersion: 9.9\n")
    (info / "direct_url.json").write_text(json.dumps({"vcs_info": {"commit_id": "0123456789abcdef"}}))
    monkeypatch.setattr(sys, "path", [str(info.parent), *sys.path])
    monkeypatch.setattr(version, "imported_package", lambda: package)
    assert version.version_text().splitlines()[0] == f"protein-sedd {__version__}{told}"


def test_the_help_names_debug(shell: Run):
    done = shell("--help")
    assert "--debug" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["submit", "{file}"], "SPEC is '{file}', which cannot be read: permission denied"),
        (
            ["evaluate", "run", "--fasta", "{file}"],
            "--fasta is '{file}', which cannot be read: permission denied",
        ),
    ],
)
def test_a_file_that_may_not_be_read_is_told_in_a_sentence(tmp_path: Path, arguments: list[str], told: str):
    file = tmp_path / "secret"
    file.touch(mode=0)
    command = [*BY_PERMISSION, sys.executable, "-m", "sedd", *(a.format(file=file) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    hint = f"hint: its owner may give the permission: ls -ld {file} shows it"
    assert (done.returncode, done.stderr.splitlines()) == (2, [f"error: {told.format(file=file)}", hint])


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Directory 'x' is not writable.", "PATH is 'x', which cannot be written: permission denied"),
        ("File 'x' does not exist.", "PATH is 'x', which does not exist"),
        ("File 'x' is a directory.", "PATH is 'x', which is a directory"),
        ("Path 'x is y' is not executable.", "PATH is 'x is y', which is not executable"),
    ],
)
def test_what_typer_finds_wrong_with_a_path_is_told_in_a_sentence(message: str, told: str):
    argument = typer.main.get_command(_app_of_one_path()).params[0]
    assert as_usage_error(typer.BadParameter(message, param=argument), "sedd").message == told


def _app_of_one_path() -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command()
    def command(path: Annotated[Path, typer.Argument(metavar="PATH")]) -> None:
        pass

    return app


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_option_that_may_be_repeated_says_so(name: str):
    root = typer.main.get_command(build_app([name]))
    called = root.commands[name]
    inner = list(called.commands.values()) if hasattr(called, "commands") else [called]
    context = root.context_class(root)
    options = [each for one in inner for each in one.get_params(context) if getattr(each, "multiple", False)]
    assert [each.opts[0] for each in options if each.help.count("May be repeated.") != 1] == []
    if name in ("evaluate", "sample", "score", "embed", "submit"):
        assert options


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (PermissionError(13, "Permission denied", "st/offsets.npy"), 2, "st/offsets.npy: permission denied"),
        (FileNotFoundError(2, "No such file", "st/gone.npy"), 2, "st/gone.npy: no such file or directory"),
        (OSError(5, "Input/output error", "st/offsets.npy"), 1, "st/offsets.npy: input/output error"),
        (OSError(28, "No space left on device", "x"), 1, "x: no space left on device"),
        (PermissionError(1, "Operation not permitted"), 1, "operation not permitted"),
    ],
)
def test_what_the_system_refuses_is_bad_input_where_a_file_that_was_named_is_at_fault(
    sedd, error, code, told
):
    assert sedd(raises(error)) == (code, "", f"error: {told}\n")


WRITING_A_FILE = [
    "sample nobody -o {}",
    "sample nobody --table {}",
    "sample nobody --report {}",
    "score nobody --scan -o {}",
    "score nobody --scan --page {}",
    "evaluate nobody --fasta f --per-sequence {}",
    "embed nobody --fasta f -o {}",
    "report nobody -o {}",
    "compare nobody --html {}",
    "compare nobody --csv {}",
    "cluster init -o {}",
]


@pytest.mark.parametrize("words", [*WRITING_A_FILE, "export nobody -o {}", "data build f -o {}"])
def test_a_file_to_write_need_not_be_readable(tmp_path: Path, words: str) -> None:
    there = tmp_path / "there"
    there.touch(mode=0)
    command = [*BY_PERMISSION, sys.executable, "-m", "sedd", *words.format(there).split()]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "cannot be read" in done.stderr) == (2, False), done.stderr


@pytest.mark.parametrize("words", [*WRITING_A_FILE, "sample nobody --output={}"])
def test_a_file_to_write_whose_name_ends_in_a_slash_is_refused(
    shell: Run, tmp_path: Path, words: str
) -> None:
    (tmp_path / "there").mkdir()
    for name in (tmp_path / "new", tmp_path / "there"):
        done = shell(*words.format(f"{name}/").split())
        refused = f"error: cannot write {name}/: the slash at its end makes it a folder\n"
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"{refused}hint: name a file in it\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_every_output_is_a_file_or_a_folder() -> None:
    """`metavar` says which; outputs are the options whose paths need not be readable."""
    texts = [path.read_text() for path in (Path(__file__).parents[2] / "sedd" / "cli").glob("*.py")]
    options = [
        found
        for text in texts
        for found in re.findall(r"typer\.Option\((.*?readable=False)", text, re.DOTALL)
    ]
    options = [found.rpartition("typer.Option(")[2] for found in options]
    assert len(options) > 10
    assert [each for each in options if "metavar=FILE" not in each and "metavar=FOLDER" not in each] == []


@pytest.mark.parametrize(
    "words", ["data build a.fasta -o {}", "export step.pt -o {}", "export step.pt --adapters -o {}"]
)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("closed/new", "permission denied"),
        ("closed/new/below", "permission denied"),
        ("file/new", "its folder is a file"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told_before_torch_is_imported(
    tmp_path: Path, words: str, name: str, told: str
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "file").touch()
    (tmp_path / "a.fasta").write_text(">a\nMKV\n")
    (tmp_path / "step.pt").write_bytes(b"PK\x03\x04")
    code = "import sys; from sedd.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [*BY_PERMISSION, sys.executable, "-c", code, *words.format(name).split()]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "False\n",
        f"error: cannot write {name}: {told}\n",
    )


@pytest.mark.parametrize("command", ["preflight", "requeue", "export", "extend"])
def test_a_second_paragraph_of_help_is_wrapped_for_the_terminal_alone(command: str) -> None:
    result = CliRunner().invoke(cli.build_app([command]), [command, "--help"], env={"COLUMNS": "400"})
    text = result.output.partition("Example:")[0]
    paragraphs = [p for p in text.replace(" ", "\0").split("\n") if p.strip("\0\n")]
    module = importlib.import_module(f"sedd.cli.{command}")
    written = inspect.cleandoc(module.command.__doc__).partition("Example:")[0].strip().split("\n\n")
    assert len(paragraphs) - 1 == len(written), text  # the first line is the usage


@pytest.mark.parametrize(
    ("command", "option", "told"),
    [
        (("data", "build"), "--label-number", "COLUMN Columns of --labels that hold numbers"),
        (
            ("usage",),
            "--since",
            "WHEN Only what was used since then: 30d for the last 30 days, or a date (UTC).",
        ),
        (("usage",), "--until", "WHEN Only what was used until then: 7d for 7 days ago, or a date (UTC)."),
    ],
)
def test_a_help_says_what_an_option_takes(shell: Run, command: tuple[str, ...], option: str, told: str):
    text = " ".join(shell(*command, "--help").stdout.replace("│", " ").split())
    assert f"{option} {told}" in text
