"""Render a plan: one line among the runs, or a tree of its stages with what is left of each."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.show.cells import STYLES, loss_cell
from sedd.monitor.show.table import state_counts
from sedd.rundir.attempts import LEFT_OUT_BY
from sedd.rundir.find import typed_plan
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord, StageRecord
from sedd.units import counted, format_duration

Views = Mapping[RunDir, RunView]
_HOW = {"afterany": " (any end)", "on_failure": " (if it fails)"}


def plan_row(record: PlanRecord, snapshot: Snapshot) -> Text:
    """`quickstart-plan  plan of 4 stages: 1 running, 3 queued; sedd status quickstart-plan`."""
    views = _views(record, snapshot)
    shown = [view for run in record.runs if (view := views.get(run))]
    head = Text.assemble(
        (record.name, "bold"), f"  plan of {counted(len(record.stages), 'stage')}: ", state_counts(shown)
    )
    return head.append(f"; sedd status {typed_plan(record)}", style="dim")


def plan_tree(record: PlanRecord, snapshot: Snapshot, *, width: int) -> list[Text]:
    """The plan in lines of at most `width` columns: each stage below the last one that it needs."""
    views = _views(record, snapshot)
    lines = [_head(record, views)]
    for stage, indent in _walk(record):
        line = Text(indent, style="dim").append(stage.name, style="bold not dim")
        line.append("  ").append_text(_stage(record, stage, views))
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    return lines


def left_s(record: PlanRecord, views: Views) -> tuple[float, bool]:
    """Seconds that the runs under way will still take, along the longest way, and whether that is all."""
    until: dict[str, float] = {}
    is_all = True
    for stage in record.stages:
        begins = max((until[need] for need in stage.waits), default=0.0)
        open_ones = [view for run in stage.runs if (view := views.get(run)) and not view.state.is_final]
        known = [view.eta_s for view in open_ones if view.eta_s is not None]
        is_all = is_all and len(known) == len(open_ones)
        until[stage.name] = begins + max(known, default=0.0)
    return max(until.values(), default=0.0), is_all


def is_left_out(view: RunView) -> bool:
    """Whether the run is a stage that its plan does not need."""
    return view.state is State.CANCELLED and view.why == f"by {LEFT_OUT_BY}"


def _views(record: PlanRecord, snapshot: Snapshot) -> dict[RunDir, RunView]:
    wanted = set(record.runs)
    return {view.run: view for view in snapshot.runs if view.run in wanted}


def _head(record: PlanRecord, views: Views) -> Text:
    done = sum(all(_is_done(views.get(run)) for run in stage.runs) for stage in record.stages)
    line = Text.assemble((record.name, "bold"), f"  {done} of {counted(len(record.stages), 'stage')} done")
    seconds, is_all = left_s(record, views)
    if seconds > 0:
        line.append(f", {'' if is_all else 'at least '}{format_duration(seconds)} left")
    return line.append(f"  {record.id}", style="dim")


def _is_done(view: RunView | None) -> bool:
    return view is not None and (view.state.is_success or is_left_out(view))


def _stage(record: PlanRecord, stage: StageRecord, views: Views) -> Text:
    """The states of a stage's runs, how far they are, and why they wait."""
    shown = [view for run in stage.runs if (view := views.get(run))]
    if not shown:
        return Text("its run folders are gone", style="red")
    if len(shown) == 1 and is_left_out(shown[0]):
        return Text(f"left out: not needed{_also(stage)}", style="dim")
    line = Text(str(shown[0].state), style=STYLES[shown[0].state]) if len(shown) == 1 else state_counts(shown)
    failed = {v.run for v in views.values() if v.state.is_final and not v.state.is_success}
    vain = [view for view in shown if not view.state.is_final and record.is_in_vain(view.run, failed)]
    if vain:
        line.append(f"  waits in vain: sedd requeue {typed_plan(record)}", style="yellow")
    for part in _progress(shown):
        line.append(f"  {part}")
    if len(shown) == 1 and shown[0].why and not vain and shown[0].state is not State.COMPLETED:
        line.append(f"  {shown[0].why}", style="dim")
    return line.append(_also(stage), style="dim")


def _progress(shown: Sequence[RunView]) -> Iterator[str]:
    live = [view for view in shown if view.is_live]
    if len(shown) == 1 and live and live[0].steps:
        yield f"{live[0].step}/{live[0].steps} {live[0].unit}"
    bounds = [view.validation_bound for view in shown if view.validation_bound is not None]
    if bounds:
        yield f"validation {loss_cell(min(bounds))}" if len(shown) == 1 else f"best {loss_cell(min(bounds))}"
    found = [view.result.nats_per_residue for view in shown if view.result]
    if known := [nats for nats in found if nats is not None]:
        yield f"evaluation {loss_cell(known[0])}" if len(shown) == 1 else f"best {loss_cell(min(known))}"
    if etas := [view.eta_s for view in live if view.eta_s is not None]:
        yield f"{format_duration(max(etas))} left"


def _also(stage: StageRecord) -> str:
    """What else the stage needs than the one below which it stands, and how."""
    *others, last = [*stage.waits] or [""]
    words = [f"{name}{_HOW.get(stage.waits[name], '')}" for name in others]
    words += [f"{last}{_HOW[stage.waits[last]]}"] if last and stage.waits[last] in _HOW else []
    return f"  after {', '.join(words)}" if words else ""


def _walk(record: PlanRecord) -> Iterator[tuple[StageRecord, str]]:
    """The stages with their indentation, each below the last one of those that it needs."""
    children: dict[str, list[StageRecord]] = {}
    for stage in record.stages:
        children.setdefault([*stage.waits][-1] if stage.waits else "", []).append(stage)

    def below(parent: str, indent: str) -> Iterator[tuple[StageRecord, str]]:
        own = children.get(parent, [])
        for number, stage in enumerate(own):
            is_last = number == len(own) - 1
            branch = "" if not parent else "└─ " if is_last else "├─ "
            yield stage, indent + branch
            yield from below(stage.name, indent + ("" if not parent else "   " if is_last else "│  "))

    return below("", "")
