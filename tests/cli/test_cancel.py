"""`sedd cancel RUN…` as a user types it."""

import json
import os
import subprocess
import sys

from tests.launch.conftest import LocalRuns, local, small_experiment, wait_for_steps  # noqa: F401 # a fixture


def test_several_runs_in_one_command_and_one_json_document(local: LocalRuns) -> None:  # noqa: F811
    runs = local.start(small_experiment(), plan="long") + local.start(small_experiment(seed=1), plan="long")
    for run in runs:
        wait_for_steps(run, 2)
    command = [sys.executable, "-m", "sedd", "cancel", *(run.id for run in runs)]
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    machine = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, check=True
    )
    assert [(r["id"], r["cancelled"]) for r in json.loads(machine.stdout)["runs"]] == [
        (r.id, True) for r in runs
    ]
    human = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert human.stdout.count("cancelled already") == 2
