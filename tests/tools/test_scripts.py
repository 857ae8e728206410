"""The shell scripts of tools/, with a Python that only writes down what it is asked to install."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
SCRIPTS = sorted(TOOLS.glob("*.sh"))
COMMANDS = [script for script in SCRIPTS if not script.name.startswith("_")]
DEVCLUSTER = TOOLS.parent / "slurm" / "devcluster"

FAKE_PYTHON = """\
#!/bin/bash
# Stands for python3 and for the environment's own python.
case "$*" in
    "-c import ensurepip"*) [ ! -e "$FAKES/no-ensurepip" ] ;;
    *"sys.exit(sys.version_info"*) [ ! -e "$FAKES/old" ] ;;
    *"print(*sys.version_info"*) echo 3.11 ;;
    "-V") echo "Python 3.9.2" ;;
    "-c import pip") [ -e "$FAKES/made" ] ;;
    "-m venv "*) mkdir -p "${*:3}/bin"; cp "$0" "${*:3}/bin/python"; touch "$FAKES/made"; echo venv >>"$FAKES/log" ;;
    "-m pip install "*) [ ! -e "$FAKES/no-network" ] && echo "pip ${*:4}" >>"$FAKES/log" ;;
    *) echo "ran $*" >>"$FAKES/log"; [[ ! -e $FAKES/fails || $* != *"$(cat "$FAKES/fails")"* ]] || exit 5 ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the scripts in a folder with a space; marks and log of the fake Python are beside it."""
    project = tmp_path / "my project"
    shutil.copytree(TOOLS, project / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "pyproject.toml").write_text("[project]\n")
    fake = tmp_path / "fakes" / "python"
    fake.parent.mkdir()
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return project


def call(project: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    fakes = project.parent / "fakes"
    given = {**os.environ, "PYTHON": str(fakes / "python"), "FAKES": str(fakes), **environment}
    if "SEDD_TORCH" not in environment:
        given.pop("SEDD_TORCH", None)
    return subprocess.run(
        ["bash", "-c", command], cwd="/", env=given, capture_output=True, text=True, timeout=300
    )


def use_venv(project: Path, *extras: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = (
        f'set -euo pipefail; . "{project}/tools/_venv.sh"; use_venv {" ".join(extras)}; command -v python'
    )
    return call(project, command, **environment)


def asked(project: Path) -> list[str]:
    """What the fake Python was asked to do since the last look."""
    log = project.parent / "fakes" / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_a_script_is_bash_that_stops_at_the_first_error(script: Path):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert script not in COMMANDS or "\nset -euo pipefail\n" in script.read_text()


@pytest.mark.parametrize("script", COMMANDS, ids=lambda s: s.name)
def test_help_tells_the_usage_and_installs_nothing(script: Path, project: Path):
    done = call(project, f'bash "{project}/tools/{script.name}" --help')
    assert done.returncode == 0
    assert f"usage: bash tools/{script.name}" in done.stdout
    assert not (project / ".venv").exists()


SUGGESTIONS = [
    ("tools/check.sh --bogus", "tools/check.sh"),
    ("tools/quickstart.sh --bogus", "tools/quickstart.sh"),
    ("slurm/devcluster/install.sh --bogus", "slurm/devcluster/install.sh"),
    ("slurm/devcluster/up.sh --bogus", "slurm/devcluster/up.sh"),
    ("slurm/devcluster/down.sh --bogus", "slurm/devcluster/down.sh"),
    ("slurm/devcluster/status.sh --bogus", "slurm/devcluster/status.sh"),
    ("slurm/devcluster/status.sh /nowhere/at-all", "slurm/devcluster/up.sh"),
    ("slurm/devcluster/daemon.sh kill slurmctld /nowhere/at-all", "slurm/devcluster/up.sh"),
]


@pytest.mark.parametrize(("mistake", "suggested"), SUGGESTIONS)
def test_a_command_that_a_message_suggests_can_be_pasted(mistake: str, suggested: str, project: Path):
    """The project lies in a folder with a space."""
    shutil.copytree(DEVCLUSTER, project / "slurm" / "devcluster")
    script, _, arguments = mistake.partition(" ")
    answer = call(project, f"bash '{project}/{script}' {arguments}")
    assert answer.returncode != 0
    command = shlex.split(answer.stderr.splitlines()[-1].rpartition(": ")[2])
    assert command[:2] == ["bash", str(project / suggested)]


def test_the_first_call_installs_and_the_second_does_not(project: Path):
    done = use_venv(project, "test")
    assert done.stdout == f"{project}/.venv/bin/python\n"
    assert asked(project) == ["venv", "pip --editable .[test]"]
    assert use_venv(project, "test").returncode == 0
    assert use_venv(project).returncode == 0
    assert asked(project) == []


def test_a_further_extra_is_installed_when_it_is_asked_for(project: Path):
    use_venv(project)
    use_venv(project, "test", "volta")
    use_venv(project, "volta")
    use_venv(project, "test")
    assert asked(project) == ["venv", "pip --editable .", "pip --editable .[test,volta]"]


def test_a_pinned_torch_is_installed_first(project: Path):
    use_venv(project, SEDD_TORCH="torch==2.13.0")
    assert asked(project) == ["venv", "pip torch==2.13.0", "pip --editable ."]
    use_venv(project, SEDD_TORCH="torch==2.10.0")
    assert asked(project) == ["pip torch==2.10.0", "pip --editable ."]
    use_venv(project, SEDD_TORCH="torch==2.13.0")  # which the second has replaced
    assert asked(project) == ["pip torch==2.13.0", "pip --editable ."]
    use_venv(project, SEDD_TORCH="torch==2.13.0")
    assert asked(project) == []


def test_new_requirements_are_installed(project: Path):
    use_venv(project)
    (project / "pyproject.toml").write_text("[project]\ndependencies = ['more']\n")
    use_venv(project)
    assert asked(project) == ["venv", "pip --editable .", "pip --editable ."]


def test_a_folder_that_was_moved_works_again(project: Path):
    use_venv(project)
    moved = project.rename(project.with_name("another name"))
    assert use_venv(moved).stdout == f"{moved}/.venv/bin/python\n"
    assert asked(moved) == ["venv", "pip --editable .", "venv", "pip --editable ."]


def test_an_installation_that_broke_off_goes_on_at_the_next_call(project: Path):
    broken = project.parent / "fakes" / "no-network"
    broken.touch()
    done = use_venv(project)
    assert done.returncode == 1
    assert "error: pip could not install" in done.stderr
    broken.unlink()
    assert use_venv(project).returncode == 0
    assert asked(project) == ["venv", "pip --editable ."]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("no-ensurepip", "error: this Python cannot make environments: apt-get install python3-venv\n"),
        (
            "old",
            "error: Python 3.9.2 is too old: 3.11 or newer is needed; PYTHON=/path/to/python3.x names another\n",
        ),
    ],
)
def test_a_python_that_will_not_do_is_one_line(project: Path, missing: str, said: str):
    (project.parent / "fakes" / missing).touch()
    done = use_venv(project)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert not (project / ".venv").exists()


def test_without_any_python_the_packages_are_named(project: Path):
    done = use_venv(project, PYTHON="no-such-python")
    assert done.stderr == "error: there is no no-such-python here: apt-get install python3 python3-venv\n"


def test_the_tests_exit_code_and_arguments_are_pytests(project: Path):
    fake = project.parent / "fakes" / "python"
    fake.write_text(
        FAKE_PYTHON.replace(
            '*) echo "ran $*"', '"-m pytest"*) echo "ran $*" >>"$FAKES/log"; exit 5 ;;\n    *) echo "ran $*"'
        )
    )
    done = call(project, f'bash "{project}/tools/test.sh" -k "a or b" tests/spec')
    assert done.returncode == 5
    assert asked(project)[-1] == "ran -m pytest -k a or b tests/spec"
    assert "bash tools/test.sh --slurm" in done.stderr, "what was not run is told with its command"


LONG_ONES = [
    f"tests/slurm/test_{name}.py" for name in ("chaos", "format_1", "halving", "hangs", "plans", "usage")
]


@pytest.mark.parametrize(
    "failing", ["pytest tests/slurm --", "pytest tests/slurm/", "pytest --ignore tests/slurm"]
)
def test_tests_on_slurm_run_beside_the_others_and_fail_all_the_same(project: Path, failing: str):
    install = project / "slurm" / "devcluster" / "install.sh"
    install.parent.mkdir(parents=True)
    install.write_text("true")
    (project.parent / "fakes" / "fails").write_text(failing)
    done = call(project, f'bash "{project}/tools/test.sh" --slurm')
    assert done.returncode == 5
    assert all((TOOLS.parent / path).exists() for path in LONG_ONES)
    assert set(asked(project)[-3:]) == {
        f"ran -m pytest {' '.join(LONG_ONES)}",
        f"ran -m pytest tests/slurm {' '.join(f'--ignore={path}' for path in LONG_ONES)}",
        "ran -m pytest --ignore tests/slurm -n 3 --dist loadfile --no-loadscope-reorder",
    }
    assert "nobody asked" not in done.stderr


def test_the_check_speaks_to_its_end_and_fails_if_one_part_does(project: Path):
    fake = project.parent / "fakes" / "python"
    fake.write_text(
        FAKE_PYTHON.replace(
            '*) echo "ran $*"',
            '*"ruff check"*) echo "ran $*" >>"$FAKES/log"; exit 1 ;;\n    *) echo "ran $*"',
        )
    )
    assert call(project, f'bash "{project}/tools/check.sh"').returncode == 1
    assert asked(project)[2:] == [
        "ran -m ruff check .",
        "ran -m ruff format --check .",
        "ran -m codespell_lib .",
        "ran -m mypy --strict sedd",
    ]


FAKE_SEDD = """\
#!/bin/bash
echo "sedd $*" >>"$FAKES/log"
case "$*" in
    *--json) echo '{"runs": [{"id": "20261122-100000-aaaa1111"}]}' ;;
    sample*) while [[ $1 != -o ]]; do shift; done; printf '>a first\\nMKV\\n' >"$2" ;;
esac
"""


def test_the_quickstart_goes_on_with_its_own_run_whatever_newer_ones_are_called(project: Path):
    fakes = project.parent / "fakes"
    (fakes / "sedd").write_text(FAKE_SEDD)
    (fakes / "sedd").chmod(0o755)
    fake = fakes / "python"
    fake.write_text(
        FAKE_PYTHON.replace(
            "    *) echo", f'    "-c import json"*) {shlex.quote(sys.executable)} "$@" ;;\n    *) echo'
        )
    )
    done = call(
        project,
        f'bash "{project}/tools/quickstart.sh"',
        PATH=f"{fakes}:{os.environ['PATH']}",
        SEDD_RUNS=str(project.parent),
    )
    assert done.returncode == 0, done.stderr
    assert ">a         MKV" in done.stdout
    learned, sampled = (line for line in asked(project) if "learned.py" in line or "sample" in line)
    assert "learned.py 20261122-100000-aaaa1111 " in learned
    assert sampled.startswith("sedd sample 20261122-100000-aaaa1111 ")
