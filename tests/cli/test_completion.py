"""Completion in real shells, without Python: every command and option, runs, and files."""

import shutil
import subprocess
from pathlib import Path

import pytest

from sedd.cli.completion import PLACES, SCRIPTS, completed_commands, install

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _sedd; printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { }; functions[compdef]=' '; source "$1"; shift
_describe() { printf '%s\\n' "${(P@)2}" | sed 's/:.*//'; }; compadd() { printf '%s\\n' "${(P@)2}"; }; _files() { }
words=("$@"); CURRENT=$#; _sedd
"""
FISH = "source $argv[1]; complete -C (string join ' ' -- $argv[2..-1]) | string replace -r '\\t.*' ''"
PROGRAMS = {"bash": ["-c", BASH, "-"], "zsh": ["-f", "-c", ZSH, "-"], "fish": ["-N", "-c", FISH]}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, commands = tmp_path_factory.mktemp("scripts"), completed_commands()
    for shell, script in SCRIPTS.items():
        (folder / f"completion.{shell}").write_text(script(commands))
    return {shell: folder / f"completion.{shell}" for shell in SCRIPTS}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run in (
        "first/20261122-100000-aaaa1111",
        "first/20261123-100000-bbbb2222",
        "second run/20261124-1-c",
    ):
        (tmp_path / "my runs" / run).mkdir(parents=True)
    return tmp_path / "my runs"


def complete(shell: str, script: Path, *words: str, runs: Path | str = "nowhere") -> set[str]:
    """What a shell offers for the last of `words`."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    environment = {"PATH": "/usr/bin:/bin", "SEDD_RUNS": str(runs), "HOME": str(script.parent)}
    command = [shell, *PROGRAMS[shell], str(script), *words]
    done = subprocess.run(
        command, env=environment, cwd=script.parent, capture_output=True, text=True, timeout=300
    )
    assert done.stderr == ""
    return set(done.stdout.split("\n")) - {""}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_commands_and_options_are_completed(shell: str, scripts: dict[str, Path]) -> None:
    for words, wanted in {
        ("sedd", "su"): {"submit"},
        ("sedd", "--debug", "su"): {"submit"},
        ("sedd", "submit", "a.yaml", "--dry"): {"--dry-run"},
        ("sedd", "data", "b"): {"build"},
        ("sedd", "data", "build", "x.fasta", "--clus"): {"--clusters"},
        ("sedd", "status", "--w"): {"--watch"},
    }.items():
        assert {w for w in complete(shell, scripts[shell], *words) if w.startswith(words[-1])} == wanted


@pytest.mark.parametrize("shell", SCRIPTS)
def test_runs_are_completed_by_name_and_those_begun_by_id(
    shell: str, scripts: dict[str, Path], runs: Path
) -> None:
    names = complete(shell, scripts[shell], "sedd", "status", "fir", runs=runs)
    assert "first" in names
    assert not any(name.startswith("2026") for name in names)
    ids = complete(shell, scripts[shell], "sedd", "logs", "20261123", runs=runs)
    assert "20261123-100000-bbbb2222" in ids
    assert complete(shell, scripts[shell], "sedd", "status", "x") == set(), "no runs are no error"
    assert "first" not in complete(shell, scripts[shell], "sedd", "submit", "fir", runs=runs)


def test_after_an_option_with_a_value_bash_leaves_the_word_to_files(
    scripts: dict[str, Path], runs: Path
) -> None:
    assert complete("bash", scripts["bash"], "sedd", "sample", "first", "-o", "fir", runs=runs) == set()


def test_every_command_and_option_is_in_every_script(scripts: dict[str, Path]) -> None:
    commands = completed_commands()
    assert {"submit", "data build", "sample"} <= {c.name for c in commands}
    for shell, path in scripts.items():
        text = path.read_text()
        for name in (name for c in commands for o in c.options for name in o.names):
            assert (f"-l {name[2:]} " if shell == "fish" and name.startswith("--") else name[1:]) in text


def test_it_is_installed_where_shells_look_and_its_line_once(tmp_path: Path) -> None:
    (tmp_path / ".zshrc").write_text("setopt autocd")
    for _ in range(2):
        for shell in SCRIPTS:
            list(install(shell, f"# {shell}\n", tmp_path))
    assert all((tmp_path / PLACES[shell]).read_text() == f"# {shell}\n" for shell in SCRIPTS)
    lines = (tmp_path / ".zshrc").read_text().splitlines()
    assert lines[0] == "setopt autocd"
    assert [PLACES["zsh"] in line for line in lines] == [False, True]
