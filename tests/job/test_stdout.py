"""A job's standard output on a full disk."""

import subprocess
import sys
from pathlib import Path

TALK = "print('a' * 100_000); import sys; print('b', file=sys.stderr, flush=True); sys.exit(75)"


def talk(before: str) -> int:
    """Exit code of a program that talks to a device that is always full."""
    with Path("/dev/full").open("wb") as full:
        return subprocess.run(
            [sys.executable, "-c", before + TALK], stdout=full, stderr=full, check=False
        ).returncode


def test_what_cannot_be_printed_does_not_change_how_a_process_ends() -> None:
    assert talk("") != 75, "else this test shows nothing"
    assert talk("from sedd.job.stdout import survive_full_disk; survive_full_disk();") == 75
