"""Making a run folder."""

import datetime as dt
import errno
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.rundir.layout import RunDir, create_run, read_manifest, run_id, write_manifest


def test_ids_sort_by_age_and_are_in_utc():
    early = run_id(
        dt.datetime(2026, 11, 22, 23, 0, tzinfo=dt.timezone(dt.timedelta(hours=9))), "ffffffffffff"
    )
    late = run_id(dt.datetime(2026, 11, 22, 15, 0, tzinfo=dt.UTC), "000000000000")
    assert early == "20261122-140000-ffffffff"
    assert early < late


def test_a_new_run_has_its_spec_and_folders_but_is_no_run_yet(tmp_path: Path):
    run = create_run(tmp_path / "my runs", "probe", "20261122-140000-abc", "name: probe\n")
    assert run.path == tmp_path / "my runs" / "probe" / "20261122-140000-abc"
    assert (run.name, run.id) == ("probe", "20261122-140000-abc")
    assert run.spec.read_text() == "name: probe\n"
    assert all(folder.is_dir() for folder in (run.checkpoints, run.logs, run.submitit))
    assert not run.manifest.exists()


def test_two_runs_of_the_same_second_get_two_folders(tmp_path: Path):
    made = [create_run(tmp_path, "probe", "id", "x").id for _ in range(3)]
    assert made == ["id", "id-2", "id-3"]


def test_every_path_lies_inside_the_folder():
    run = RunDir(Path("/r/name/id"))
    paths = [
        getattr(run, n)
        for n in dir(RunDir)
        if isinstance(getattr(RunDir, n), property) and n not in ("name", "id")
    ]
    assert len(paths) >= 10
    assert all(path.parent == run.path for path in paths)
    assert len(set(paths)) == len(paths)


def test_a_place_that_cannot_be_written_is_told_with_the_way_out(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write") as caught:
        create_run(tmp_path / "file", "probe", "id", "x")
    assert "SEDD_RUNS" in str(caught.value.hint)


def test_a_run_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    def disk_is_full(path: Path, text: str) -> None:
        path.write_text("")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("sedd.rundir.layout.write_first", disk_is_full)
    earlier = tmp_path / "probe" / "earlier"
    earlier.mkdir(parents=True)
    with pytest.raises(RunError, match="no space left"):
        create_run(tmp_path, "probe", "id", "x")
    assert list(tmp_path.rglob("*")) == [tmp_path / "probe", earlier]


def test_a_manifest_is_read_back(tmp_path: Path):
    run = create_run(tmp_path, "probe", "id", "x")
    write_manifest(run, {"name": "probe", "point": {}, "steps": 5})
    assert read_manifest(run) == {"name": "probe", "point": {}, "steps": 5}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", r"manifest\.json:1: damaged: Expecting value"),
        ('{\n "a": 1\n "b": 2}', r"manifest\.json:3: damaged: Expecting ',' delimiter"),
        ("[1]", "cannot read .*: not a JSON object"),
        ("null", "cannot read .*: not a JSON object"),
    ],
)
def test_a_damaged_manifest_is_told_with_its_line(tmp_path: Path, content: str, told: str):
    run = create_run(tmp_path, "probe", "id", "x")
    run.manifest.write_text(content)
    with pytest.raises(RunError, match=told):
        read_manifest(run)


def test_a_folder_that_is_no_run_is_told(tmp_path: Path):
    with pytest.raises(RunError, match="not a run folder"):
        read_manifest(RunDir(tmp_path))
