"""Render one run in full for the terminal."""

import datetime as dt
import textwrap
from collections.abc import Iterator, Sequence
from shlex import quote

from rich.console import Group
from rich.text import Text

from sedd.monitor.decide.inspection import (
    Inspection,
    lineage_text,
    next_commands,
    result_text,
)
from sedd.monitor.decide.snapshot import RunView
from sedd.monitor.decide.state import cause_words
from sedd.monitor.decide.timeline import AttemptRow
from sedd.monitor.show.cells import (
    STYLES,
    age_cell,
    bar,
    causes_text,
    count_cell,
    duration_cell,
    lost_text,
    percent_cell,
    place_text,
    point_text,
    seconds_since,
    span_text,
    wait_cell,
)
from sedd.monitor.show.columns import put_width
from sedd.monitor.show.plot import plot
from sedd.monitor.show.sentences import preflight_outcome, sentence
from sedd.rundir.events import Event
from sedd.rundir.owner import other_owner
from sedd.rundir.usage import queued_words, restart_words, spent_words
from sedd.units import format_bytes

_EVENTS = 8
_ERROR_LINES = 15


def detail_view(seen: Inspection, *, width: int) -> Group:
    """The run as lines; trouble first. Paths, errors and log lines are left whole, all else fits `width`."""
    blocks = [
        [_title(seen, width)],
        _trouble(seen),
        _numbers(seen, width),
        _timeline(seen.timeline, width, unit=seen.view.unit),
        _curve("loss", seen.curves.loss, width, height=8),
        _curve("validation bound", seen.curves.validation_bound, width, height=4),
        _curve("learning rate", seen.curves.learning_rate, width, height=4),
        _findings(seen),
        _events(seen),
        _paths(seen),
        _commands(seen),
    ]
    lines: list[Text] = []
    for block in blocks:
        if block:
            lines += [Text(""), *block] if lines else block
    return Group(*lines)


def _title(seen: Inspection, width: int) -> Text:
    view = seen.view
    title = Text.assemble((view.name, "bold"), f"  {view.id}  ", (str(view.state), STYLES[view.state]))
    if view.why and not view.state.is_trouble:
        fits = title.cell_len + 2 + len(view.why) <= width
        title.append(f": {view.why}" if fits else f"\n{view.why}")
    if view.point:
        title.append(f"\n{point_text(view.point)}", style="dim")
    return title


def _trouble(seen: Inspection) -> list[Text]:
    if not seen.view.state.is_trouble:
        return []
    lines = [Text(seen.view.why, style=STYLES[seen.view.state])] if seen.view.why else []
    if seen.log is not None:
        lines.append(Text(f"the end of {seen.log}:", style="dim"))
    error_lines = seen.log_end or (seen.view.error or "").splitlines()[-_ERROR_LINES:]
    if seen.log is None and list(error_lines) == [seen.view.why]:
        return lines
    return [*lines, *(Text(f"  {line}") for line in error_lines)]


def _numbers(seen: Inspection, width: int) -> list[Text]:
    return [line for name, text in _facts(seen, width) if text for line in _labelled(name, text, width)]


def _labelled(name: str, text: str, width: int) -> list[Text]:
    """`saved     step 4000, 4m ago; …`, on more lines below each other where it is wider than `width`."""
    first, *more = textwrap.wrap(text, width - 10, break_long_words=False, break_on_hyphens=False)
    return [Text.assemble((f"{name:<9} ", "dim"), first), *(Text(f"{'':<10}{line}") for line in more)]


def _facts(seen: Inspection, width: int) -> Iterator[tuple[str, str]]:
    view, now = seen.view, seen.taken
    ratio = view.step / view.steps if view.steps else 0.0
    left = f"  {duration_cell(view.eta_s)} left" if view.eta_s is not None else ""
    yield "progress", f"{bar(ratio, width=20)} {view.step}/{view.steps or '?'} {view.unit}, {ratio:.0%}{left}"
    if view.loss is not None:
        bound = view.validation_bound
        validation = (
            f"; validation {bound:.4f}, perplexity {view.validation_perplexity:.2f}"
            if bound is not None
            else ""
        )
        yield "loss", f"{view.loss:.4f} nats per residue{validation}"
    yield "result", result_text(view.result) if view.result else ""
    if seen.lineage:
        yield "parent", lineage_text(seen.lineage)
    yield "forgets", _forgetting(seen)
    memory = f", {format_bytes(view.gpu_memory_bytes)} used at most" if view.gpu_memory_bytes else ""
    used = f", {view.gpu_utilization:.0f}% busy" if view.gpu_utilization is not None else ""
    speed = f"{count_cell(view.residues_per_s)} residues/s, " if view.residues_per_s else ""
    yield "speed" if speed else "place", f"{speed}{place_text(view)}{used}{memory}"
    yield from _slow(view)
    trains = view.unit == "steps"
    yield "saved", _saved(seen, now) if trains else ""
    if view.ettr is not None:
        share = f"{percent_cell(view.ettr)} of the time since submission went into"
        yield ("trained", f"{share} training (ETTR)") if trains else ("worked", f"{share} the work")
    if seen.usage.run_s:
        yield "used", spent_words(seen.usage)
        yield "queued", queued_words(seen.usage)
        if lost := restart_words(seen.usage):
            yield "lost", f"{lost[0]} to {lost[1]}"
    ended = causes_text(view.causes)
    yield "attempts", f"{view.attempts}, of which {ended}" if ended else ""


def _forgetting(seen: Inspection) -> str:
    points = seen.curves.parent_validation_bound
    if not points:
        return ""
    (first, was), (step, now) = points[0], points[-1]
    return f"{was:.4f} → {now:.4f} nats, step {first:.0f} → {step:.0f}, on its parent's validation set"


def _saved(seen: Inspection, now: dt.datetime) -> str:
    """What is saved, and what of a run that trains a kill would lose."""
    view, has_begun = seen.view, seen.view.at_risk_s is not None or seen.view.step > 0
    saved = ("nothing" if view.state.is_final else "nothing yet") if has_begun else ""
    if view.checkpoint_step is not None:
        kept = (
            f"step {view.checkpoint_step}"
            if view.unit == "steps"
            else f"{view.checkpoint_step:,} {view.unit}"
        )
        saved = f"{kept}, {age_cell(seconds_since(view.checkpoint_t, now))} ago"
    if view.has_later_copy:
        saved += f"; on its node step {view.local_step}, {age_cell(seconds_since(view.local_t, now))} ago"
    if view.at_risk_s is None or (not view.step and view.checkpoint_step is None):
        return saved
    whole = "all " if view.checkpoint_step is None else ""
    lost = _loss(whole, view.at_risk_steps, view.at_risk_s)
    if not view.has_later_copy:
        return f"{saved}; a kill now would lose {lost}"
    less = _loss("", view.restart_steps, view.restart_s)
    return f"{saved}; a kill of the training now would lose {less}; the loss of its node or job {lost}"


def _loss(whole: str, steps: int | None, seconds: float | None) -> str:
    """`600 steps, 3m`; with `all ` in front where nothing is saved."""
    plural = "" if steps == 1 else "s"
    return f"{whole}{steps} step{plural}, {duration_cell(seconds)}" if steps else "nothing"


def _slow(view: RunView) -> Iterator[tuple[str, str]]:
    """Each slow rank, and its own time of a step beside the fastest rank's."""
    times = {row.get("rank"): row for row in view.ranks}
    least = min((float(row.get("step_s") or 0) for row in times.values()), default=0.0)
    for each in view.slow:
        place = f"rank {each.get('rank')} on {each.get('host')}"
        yield (
            "slow",
            f"{place}: {each.get('over', 0):.0%} over the median since step {each.get('since_step')}",
        )
        if (own := times.get(each.get("rank"))) is not None:
            parts = [
                f"{name} {_milliseconds(own.get(key))}" for name, key in _PARTS if own.get(key) is not None
            ]
            step = f"{_milliseconds(own.get('step_s'))} a step ({', '.join(parts)})"
            yield "", f"{step}, the fastest {_milliseconds(least)}"


_PARTS = (("data", "data_s"), ("host", "host_s"), ("GPU", "device_s"))


def _milliseconds(seconds: float | None) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds is not None else "?"


def _timeline(rows: Sequence[AttemptRow], width: int, *, unit: str) -> list[Text]:
    if not rows:
        return []
    wide = max(13, len(unit))
    room = max(8, min(24, width - 53 - wide))
    header = f"  # {'started':<12}  {'node':<{room}} {'queued':>6} {'ran':>6}  {unit:<{wide}} {'lost':>5}  ended by"
    lines = [Text(header, style="dim")]
    for s in rows:
        steps = span_text(s, count_cell)
        waited = wait_cell(s.queued_s, in_job=s.in_job)
        row = (
            f"{s.number:>3} {s.started.astimezone():%d %b %H:%M}  {put_width(s.host, room)} "
            f"{waited:>6} {duration_cell(s.lasted_s):>6}  {steps:<{wide}} {lost_text(s, count_cell):>5}  "
        )
        lines.append(Text.assemble(row, cause_words(s.cause) if s.cause else "–"))
    return lines


def _curve(name: str, points: Sequence[tuple[float, float]], width: int, *, height: int) -> list[Text]:
    drawn = plot(points, width=min(width, 120), height=height)
    return [Text(name, style="dim"), *(Text(line, no_wrap=True) for line in drawn)] if drawn else []


def _findings(seen: Inspection) -> list[Text]:
    lines = [Text(f"cannot read {what}", style="yellow") for what in seen.view.unreadable]
    lines += [Text(what, style="yellow") for what in seen.view.damaged]
    sides: dict[str, list[str]] = {}
    for f in seen.findings:
        hint = f" ({f['hint']})" if f.get("hint") else ""
        what = f"{f.get('check')} {str(f.get('status')).lower()}: {f.get('saw')}{hint}"
        sides.setdefault(what, []).append(str(f.get("side") or ""))
    for what, where in sides.items():
        looks = f"{' and '.join(where)} preflight".strip()
        lines.append(Text(f"{looks}: {what}"))
    return lines


def _events(seen: Inspection) -> list[Text]:
    told = {(f.get("check"), f.get("saw")) for f in seen.findings}
    return [
        Text.assemble(
            (f"{e.t.astimezone():%d %b %H:%M:%S}  ", "dim"),
            preflight_outcome(e, told=told) if e.event == "preflight" else sentence(e, unit=seen.view.unit),
        )
        for e in _worth_showing(seen.events)[-_EVENTS:]
    ]


def _worth_showing(events: Sequence[Event]) -> list[Event]:
    """The events but `ready`, of checkpoints with nothing between them only the newest."""
    events = [e for e in events if e.event != "ready"]
    following = [*(e.event for e in events[1:]), ""]
    return [e for e, after in zip(events, following, strict=False) if {e.event, after} != {"checkpoint"}]


def _paths(seen: Inspection) -> list[Text]:
    view = seen.view
    known = [
        ("result", str(view.result.file) if view.result else ""),
        ("folder", str(view.run.path)),
        ("owner", other_owner(view.run) or ""),
        ("log", str(seen.log) if seen.log else ""),
        (
            "wandb",
            f"wandb sync {quote(str(offline))}/offline-run-*" if (offline := seen.offline_wandb) else "",
        ),
    ]
    return [Text.assemble((f"{name:<9} ", "dim"), path) for name, path in known if path]


def _commands(seen: Inspection) -> list[Text]:
    commands: Sequence[str] = next_commands(seen.view, seen.typed, store=seen.store)
    if other_owner(seen.view.run):
        commands = [command for command in commands if not command.startswith(_CHANGES)]
    return [Text(command, style="bold") for command in commands]


_CHANGES = ("sedd cancel", "sedd requeue", "sedd train", "rm ")
"""Beginnings of commands that only a run's owner may use."""
