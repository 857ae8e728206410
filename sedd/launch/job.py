"""What submitit pickles, by reference: one class that holds one path."""

import sys
from pathlib import Path

from sedd.rundir.layout import RunDir


class Job:
    """A run; everything about it is read in its folder when the job starts."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> None:
        """Run the job to its end and exit with its code: srun and SLURM read nothing else."""
        from sedd.launch.entry import enter  # on the node only: the login node pickles, and never enters

        sys.exit(enter(RunDir(Path(self.path))))
