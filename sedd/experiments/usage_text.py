"""What runs have used: summed by name, sweep or day, in words and as a table."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group as Lines
from rich.text import Text

from sedd.errors import UsageError
from sedd.experiments.column_line import column_line
from sedd.rundir.usage import RunUse, Usage, source_words
from sedd.units import parse_duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A sum and how many runs it is of."""

    label: str
    runs: int
    usage: Usage


def parse_moment(text: str, *, now: dt.datetime) -> dt.datetime:
    """`30d` before now, or a date such as 2026-11-01 (UTC). Raises: UsageError."""
    try:
        return now - dt.timedelta(seconds=parse_duration_s(text))
    except OverflowError:  # before all times
        return dt.datetime.min.replace(tzinfo=dt.UTC)
    except ValueError:
        pass
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise UsageError(f"'{text}' is neither a duration nor a date", hint="30d, 12h or 2026-11-01") from e
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def summed(uses: Iterable[tuple[str, RunUse]], *, since: dt.datetime, until: dt.datetime) -> list[Row]:
    """What was used in the period, by label; labels that used nothing in it are left out. Most GPU-hours first."""
    totals: dict[str, tuple[int, Usage]] = {}
    for label, use in uses:
        usage = use.within(since, until)
        if usage.run_s or usage.queued_s:
            runs, total = totals.get(label, (0, Usage()))
            totals[label] = runs + 1, total + usage
    rows = [Row(label=label, runs=runs, usage=usage) for label, (runs, usage) in totals.items()]
    return sorted(rows, key=lambda row: (-row.usage.gpu_s, -row.usage.run_s, row.label))


def total_of(rows: Sequence[Row]) -> Row:
    return Row(label="total", runs=sum(row.runs for row in rows), usage=sum((r.usage for r in rows), Usage()))


def usage_table(rows: Sequence[Row], *, width: int) -> Lines:
    """The rows and their total as lines of at most `width` columns; hours, kWh, kg."""
    whole = total_of(rows)
    shown = [*rows, whole] if len(rows) > 1 else list(rows)
    titles = ("", "runs", "GPU-h", "hours", "queued", "restarts", "repeats", "kWh", "kg CO₂")
    cells = [(row.label, str(row.runs), *_cells(row.usage)) for row in shown]
    used = [k for k in range(len(titles)) if k < 2 or any(line[k] not in ("", "0") for line in cells)]
    widths = {k: max(cell_len(line[k]) for line in [titles, *cells]) for k in used}
    room = width - sum(widths[k] + 2 for k in used if k)
    widths[0], right = max(8, min(widths[0], room)), range(1, len(titles))
    lines = [Text(column_line(titles, widths, right=right), style="dim")]
    lines += [
        Text(column_line(line, widths, right=right), style="bold" if row.label == "total" else "")
        for line, row in zip(cells, shown, strict=True)
    ]
    return Lines(*lines, *(Text(line, style="dim", overflow="fold") for line in _notes(whole.usage)))


def _cells(usage: Usage) -> tuple[str, ...]:
    return (
        *(_hours(s) for s in (usage.gpu_s, usage.run_s, usage.queued_s, usage.restart_s, usage.repeat_s)),
        f"{usage.kwh:.1f}" if usage.kwh is not None else "",
        f"{usage.co2_kg:.2f}" if usage.co2_kg is not None else "",
    )


def _hours(seconds: float) -> str:
    """`12.3`, `0.03`, `<0.001`; and `0` for nothing at all."""
    hours = seconds / 3600
    if hours >= 0.1 or not seconds:
        return f"{hours:.1f}" if seconds else "0"
    return f"{hours:.2g}" if hours >= 0.001 else "<0.001"


def _notes(usage: Usage) -> list[str]:
    notes = ["hours: run time of jobs; queued: hours that started attempts had waited"]
    if usage.restart_s or usage.repeat_s:
        notes.append(
            "restarts, repeats: hours to start again, after an interruption or at a rung, and for steps done twice"
        )
    if usage.lost_gpu_s >= 180:  # 0.1 hours
        notes.append(f"{usage.lost_gpu_s / 3600:.1f} GPU-hours of restarts and repeats{lost_words(usage)}")
    if usage.sources:
        notes.append(f"energy {source_words(usage)}")
    return notes


def lost_words(usage: Usage) -> str:
    """`: 1.2 after preempted, 0.3 after killed`."""
    parts = [
        f"{s / 3600:.1f} after {cause.replace('_', ' ')}"
        for cause, s in sorted(usage.lost_to.items(), key=lambda item: -item[1])
        if cause and s >= 180
    ]
    return f": {', '.join(parts)}" if parts else ""
