"""What is printed of a plan before and after it is submitted: lines and documents, returned."""

from collections.abc import Mapping, Sequence
from typing import Any

from sedd.experiments.plan_graph import Graph, Stage
from sedd.experiments.stages import NEW, Step
from sedd.experiments.submit_plan import PlanSubmission
from sedd.launch.submitted import STOPPED, continuing, describe_progress
from sedd.rundir.attempts import is_left_out
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir

_WORDS = {"afterok": "", "afterany": " (however it ends)", "on_failure": " (if it fails)"}
"""How a stage waits, behind the name of what it waits for."""


def foreseen_lines(graph: Graph, steps: Sequence[Step]) -> list[str]:
    """A line a stage: how many runs, whether they are to be made and why, and after what."""
    total = sum(len(step.missing.numbers) for step in steps if step.missing)
    head = f"plan {graph.name}: {_counted(len(steps), 'stage')}, {_counted(total, 'run')} to be made"
    name = max(len(step.stage.name) for step in steps)
    size = max(len(_counted(step.stage.size, "run")) for step in steps)
    does = max(len(_does(step)) for step in steps)
    return [
        head,
        *(
            f"  {step.stage.name:<{name}}  {_counted(step.stage.size, 'run'):<{size}}  {_does(step):<{does}}"
            f"  {_after(graph, step.stage)}".rstrip()
            for step in steps
        ),
        *(f"  {step.stage.name}: {text}" for step in steps if (text := _halving(step))),
    ]


def _halving(step: Step) -> str:
    """What a halving sweep that is to be made will train."""
    halving = step.missing.request.halving if step.missing else None
    steps = step.made.experiments[0].steps
    return halving.outlook(len(step.made.runs), steps) if halving and steps else ""


def foreseen_document(graph: Graph, steps: Sequence[Step]) -> dict[str, Any]:
    """The same for machines."""
    return {
        "plan": graph.name,
        "stages": [
            {
                "name": step.stage.name,
                "task": step.stage.task,
                "runs": [str(run.path) if run.manifest.exists() else None for run in step.made.runs],
                "missing": len(step.missing.numbers) if step.missing else 0,
                "why": step.why,
                "waits": dict(step.stage.waits),
                "by_point": [n for n in step.stage.waits if graph.feeds_by_point(step.stage, n)],
            }
            for step in steps
        ],
    }


def submitted_lines(submission: PlanSubmission) -> list[str]:
    """What was submitted, what was there, what waits, and how to go on."""
    record = submission.record
    width = max(len(stage.name) for stage in record.stages)
    none = (
        ""
        if submission.submitted or submission.waiting
        else "; nothing to submit: all runs are there already"
    )
    size = f"{_counted(len(record.stages), 'stage')}, {_counted(len(record.runs), 'run')}"
    lines = [f"Plan {record.name}: {size}{none}"]
    for stage in record.stages:
        now = len(submission.submitted.get(stage.name, ()))
        words = _states(stage.runs, {run for runs in submission.submitted.values() for run in runs})
        one = f"  {stage.runs[0].name}/{stage.runs[0].id}" if len(stage.runs) == 1 else ""
        lines.append(f"  {stage.name:<{width}}  {words or f'{now} submitted'}{one}")
    if submission.waiting:
        lines.append(f"  {len(submission.waiting)} wait for a place: {submission.why}")
        lines.append("  rest    the same command submits the rest as places come free")
    for run in submission.gone:
        lines.append(f"  {run.name}/{run.id}: nothing of it waits or runs any more: {continuing([run])}")
    for run in submission.replaced:
        lines.append(f"  {run.name}/{run.id} is of the plan as it was, and under way: sedd cancel {run.id}")
    lines.append(f"  folder  {record.folder}")
    if not (submission.waiting or any(map(_is_open, record.runs))):
        return [*lines, f"  status  sedd status {record.name}"]
    lines.append(f"  follow  sedd status {record.name} -w")
    lines.append(f"  end     sedd cancel {record.name}")
    return lines


def _is_open(run: RunDir) -> bool:
    return describe_progress(read_events(run.events)) not in (None, "completed", STOPPED)


def _states(runs: Sequence[RunDir], submitted: set[RunDir]) -> str:
    """`2 submitted, 1 completed`."""
    counts: dict[str, int] = {}
    for run in runs:
        state = "submitted" if run in submitted else describe_progress(read_events(run.events)) or _ended(run)
        counts[state] = counts.get(state, 0) + 1
    if len(runs) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _ended(run: RunDir) -> str:
    events = read_events(run.events)
    if is_left_out(events):
        return "left out, not needed"
    return "cancelled or given up" if any(e.event != "preflight" for e in events) else "not submitted"


def _does(step: Step) -> str:
    if step.missing is None:
        return f"there: {_states(step.made.runs, set())}"
    made = len(step.missing.numbers)
    some = "" if made == step.stage.size else f"{made} of them "
    why = "" if step.why == NEW else f": {step.why}"
    return f"{some}to be made{why}"


def _after(graph: Graph, stage: Stage) -> str:
    parts: Mapping[str, str] = {
        need: f"{'each of ' if graph.feeds_by_point(stage, need) else ''}{need}{_WORDS[wait]}"
        for need, wait in stage.waits.items()
    }
    return f"after {', '.join(parts.values())}" if parts else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
