"""The frozen code: complete, verified, and honest about where it came from."""

import subprocess
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.launch.freeze import (
    code_hash,
    freeze_code,
    git_state,
    imported_package,
    require_frozen,
    share_code,
    versions,
)
from sedd.rundir.layout import RunDir, write_manifest


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package in a git checkout."""
    folder = tmp_path / "check out" / "sedd"
    (folder / "inner" / "__pycache__").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "a.py").write_text("x = 1\n")
    (folder / "inner" / "__pycache__" / "a.py").write_text("stale")
    (folder / "py.typed").write_text("")
    (folder / "inner" / "kernels.cu").write_text("// CUDA C that the job compiles")
    (folder / "notes.txt").write_text("not code")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", ".")
    git(folder.parent, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first")
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def frozen_run(package: Path, tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "a run")
    run.path.mkdir()
    write_manifest(run, {"code_hash": freeze_code(run.code, package=package)})
    return run


def test_sources_are_copied_and_nothing_else(package: Path, tmp_path: Path) -> None:
    freeze_code(tmp_path / "code", package=package)
    copied = {str(p.relative_to(tmp_path / "code")) for p in (tmp_path / "code").rglob("*") if p.is_file()}
    assert copied == {"sedd/__init__.py", "sedd/inner/a.py", "sedd/inner/kernels.cu", "sedd/py.typed"}


def test_the_hash_changes_with_content_and_with_names_alone(package: Path) -> None:
    before = code_hash(package)
    (package / "inner" / "a.py").rename(package / "inner" / "b.py")
    renamed = code_hash(package)
    (package / "inner" / "b.py").write_text("x = 2\n")
    assert len({before, renamed, code_hash(package)}) == 3
    (package / "notes.txt").write_text("changed")
    assert code_hash(package) == code_hash(package)


def test_the_own_unchanged_copy_is_accepted(package: Path, tmp_path: Path) -> None:
    run = frozen_run(package, tmp_path)
    require_frozen(run, package=run.code / "sedd")


def test_another_copy_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="instead of its frozen code"):
        require_frozen(frozen_run(package, tmp_path), package=package)


def test_an_edited_copy_is_refused(package: Path, tmp_path: Path) -> None:
    run = frozen_run(package, tmp_path)
    (run.code / "sedd" / "inner" / "a.py").write_text("x = 3\n")
    with pytest.raises(RunError, match="changed after submission"):
        require_frozen(run, package=run.code / "sedd")


def test_a_shared_copy_survives_a_move_of_the_runs_folder(package: Path, tmp_path: Path) -> None:
    base = tmp_path / "runs" / "name"
    run = RunDir(base / "point")
    run.path.mkdir(parents=True)
    write_manifest(run, {"code_hash": freeze_code(base / "sweep" / "code", package=package)})
    share_code(run, base / "sweep" / "code")
    moved = RunDir((tmp_path / "runs").rename(tmp_path / "elsewhere") / "name" / "point")
    require_frozen(moved, package=(moved.code / "sedd").resolve())


def test_git_tells_commit_and_whether_something_was_changed(package: Path) -> None:
    clean = git_state(package)
    assert clean is not None
    assert len(clean.commit) == 40
    assert clean.dirty is None
    (package / "inner" / "a.py").write_text("x = 2\n")
    edited = git_state(package)
    (package / "new.py").write_text("")
    added = git_state(package)
    assert edited is not None
    assert added is not None
    assert edited.commit == clean.commit
    assert len({edited.dirty, added.dirty, None}) == 3


def test_code_that_a_checkout_does_not_track_has_no_commit(package: Path, tmp_path: Path) -> None:
    installed = package.parent / ".venv" / "sedd"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert git_state(installed) is None
    assert git_state(tmp_path) is None


def test_a_machine_without_git_is_fine(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(package) is None


def test_versions_of_what_results_depend_on_are_noted() -> None:
    assert {"python", "torch", "submitit"} <= versions().keys()
    assert (imported_package() / "launch" / "freeze.py").is_file()
