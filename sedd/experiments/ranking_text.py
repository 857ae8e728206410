"""A ranking in words and as a table for the terminal."""

import math
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Group as Lines
from rich.text import Text

from sedd.experiments.column_line import column_line
from sedd.experiments.differences import Difference, Method
from sedd.experiments.groups import METRICS, SEED, Group
from sedd.experiments.intervals import CONFIDENCE, Estimate, simultaneous
from sedd.experiments.rank import OTHER_PROTEINS, OTHER_STEPS, Ranking
from sedd.yaml_text import yaml_text

ALIKE = "not distinguishable"
_WIDE = 104
"""Columns from which on a difference is shown beside the words that it is none."""
_RIGHT = (0, 3, 5)
"""Columns of numbers."""
_INTERVALS = {
    Method.SEEDS: "over the seeds (Welch)",
    Method.PAIRED: "paired over the blocks of the validation set",
    Method.UNPAIRED: "from the errors of both bounds",
}
"""How the interval of a difference was found."""


def ranking_table(ranking: Ranking, *, width: int) -> Lines:
    """The ranking as lines of at most `width` columns: groups, the fields in which they differ, remarks."""
    rows = [_row(ranking, group, is_wide=width >= _WIDE) for group in ranking.groups]
    titles = _titles(ranking)
    others = [max(cell_len(row[k]) for row in [titles, *rows]) for k in range(len(titles))]
    others[1] = 0
    used = [k for k in range(len(titles)) if k == 1 or any(row[k] for row in rows)]
    room = width - sum(others[k] + 2 for k in used if k != 1)
    longest = max(cell_len(row[1]) for row in [titles, *rows])
    if longest > room and _is_told_by_settings(ranking):  # cut, all would begin with the same key
        titles[1] = " ".join(key.rpartition(".")[2] for key in ranking.fields)
        for row, group in zip(rows, ranking.groups, strict=True):
            row[1] = _named(ranking, group, " ".join(_value(group, key) for key in ranking.fields))
        longest = max(cell_len(row[1]) for row in rows)
    widths = {k: others[k] if k != 1 else max(8, min(room, longest)) for k in used}
    lines = [Text(column_line(titles, widths, right=_RIGHT), style="dim")]
    lines += [
        Text(column_line(row, widths, right=_RIGHT), style="bold" if g.number == ranking.reference else "")
        for row, g in zip(rows, ranking.groups, strict=True)
    ]
    lines += [Text(""), *(Text(line, overflow="fold") for line in field_lines(ranking, most=12))]
    lines += [Text(line, style="dim", overflow="fold") for line in (legend(ranking), *ranking.remarks)]
    return Lines(*lines)


def _titles(ranking: Ranking) -> list[str]:
    metric = METRICS[ranking.metric]
    return ["#", "run", f"{metric.title}, {metric.unit}", "n", f"vs #{ranking.reference}", "GPU-h"]


def _row(ranking: Ranking, group: Group, *, is_wide: bool) -> list[str]:
    hours = sum(result.usage.gpu_hours for result in group.results)
    return [
        str(group.number),
        label_of(ranking, group),
        estimate_text(group),
        str(group.n) if any(g.n > 1 for g in ranking.groups) else "",
        difference_text(ranking.differences.get(group.number), is_wide=is_wide),
        f"{hours:.1f}" if any(r.gpus for g in ranking.groups for r in g.results) else "",
    ]


def label_of(ranking: Ranking, group: Group) -> str:
    """What tells a group from the others: its settings, where few differ, else the run's name and id."""
    if _is_told_by_settings(ranking):
        settings = " ".join(f"{key.rpartition('.')[2]}={_value(group, key)}" for key in ranking.fields)
        return _named(ranking, group, settings)
    names = {result.run.name for result in group.results}
    if group.n > 1:
        return f"{', '.join(sorted(names))}, {group.n} seeds"
    run = group.results[0].run
    return f"{run.name} {run.id}"


def _is_told_by_settings(ranking: Ranking) -> bool:
    """Whether the few settings that differ tell each group from the others."""
    return bool(ranking.fields) and len(ranking.fields) <= 3 and not _repeats(ranking)


def _named(ranking: Ranking, group: Group, settings: str) -> str:
    """A group's settings, behind its run's name where the ranking has several."""
    names = {result.run.name for result in group.results}
    all_names = {result.run.name for g in ranking.groups for result in g.results}
    return settings if len(all_names) == 1 else f"{names.pop() if len(names) == 1 else 'several'} {settings}"


def _repeats(ranking: Ranking) -> bool:
    """Whether two groups have the same settings: a run that was made twice."""
    settings = [tuple(map(str, column)) for column in zip(*ranking.fields.values(), strict=True)]
    return len(set(settings)) < len(settings)


def estimate_text(group: Group) -> str:
    """`2.4310 ± 0.0021`: ± the standard deviation over seeds, of a single run the bound's standard error."""
    if group.estimate is None:
        return "–"
    error = group.sd if group.n > 1 else group.estimate.error
    return f"{group.estimate.value:.4f}" + (f" ± {error:.4f}" if error is not None else "")


def difference_text(difference: Difference | None, *, is_wide: bool) -> str:
    """`+0.0123 ± 0.0040` (half the interval), or that there is no difference to be seen."""
    if difference is None:
        return ""
    text = signed(difference.estimate)
    if difference.is_distinguishable is None:
        return f"{text} ± ?"
    if difference.is_distinguishable:
        return text
    return f"{text}, {ALIKE}" if is_wide else ALIKE


def signed(estimate: Estimate) -> str:
    """`+0.0123 ± 0.0040`, where ± is half of the 95 % interval."""
    interval = estimate.interval()
    half = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.4f}"
    return f"{estimate.value:+.4f}{half}"


def field_lines(ranking: Ranking, *, most: int | None = None) -> Iterator[str]:
    """Of each field that differs its values, and the groups that have them."""
    seeds = {result.settings.get(SEED) for group in ranking.groups for result in group.results}
    for count, key in enumerate(ranking.fields):
        if count == most:
            yield f"and {len(ranking.fields) - count} more fields: --html or --json has them all"
            return
        yield f"{key}: {_by_value(ranking, key)}"
    if not ranking.fields:
        yield "no field differs" + (" but the seed" if len(seeds) > 1 else "")


def _by_value(ranking: Ranking, key: str) -> str:
    holders: dict[str, list[str]] = {}
    for group in ranking.groups:
        holders.setdefault(_value(group, key), []).append(f"#{group.number}")
    return "; ".join(f"{value} ({', '.join(numbers)})" for value, numbers in holders.items())


def _value(group: Group, key: str) -> str:
    """A group's value of a field as YAML has it; a dash where its spec has no such field."""
    settings = group.results[0].settings
    return yaml_text(settings[key]) if key in settings else "–"


def legend(ranking: Ranking) -> str:
    """What the numbers of the table mean."""
    over = "n seeds: mean ± standard deviation; " if any(g.n > 1 for g in ranking.groups) else ""
    has_error = any(g.n == 1 and g.estimate and g.estimate.error for g in ranking.groups)
    single = "± standard error; " if has_error else ""
    return f"{over}{single}{_intervals_line(ranking)}".removesuffix("; ")


def _intervals_line(ranking: Ranking) -> str:
    """What the intervals of the differences are, and what is said of one that holds 0; only what the table has."""
    shown = [d for d in ranking.differences.values() if d.interval is not None]
    if not shown:
        return ""
    methods = [text for method, text in _INTERVALS.items() if any(d.method is method for d in shown)]
    alike = f"; {ALIKE}: the interval holds 0" if any(not d.is_distinguishable for d in shown) else ""
    return f"differences ± half their {CONFIDENCE:.0%} interval, {', else '.join(methods)}{alike}"


def best_lines(ranking: Ranking, *, is_over: bool) -> list[str]:
    """Which group is the best, and how sure that is: what `sedd status SWEEP` says at its end."""
    best = ranking.groups[0]
    metric = METRICS[ranking.metric]
    label, seeds = label_of(ranking, best), f", {best.n} seeds" if best.n > 1 else ""
    so_far = "" if is_over else " so far"
    suffix = "" if label.endswith(seeds) else seeds
    lines = [f"best{so_far}: {label}: {estimate_text(best)} {metric.unit}{suffix}"]
    left_out = ranking.left_out
    if ranking.differences:
        lines.append(_certainty(ranking, is_whole=not left_out))
    if left_out:
        lacks = "validation up to the same step" if ranking.metric in ("validation", "best") else metric.title
        lines.append(f"not compared, with no {lacks}: {_names(ranking, left_out)}")
    if ranking.differences and any(group.was_stopped for group in ranking.groups):
        lines.append("points stopped by rule are compared as they were at their rung")
    if any(d.method is Method.PAIRED for d in ranking.differences.values()):
        lines.append("these very networks are compared; only other seeds show how much a seed matters")
    if ranking.differences:
        lines += [text for text in ranking.remarks if text.startswith((OTHER_STEPS, OTHER_PROTEINS))]
    return lines


def _certainty(ranking: Ranking, *, is_whole: bool) -> str:
    """How sure it is that the best is better than the others; `is_whole`: all of them can be compared with it."""
    unit, count = METRICS[ranking.metric].unit, len(ranking.differences)
    confused = [g for g in ranking.confused if math.isfinite(ranking.differences[g.number].estimate.value)]
    if ranking.is_sure:
        intervals = [d.estimate.interval(simultaneous(count)) for d in ranking.differences.values()]
        least = min(interval[0] for interval in intervals if interval is not None)
        others = "the other" if count == 1 else f"all {count} others"
        together = " for all of them together" if count > 1 else ""
        return (
            f"sure: better than {others if is_whole else 'what can be compared with it'} "
            f"by at least {least:.4f} {unit} ({CONFIDENCE:.0%}{together})"
        )
    if not confused:  # one of several seeds was stopped, another was very good
        return "not sure: one that was stopped was better at its rung"
    if all(ranking.differences[g.number].interval is None for g in confused):
        return f"the uncertainty is unknown: {_reason(ranking)}"
    these = f"{len(confused)} of {count} {'others' if is_whole else 'that can be compared'}: "
    return f"{ALIKE} ({CONFIDENCE:.0%}) from {these if count > 1 else ''}{_names(ranking, confused)}"


def _names(ranking: Ranking, groups: Sequence[Group]) -> str:
    """The labels of the first three, and how many more there are."""
    more = f" and {len(groups) - 3} more" if len(groups) > 3 else ""
    return ", ".join(label_of(ranking, group) for group in groups[:3]) + more


def _reason(ranking: Ranking) -> str:
    return next((r for r in ranking.remarks if r.startswith("no interval")), "no interval")
