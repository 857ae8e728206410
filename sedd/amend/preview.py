"""What a changed run would hand to the scheduler: `--dry-run`."""

import os
from dataclasses import dataclass

from sedd.amend.spec_change import SpecChange
from sedd.cluster.identity import Mark
from sedd.cluster.profile import SlurmProfile
from sedd.launch.protocol import names_of
from sedd.launch.requeue import revival_parameters
from sedd.launch.resources import local_parameters, render_sbatch
from sedd.launch.submit_slurm import with_comment


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A batch script, or the local command."""

    detail: str
    changed: bool = False


def preview(change: SpecChange) -> Preview:
    """What would be submitted. Raises: SpecError, RunError, ClusterError where that cannot be."""
    run = change.run
    if isinstance(change.profile, SlurmProfile):
        mark = Mark(token=16 * "0", folder=str(run.path))  # a submission draws its own
        parameters = revival_parameters(run, change.experiment, change.profile)
        script = render_sbatch(with_comment(parameters, mark), submitit=run.submitit, tasks=1)
        return Preview(detail=f"dry run\n{script}")
    local_parameters(change.experiment, os.environ)
    return Preview(detail=f"dry run\npython -m {names_of(run).submit_local} {run.path}")
