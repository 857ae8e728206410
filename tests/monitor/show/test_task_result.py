"""The result of a job that trains nothing is shown wherever the run is."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sedd.monitor.decide.inspection import Inspection, inspect, next_commands
from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.read.task_result import FILES
from sedd.monitor.show.detail import detail_view
from sedd.monitor.show.document import run_document
from sedd.monitor.show.report import read_documents, render_report
from sedd.monitor.show.table import status_table
from sedd.spec.build import DataTask
from sedd.spec.tasks import TASKS
from sedd.yaml import dump_document

Look = Callable[..., Snapshot]
UNITS = {"sample": "sampling steps", "score": "mutants", "data": "bytes"}
EVALUATION = {"nats_per_residue": 2.41234, "standard_error": 0.00211, "perplexity": 11.1600}
SCORES = {
    "methods": {"masked": {"mean": -1.0, "spearman": {"rho": 0.4321, "pairs": 9}}, "bound": {"mean": 1}}
}


def finish(farm: Any, task: str, name: str, documents: dict[str, Any]) -> Any:
    """A completed run of that task with a result in the file `name`."""
    run = farm.run(task, executor="local", task=task, steps=None).submitted(ago_s=90).started(ago_s=80)
    (run.folder.path / name).parent.mkdir(exist_ok=True)
    (run.folder.path / name).write_text(">1\nMK\n")
    for document, content in documents.items():
        (run.folder.path / document).write_text(json.dumps(content))
    run.beat(12, ago_s=9, phase="done", unit=UNITS.get(task, "proteins"), steps=12)
    return run.event("completed", ago_s=8, step=12)


def texts(run: Any, snapshot: Snapshot) -> tuple[Inspection, str, str, str]:
    """The run, as `sedd status RUN` shows it, its row in the table, its report."""
    facts = Gatherer(queue=Queue(squeue=lambda users: "")).gather([run.folder], now=snapshot.taken).runs[0]
    seen = inspect(facts, now=snapshot.taken)
    stream = io.StringIO()
    console = Console(file=stream, width=200, color_system=None, highlight=False)
    console.print(detail_view(seen, width=160), soft_wrap=True)
    detail = stream.getvalue()
    console.print(status_table(snapshot, snapshot.runs, width=120))
    row = stream.getvalue().removeprefix(detail)
    return seen, detail, row, render_report(seen, read_documents(run.folder))


def test_an_evaluation_shows_its_bound_and_perplexity(farm: Any, snapshot_of: Look) -> None:
    run = finish(farm, "evaluate", "evaluation.json", {"evaluation.json": EVALUATION})
    snapshot = snapshot_of(run)
    seen, detail, row, page = texts(run, snapshot)
    words = "at most 2.4123 ± 0.0021 nats a residue, perplexity 11.16"
    assert words in detail
    assert words in page
    assert "11.16" in row
    found = run_document(snapshot.runs[0])["result"]
    assert found == EVALUATION | {"file": str(run.folder.evaluation), "spearman": {}}
    assert next_commands(seen.view, seen.typed)[1] == f"less '{run.folder.evaluation}'"


def test_a_score_job_shows_its_correlations(farm: Any, snapshot_of: Look) -> None:
    run = finish(farm, "score", "scores.csv", {"scores.json": SCORES})
    seen, detail, _, page = texts(run, snapshot_of(run))
    assert "Spearman 0.432 (masked)" in detail
    assert "Spearman 0.432 (masked)" in page
    assert "bound" not in detail
    assert seen.view.result is not None
    assert dict(seen.view.result.spearman) == {"masked": 0.4321}


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in FILES.items() for name in names])
def test_the_file_of_every_result_is_named(farm: Any, snapshot_of: Look, task: str, name: str) -> None:
    run = finish(farm, task, name, {})
    file = str(run.folder.path / name)
    seen, detail, _, page = texts(run, snapshot_of(run))
    assert f"result    {file}" in detail.splitlines()
    assert file in page
    assert file in next_commands(seen.view, seen.typed)[1]
    assert not any(
        c.startswith(("sedd sample", "sedd evaluate")) for c in next_commands(seen.view, seen.typed)
    )
    assert run_document(seen.view)["result"]["file"] == file


def test_a_store_that_was_built_is_named_in_the_commands(farm: Any, snapshot_of: Look) -> None:
    run = finish(farm, "data", "x", {})
    build = {"inputs": ["/data/x.fasta"], "store": "/data/my store"}
    spec = DataTask.model_validate({"task": "data", "name": "x", "build": build})
    run.folder.spec.write_text(dump_document(spec.model_dump(mode="json")))
    seen, *_ = texts(run, snapshot_of(run))
    assert seen.store == Path("/data/my store")
    assert next_commands(seen.view, seen.typed, store=seen.store)[1:] == (
        "sedd data info '/data/my store'",
        "sedd data verify '/data/my store'",
    )


def test_every_task_has_its_result_or_leaves_it_outside_the_run_folder() -> None:
    assert {*FILES, "train", "data"} == {*TASKS}


def test_there_is_no_result_before_the_run_is_completed_and_none_where_it_was_removed(
    farm: Any, snapshot_of: Look
) -> None:
    run = finish(farm, "evaluate", "evaluation.json", {"evaluation.json": EVALUATION})
    run.event("submitted", ago_s=7, job_id="1").started(ago_s=6)
    assert snapshot_of(run, alive=True).runs[0].result is None
    run.event("completed", ago_s=5, step=12)
    run.folder.evaluation.unlink()
    assert run_document(snapshot_of(run).runs[0])["result"] is None


def test_numbers_that_cannot_be_read_are_left_out(farm: Any, snapshot_of: Look) -> None:
    for number, content in enumerate(("{", "[]", '{"nats_per_residue": "x", "perplexity": NaN}')):
        run = farm.run("evaluate", f"2026112{number}-080000-1a2b3c4d", task="evaluate").submitted(ago_s=9)
        run.folder.evaluation.write_text(content)
        run.started(ago_s=8).event("completed", ago_s=7)
        found = run_document(snapshot_of(run).runs[0])["result"]
        assert (found["nats_per_residue"], found["perplexity"]) == (None, None)


def test_attempts_are_counted_in_the_tasks_own_unit(farm: Any, snapshot_of: Look) -> None:
    run = finish(farm, "sample", "samples/samples.fasta", {})
    _, detail, _, page = texts(run, snapshot_of(run))
    (head,) = [line for line in detail.splitlines() if "started" in line and "queued" in line]
    assert "  sampling steps  " in head
    assert "<th>sampling steps</th>" in page
    row = detail.splitlines()[detail.splitlines().index(head) + 1]
    assert head.index("ended by") == row.index("completed")
