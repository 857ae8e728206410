"""`sedd report` as a process."""

import datetime as dt
import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest
from tests.command_line import sedd_here


def report(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sedd", "report", *arguments]
    environment = os.environ | {"SEDD_RUNS": str(runs)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=runs, check=False)


def make_run(runs: Path) -> RunDir:
    run = create_run(runs, "quick", "20261122-080000-1a2b3c4d", "name: quick\n")
    now = dt.datetime.now(dt.UTC)
    write_manifest(run, {"created": now.isoformat(), "steps": 400, "executor": "local"})
    append_event(run.events, "submitted", attempt=0, now=now, job_id="x:1:1", executor="local", host="x")
    return run


def test_a_page_is_written_where_asked(tmp_path: Path) -> None:
    make_run(tmp_path)
    done = report(tmp_path, "quick", "-o", "my report.html")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "report in my report.html\n"
    assert "name: quick" in (tmp_path / "my report.html").read_text()
    assert report(tmp_path, "quick", "-o", "no such folder/x.html").returncode == 2
    (tmp_path / "s.fasta").write_text(">sample_0 seed=0\nMKVLAA\nGGT\n")
    assert report(tmp_path, "quick", "--samples", "s.fasta", "-o", "with.html").returncode == 0
    assert "MKVLAAGGT" in (tmp_path / "with.html").read_text()
    missing = report(tmp_path, "quick", "--samples", "none.fasta")
    assert (missing.returncode, "none.fasta does not exist" in missing.stderr) == (2, True)
    (tmp_path / "report.html").touch()
    unknown = report(tmp_path, "slow")
    assert (unknown.returncode, "no run 'slow'" in unknown.stderr) == (2, True), (
        "not of report.html, which is there"
    )


@pytest.mark.parametrize("content", [b"\xff\xfe\0bad", b"", b"name: quick\n", b"\x1f\x8bnot gzip"])
def test_samples_that_are_no_fasta_are_refused_and_no_page_is_made(tmp_path: Path, content: bytes) -> None:
    run = make_run(tmp_path)
    (tmp_path / "s.fasta").write_bytes(content)
    done = sedd_here("report", run.id, "--samples", "s.fasta", runs=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.startswith("error: s.fasta ")) == (2, "", True)
    assert not (tmp_path / "report.html").exists()


def test_samples_may_be_compressed_as_sedd_sample_writes_them(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "s.fasta.gz").write_bytes(gzip.compress(b">sample_0 seed=0\nMKVLAA\nGGT\n"))
    done = sedd_here("report", run.id, "--samples", "s.fasta.gz", runs=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MKVLAAGGT" in (tmp_path / "report.html").read_text()
