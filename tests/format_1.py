"""Runs of format 1, made by the very code that made them: commit 070dfc3, kept in `tests/launch/format_1.tar.xz`.

Without its Markdown that is `git archive 070dfc3 sedd`: a fixture, since a shallow clone has no such commit.
"""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from sedd.rundir.layout import RunDir
from tests.tiny import PROTEINS, tiny_spec

_ARCHIVE = Path(__file__).parent / "launch" / "format_1.tar.xz"


class OldSedd:
    """The `sedd` of commit 070dfc3, with its folder of runs and a store that it built."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store"
        with tarfile.open(_ARCHIVE) as archive:
            # Debian 12's Python, 3.11.2, knows no filters; the archive is our own.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder / "code", **safely)  # type: ignore[arg-type] # the older signature
        self("data", "build", str(PROTEINS), "-o", str(self.store))

    def __call__(self, *arguments: str) -> str:
        """What one of its commands prints."""
        environment = os.environ | {
            "PYTHONPATH": str(self.folder / "code"),
            "PYTHONSAFEPATH": "1",
            "SEDD_RUNS": str(self.folder / "runs"),
        }
        command = [sys.executable, "-m", "sedd", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, profile: dict[str, Any], *, steps: int, **sections: Any) -> list[RunDir]:
        """Submit a tiny experiment; `sections` are parts of its spec."""
        spec, site = self.folder / "spec.yaml", self.folder / "profile.yaml"
        every = {"checkpoint": {"every_steps": 10}, "validation": {"every_steps": 1000, "residues": 512}}
        basic = json.loads(tiny_spec(self.store, steps=steps, **every).model_dump_json(exclude_unset=True))
        spec.write_text(json.dumps(basic | sections))  # JSON is YAML
        site.write_text(json.dumps(profile))
        said = self("submit", str(spec), "--cluster", str(site), "--no-preflight", "--again", "--json")
        return [RunDir(Path(run["path"])) for run in json.loads(said)["runs"]]
