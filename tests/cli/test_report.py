"""`sedd report` as a process."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

from sedd.rundir.events import append_event
from sedd.rundir.layout import create_run, write_manifest


def report(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sedd", "report", *arguments]
    environment = os.environ | {"SEDD_RUNS": str(runs)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=runs, check=False)


def test_a_page_is_written_where_asked(tmp_path: Path) -> None:
    run = create_run(tmp_path, "quick", "20261122-080000-1a2b3c4d", "name: quick\n")
    now = dt.datetime.now(dt.UTC)
    write_manifest(run, {"created": now.isoformat(), "steps": 400, "executor": "local"})
    append_event(run.events, "submitted", attempt=0, now=now, job_id="x:1:1", executor="local", host="x")
    done = report(tmp_path, "quick", "-o", "my report.html")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "report in my report.html\n"
    assert "name: quick" in (tmp_path / "my report.html").read_text()
    assert report(tmp_path, "quick", "-o", "no such folder/x.html").returncode == 2
    (tmp_path / "s.fasta").write_text(">sample_0 seed=0\nMKVLAA\nGGT\n")
    assert report(tmp_path, "quick", "--samples", "s.fasta", "-o", "with.html").returncode == 0
    assert "MKVLAAGGT" in (tmp_path / "with.html").read_text()
    missing = report(tmp_path, "quick", "--samples", "none.fasta")
    assert (missing.returncode, "none.fasta: No such file" in missing.stderr) == (2, True)
    (tmp_path / "report.html").touch()
    unknown = report(tmp_path, "slow")
    assert (unknown.returncode, "no run 'slow'" in unknown.stderr) == (2, True), (
        "not of report.html, which is there"
    )
