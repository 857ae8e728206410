"""The wheel holds only sedd/, and works in an environment of its own.

SEDD_WHEEL=dist/protein_sedd-….whl checks that wheel, as before a release; else one is built of this checkout.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

import sedd

PROJECT = Path(__file__).parents[1]


def run(*command: str | Path, folder: Path) -> str:
    """What a command prints, started from a folder that is not the project's."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git tracks or would track, so that the working tree stays as it is."""
    if given := os.environ.get("SEDD_WHEEL"):
        return Path(given).resolve(strict=True)
    folder = tmp_path_factory.mktemp("my build")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git clone; to run this test: git clone the project")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (PROJECT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / "source" / name)
    # Stray packages of a user's checkout, whose names would collide with anything.
    for stray in ("jobs", "slurm", "tools", "tests"):
        (folder / "source" / stray / "__init__.py").touch()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist"]
    run(*build, folder / "source", folder=folder)
    (made,) = (folder / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that holds the wheel alone and borrows the libraries of this one: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("my environment")
    venv.create(folder, with_pip=False, symlinks=True)
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin" / "python",
        "install",
        "--no-deps",
        wheel,
        folder=folder,
    )
    (libraries,) = (folder / "lib").glob("python3.*/site-packages")
    # A plain line, and not the .pth files of these folders: one of them makes the editable install of this checkout.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (libraries / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return folder


def test_only_the_package_is_in_the_wheel(names: list[str]):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sedd"}
    assert len(tops) == 2


def test_the_wheel_holds_every_module_the_kernels_the_licence_and_nothing_else(names: list[str]):
    """py.typed: type checkers of users may trust the package."""
    modules = {str(path.relative_to(PROJECT)) for path in (PROJECT / "sedd").rglob("*.py")}
    (info,) = {name.split("/")[0] for name in names} - {"sedd"}
    told = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    modules |= {
        str(path.relative_to(PROJECT)) for path in (PROJECT / "sedd/inference/exported").glob("*.txt")
    }
    modules |= {str(path.relative_to(PROJECT)) for path in (PROJECT / "sedd/model/fused").glob("*.cu")}
    wanted = modules | {"sedd/py.typed"} | {f"{info}/{name}" for name in told}
    assert {name for name in names if not name.endswith("/")} == wanted


def test_the_version_of_the_distribution_is_the_packages(metadata: Message):
    assert metadata["Version"] == sedd.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "protein-sedd contributors"


def test_the_distribution_is_not_called_sedd(metadata: Message):
    assert metadata["Name"] == "protein-sedd"
    assert metadata["Requires-Python"] == ">=3.11"


def test_torch_is_bounded_for_everybody_and_tighter_for_v100s(metadata: Message):
    wanted = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    torch = [each for each in wanted if each.name == "torch"]
    plain = [str(each.specifier) for each in torch if each.marker is None]
    (volta,) = [each for each in torch if each.marker and each.marker.evaluate({"extra": "volta"})]
    assert plain == ["<2.14,>=2.6"]
    assert volta.specifier.contains("2.10.0")
    assert not volta.specifier.contains("2.11.0"), "wheels from 2.11 on hold no kernels for a V100"
    assert not any(each.name == "flash-attn" for each in wanted)


def test_no_extra_can_be_taken_for_a_version(metadata: Message):
    """As pip 24.1 to 25.3 does with such a name, whatever is installed: InvalidVersion, and a traceback."""
    extras = metadata.get_all("Provides-Extra", [])
    assert "volta" in extras
    for extra in extras:
        with pytest.raises(InvalidVersion):
            Version(extra)


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("tools/quickstart.sh", r"extras\+?=\(([\w ]+)\)"),
        ("tools/test.sh", r"extras\+?=\(([\w ]+)\)"),
        ("tools/preflight.py", r'"\[(\w+)\]"'),
        ("README.md", r"'\.\[(\w+)\]'"),
    ],
)
def test_extras_that_are_asked_for_exist(metadata: Message, file: str, pattern: str):
    """Else pip only warns, and installs a torch without kernels for a V100."""
    asked = re.findall(pattern, (PROJECT / file).read_text(encoding="utf-8"))
    assert "volta" in asked
    assert {name for names in asked for name in names.split()} <= set(metadata.get_all("Provides-Extra", []))


def test_the_console_command_works_from_another_folder(environment: Path, tmp_path: Path):
    shown = run(environment / "bin" / "sedd", "--help", folder=tmp_path)
    assert "submit" in shown
    assert '"title": "ExperimentFile"' in run(environment / "bin" / "sedd", "schema", folder=tmp_path)


def test_what_runs_is_the_wheel_and_not_this_checkout(environment: Path, tmp_path: Path):
    (tmp_path / "jobs.py").write_text("raise SystemExit('a file of the user was imported')")
    where = run(
        environment / "bin" / "python", "-c", "import sedd.cli.main; print(sedd.__path__[0])", folder=tmp_path
    )  # fmt: skip
    assert Path(where.strip()).is_relative_to(environment)


def test_the_installed_package_needs_nothing_of_the_checkout(environment: Path, tmp_path: Path):
    spec = tmp_path / "mine.yaml"
    spec.write_text(
        "name: mine\ndata: {store: nowhere.store}\ntraining: {steps: 10}\nresources: {gpus_per_node: 0}\n"
    )
    program = "from sedd.spec.load import *; print(load_request(Path('mine.yaml')).points)"
    assert run(environment / "bin" / "python", "-c", program, folder=tmp_path) == "({},)\n"
    assert json.loads(run(environment / "bin" / "sedd", "status", "--json", folder=tmp_path))["runs"] == []
