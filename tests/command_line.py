"""The command line as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

BY_PERMISSION = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Before a command: what it runs may read and write no more than permissions allow; root, too."""


def sedd(*arguments: object, runs: Path | None = None, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `sedd` in a process of its own; what it prints comes back as text."""
    command = [sys.executable, "-m", "sedd", *map(str, arguments)]
    environment = os.environ | ({"SEDD_RUNS": str(runs)} if runs is not None else {})
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]


def call(*arguments: object) -> None:
    """The same in this process, for what ends in an error: it is raised as it is."""
    from sedd.cli.main import build_app

    texts = [str(argument) for argument in arguments]
    build_app(texts)(args=texts, standalone_mode=False)
