"""`sedd extend RUN…` as a user types it."""

import os
import subprocess
import sys

import pytest

from tests.launch.conftest import LocalRuns, local, small_experiment, write_events  # noqa: F401


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_other_live_runs_of_the_name_are_told(local: LocalRuns, options: list[str]) -> None:  # noqa: F811
    older, newer = sorted((local.make(small_experiment(seed=n))[0] for n in (0, 1)), key=lambda run: run.id)
    write_events(older, {"event": "submitted", "executor": "local", "host": "far", "job_id": "far:1:1"})
    here = {"event": "submitted", "executor": "foreground", "host": "here", "job_id": ""}
    write_events(newer, here, {"event": "completed", "step": 40})

    def extend(text: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "sedd", "extend", text, "--steps", "40", *options]
        environment = os.environ | {"SEDD_RUNS": str(local.runs)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    refused = f"error: run {newer.id} has 40 steps already: --steps 40 adds none\n"
    hint = "hint: --steps is the new total: 80 adds 40\n"
    assert extend("small") == (2, f"note: 1 other run of the name small goes on: {older.id}\n{refused}{hint}")
    assert extend(newer.id) == (2, refused + hint), "an id means no other"


def test_exit_code_2_is_for_bad_input_and_1_where_a_run_is_not_ready(local: LocalRuns) -> None:  # noqa: F811
    done, waits = (local.make(small_experiment(seed=n))[0] for n in (0, 1))
    here = {"event": "submitted", "executor": "foreground", "host": "here", "job_id": ""}
    write_events(done, here, {"event": "completed", "step": 40})
    evaluation = local.make(small_experiment(seed=2))[0]
    write_events(evaluation, here, {"event": "completed", "step": 40})
    evaluation.spec.write_text("task: evaluate\nname: small\nnetwork: /x.pt\nfasta: [/a.fasta]\n")

    def extend(*arguments: str) -> int:
        command = [sys.executable, "-m", "sedd", "extend", *arguments]
        environment = os.environ | {"SEDD_RUNS": str(local.runs)}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    assert extend(done.id, "--steps", "39") == 2, "fewer than it has"
    assert extend(done.id, "--steps", "0") == 2
    assert extend(done.id, "--steps", "many") == 2
    assert extend(evaluation.id, "--steps", "99") == 2, "no training"
    assert extend(waits.id, "--steps", "99") == 1, "not submitted yet"
    assert extend(done.id, waits.id, "--steps", "39") == 1, "one of them failed for another reason"
    assert extend(done.id, evaluation.id, "--steps", "39") == 2
