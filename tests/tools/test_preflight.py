"""tools/preflight.py: with a bare Python, a broken package, a torch without the card's kernels, an old driver."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "preflight.py"
SOURCE = SCRIPT.read_text(encoding="utf-8")
_spec = importlib.util.spec_from_file_location("tools_preflight", SCRIPT)
preflight = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(preflight)

V100_TORCH = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall 'torch>=2.6,<2.11'"


@pytest.fixture
def quick(monkeypatch) -> None:
    """Leave out the real imports, which take seconds, and this machine's own cards."""
    monkeypatch.setattr(preflight, "import_errors", lambda modules: dict.fromkeys(modules))
    monkeypatch.setattr(preflight, "query_gpus", list)


def fake_torch(monkeypatch, folder: Path, *, cuda: str | None, archs: str) -> None:
    (folder / "torch" / "lib").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text("")
    (folder / "torch" / "version.py").write_text(f"__version__ = '2.12.0'\ncuda: Optional[str] = {cuda!r}\n")
    (folder / "torch" / "lib" / "libtorch_python.so").write_bytes(b"\0sm_x\0" + archs.encode() + b"\0")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def fake_nvidia_smi(monkeypatch, folder: Path, row: str) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\necho '{row}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_parses_as_python_3_8_and_needs_the_standard_library_alone():
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_ready_ends_with_ready_to_train(capsys):
    assert preflight.main([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "READY TO TRAIN"


def test_bare_python_names_every_missing_package_and_one_command():
    command = [sys.executable, "-S", str(SCRIPT)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="/", env={"PATH": os.environ["PATH"]}, check=False
    )
    assert done.returncode == 1
    assert done.stderr == ""
    for name in preflight.read_requirements(preflight.PROJECT / "pyproject.toml"):
        assert re.search(rf"^FAIL +{name} +is not installed$", done.stdout, re.MULTILINE)
    mends = done.stdout.partition("NOT READY. What mends it:\n")[2].splitlines()
    assert len(mends) == 1
    assert str(preflight.PROJECT) in mends[0]


def test_an_environment_that_is_there_is_entered_and_not_made_again(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(preflight, "PROJECT", tmp_path / "my project")
    assert preflight.enter_environment() is None
    (tmp_path / "my project" / ".venv").mkdir(parents=True)
    (tmp_path / "my project" / ".venv" / ".installed").touch()
    assert preflight.enter_environment() == f"source '{tmp_path}/my project/.venv/bin/activate'"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "my project" / ".venv"))
    assert preflight.enter_environment() is None


def test_old_python_is_told_which_one_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert preflight.main([]) == 1
    assert "3.9.18" in capsys.readouterr().out


def test_package_out_of_range_is_named_with_the_command(quick, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "installed_version", lambda name: "1.4.0" if name == "submitit" else "99")
    monkeypatch.setattr(preflight, "read_requirements", lambda path: {"submitit": ">=1.5.2", "rich": ">=13"})
    assert preflight.main([]) == 1
    said = capsys.readouterr().out
    assert re.search(r"^FAIL +submitit +1.4.0 is outside >=1.5.2$", said, re.MULTILINE)
    assert said.splitlines()[-1].endswith("pip install --upgrade --force-reinstall 'submitit>=1.5.2'")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('hello')", None),
        ("import lib_that_is_not_there", "ModuleNotFoundError: No module named 'lib_that_is_not_there'"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("import os; os._exit(7)", "Python ended with code 7 while importing it"),
    ],
)
def test_import_errors_are_what_the_package_says(monkeypatch, tmp_path, code, said):
    (tmp_path / "fancy.py").write_text(f"{code}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert preflight.import_errors(["json", "fancy"]) == {"json": None, "fancy": said}


def test_package_that_breaks_on_import_fails(monkeypatch, capsys):
    monkeypatch.setattr(
        preflight, "import_errors", lambda modules: {"einops": "ImportError: x", "yaml": None}
    )
    assert preflight.main([]) == 1
    assert re.search(r"^FAIL +einops +ImportError: x$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("cuda", "archs", "saw"),
    [("12.8", "sm_75 sm_80", "none for v100 (sm_70), only sm_75 sm_80"), (None, "sm_70", "trains on no GPU")],
)
def test_torch_that_cannot_run_on_a_v100_fails_with_the_command(
    quick, monkeypatch, tmp_path, capsys, cuda, archs, saw
):
    fake_torch(monkeypatch, tmp_path, cuda=cuda, archs=archs)
    assert preflight.main(["--gpu", "v100"]) == 1
    said = capsys.readouterr().out
    assert saw in said
    assert said.splitlines()[-1].strip() == V100_TORCH


@pytest.mark.parametrize(
    ("driver", "code", "saw"),
    [
        ("570.124.06", 0, "has kernels for Tesla V100-SXM2-32GB (sm_70)"),
        ("470.82.01", 1, "CUDA 12.8 needs 525.60 or later"),
    ],
)
def test_card_and_driver_of_this_machine(monkeypatch, tmp_path, capsys, driver, code, saw):
    monkeypatch.setattr(preflight, "import_errors", lambda modules: {})
    fake_torch(monkeypatch, tmp_path, cuda="12.8", archs="sm_70 sm_80")
    fake_nvidia_smi(monkeypatch, tmp_path, f"Tesla V100-SXM2-32GB, {driver}, 7.0")
    assert preflight.main([]) == code
    assert saw in capsys.readouterr().out


def test_spec_is_handed_over_with_its_exit_code(quick, capfd):
    assert preflight.main(["/no/such.yaml"]) == 2
    said = capfd.readouterr()
    assert "/no/such.yaml: no such file" in said.err
    assert "READY" not in said.out


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("2.10.0+cu128", ">=2.6,<2.14", True),
        ("2.14.0", ">=2.6,<2.14", False),
        ("2.6", ">=2.6.0", True),
        ("7", "", True),
    ],
)
def test_in_range(version, wanted, fits):
    assert preflight.in_range(version, wanted) is fits


@pytest.mark.parametrize(("text", "card"), [
    ("executor: slurm\ngpu:\n  type: v100   # as in Gres\n  memory: 32GiB\n", "v100"),
    ("gpu: {memory: 40GiB, type: a100}\n", "a100"),
    ("gpu:\n  type: of_our_own\n", None),
    ("executor: local\n# gpu: {type: v100}\n", None),
])  # fmt: skip
def test_the_card_of_a_profile_decides_which_torch_is_advised(tmp_path, text, card):
    profile = tmp_path / "site.yaml"
    profile.write_text(text)
    assert preflight.card_of(str(profile)) == card
    assert preflight.parse_arguments(["--cluster", str(profile)]).gpu == card
    assert preflight.parse_arguments(["--cluster", str(profile), "--gpu", "h100"]).gpu == "h100"


def test_a_profile_that_is_not_there_names_no_card():
    assert preflight.card_of("/no/such.yaml") is None
    assert preflight.card_of(None) is None
