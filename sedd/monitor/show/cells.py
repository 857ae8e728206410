"""Format numbers as short table cells of bounded width."""

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from rich.cells import cell_len

from sedd.monitor.decide.snapshot import RunView
from sedd.monitor.decide.state import State, cause_words
from sedd.monitor.decide.timeline import AttemptRow
from sedd.rundir.attempts import Cause
from sedd.yaml_text import yaml_text

STYLES = {
    State.UNSUBMITTED: "dim yellow",
    State.QUEUED: "yellow",
    State.PREFLIGHT: "cyan",
    State.RUNNING: "green",
    State.CHECKPOINTING: "cyan",
    State.REQUEUED: "yellow",
    State.STALLED: "bold red",
    State.LOST: "bold red",
    State.GAVE_UP: "bold red",
    State.PAUSED: "yellow",
    State.STOPPED: "dim",
    State.COMPLETED: "bright_blue",
    State.FAILED: "bold red",
    State.CANCELLED: "dim",
    State.INTERRUPTED: "yellow",
    State.UNKNOWN: "yellow",
}
_SHORTEST_KEY = 3
"""Letters; of fewer a key could not be told."""
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count_cell(value: float | None) -> str:
    """At most five characters: `9999`, `12.3k`, `261k`, `1.25M`."""
    if value is None or not math.isfinite(value):
        return ""
    if abs(value) < 9999.5:
        return f"{value:.0f}"
    scale, suffix = next((s, x) for s, x in _COUNTS if abs(value) >= s * 0.9995)
    return f"{value / scale:.3g}{suffix}"


def steps_cell(step: int, steps: int | None) -> str:
    """`12.3k/100k`."""
    return f"{count_cell(step)}/{count_cell(steps) or '?'}"


def loss_cell(value: float | None) -> str:
    """At most five characters: `2.412`, `12.31`, `nan`."""
    if value is None:
        return ""
    return next((text for digits in (3, 2, 1, 0) if len(text := f"{value:.{digits}f}") <= 5), "huge")


def duration_cell(seconds: float | None) -> str:
    """At most six characters: `42s`, `12m`, `9h 59m`, `12h`, `3d 4h`, `120d`."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    minutes = int(max(0.0, seconds)) // 60
    if minutes < 1:
        return f"{max(0, int(seconds))}s"
    if minutes < 60:
        return f"{minutes}m"
    hours, days = minutes // 60, minutes // 1440
    if hours < 10:
        return f"{hours}h {minutes % 60}m" if minutes % 60 else f"{hours}h"
    if days < 1:
        return f"{hours}h"
    return f"{days}d {hours % 24}h" if days < 10 and hours % 24 else f"{days}d"


def wait_cell(queued_s: float | None, *, in_job: bool) -> str:
    """How long an attempt waited before it started; `in job` where it started in the job of the one before."""
    return "in job" if in_job else duration_cell(queued_s)


def span_text(row: AttemptRow, show: Callable[[int], str]) -> str:
    """`200 → 2200`; `…` while it is starting, `–` if it ended before it began, `?` for what nothing tells."""
    if row.first_step is None:
        return "…" if row.cause is None else "–"
    return f"{show(row.first_step)} → {'?' if row.last_step is None else show(row.last_step)}"


def lost_text(row: AttemptRow, show: Callable[[int], str]) -> str:
    """How many steps of an attempt were lost; `?` as long as that is not known."""
    return "?" if row.lost is None else show(row.lost)


def age_cell(seconds: float | None) -> str:
    """At most four characters: `42s`, `12m`, `3h`, `2d`."""
    return duration_cell(seconds).partition(" ")[0]


def percent_cell(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.0%}"


def bar(ratio: float, *, width: int) -> str:
    """A progress bar of exactly `width` columns; full only when all is done."""
    eighths = int(max(0.0, min(1.0, ratio)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width, "·")


def causes_text(causes: Mapping[Cause, int]) -> str:
    """`2 preempted, 1 time limit`."""
    return ", ".join(f"{count} {cause_words(cause)}" for cause, count in causes.items())


def point_text(point: Mapping[str, Any]) -> str:
    """`learning_rate=0.0003 seed=1`: the last part of each key is enough."""
    return " ".join(f"{key.rpartition('.')[2]}={yaml_text(value)}" for key, value in point.items())


def short_point_text(point: Mapping[str, Any], width: int) -> str:
    """`point_text` with keys cut, and at last left out, until it fits: `learn…=0.0003 seed=1`, `0.0003 1`.

    What is left are the values, which tell runs apart.
    """
    whole = point_text(point)
    longest = max((len(key.rpartition(".")[2]) for key in point), default=0)
    for room in range(longest - 1, _SHORTEST_KEY - 1, -1):
        if cell_len(whole) <= width:
            break
        names = {key: key.rpartition(".")[2] for key in point}
        cut = {key: n if len(n) <= room + 1 else f"{n[:room]}…" for key, n in names.items()}
        whole = " ".join(f"{cut[key]}={yaml_text(value)}" for key, value in point.items())
    return whole if cell_len(whole) <= width else " ".join(map(yaml_text, point.values()))


def place_text(view: RunView) -> str:
    """`4 V100 on node[1-2]`."""
    gpu = (view.gpu or "GPU").replace("NVIDIA ", "").replace("Tesla ", "").split("-")[0].upper()
    cards = f"{view.gpus} {gpu}" if view.gpus else "CPU"
    return f"{cards} on {view.nodes}" if view.nodes else cards


def seconds_since(moment: dt.datetime | None, now: dt.datetime) -> float | None:
    return None if moment is None else (now - moment).total_seconds()
