"""`sedd requeue RUN…` as a user types it."""

import json
import os
import subprocess
import sys

from tests.launch.conftest import LocalRuns, local, wait_for_end, wait_for_event  # noqa: F401 # a fixture


def test_a_run_that_gave_up_is_revived_by_its_name(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(plan="crash crash train")
    wait_for_end(run)
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    command = [sys.executable, "-m", "sedd", "requeue", run.name]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    (told,) = json.loads(done.stdout)["runs"]
    assert (told["id"], told["requeued"]) == (run.id, True)
    wait_for_event(run, "completed")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: run {run.id} is completed")
