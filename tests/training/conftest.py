"""Run folders for a tiny training."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.rundir.layout import RunDir, create_run
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[Experiment], RunDir]:
    """Make a run folder; the folder's name has a space in it."""

    def make(experiment: Experiment) -> RunDir:
        identity = f"run {len(list(tmp_path.glob('runs/*/*')))}"
        return create_run(tmp_path / "runs", experiment.name, identity, dump_resolved(experiment))

    return make
