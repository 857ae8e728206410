"""A ranking as one HTML page that needs no network."""

import datetime as dt
from collections.abc import Sequence
from html import escape

from sedd.charts import line_chart
from sedd.experiments.groups import METRICS, mean_curve
from sedd.experiments.rank import Ranking
from sedd.experiments.ranking_text import (
    best_lines,
    difference_text,
    estimate_text,
    field_lines,
    label_of,
    legend,
)
from sedd.page import page, section, table
from sedd.rundir.usage import usage_words
from sedd.units import counted

_CURVES = 8
"""Of the best groups: more curves could not be told apart."""


def render_ranking(ranking: Ranking, *, now: dt.datetime) -> str:
    """The page: the best and how sure, the table, curves over residues and over hours, fields, what was used."""
    runs = sum(group.n for group in ranking.groups)
    metric = METRICS[ranking.metric]
    body = [
        f"<h1>{counted(runs, 'run')} compared</h1><p class=id>by {escape(metric.title)}, {escape(metric.unit)} · "
        f"{now:%Y-%m-%d %H:%M} UTC</p>",
        "".join(f"<p>{escape(line)}</p>" for line in _verdict(ranking)),
        _ranks(ranking),
        _charts(ranking),
        section("Fields that differ", "".join(f"<p>{escape(line)}</p>" for line in field_lines(ranking))),
        section("Used", _used(ranking)),
        section(
            "How to read this",
            "".join(f"<p>{escape(line)}</p>" for line in (legend(ranking), *ranking.remarks)),
        ),
    ]
    return page(f"{counted(runs, 'run')} compared", body)


def _verdict(ranking: Ranking) -> Sequence[str]:
    if ranking.reference != 1:
        return ()
    return best_lines(ranking, is_over=all(group.is_over for group in ranking.groups))


def _ranks(ranking: Ranking) -> str:
    metric = METRICS[ranking.metric]
    rows = [
        (
            f"#{group.number} {label_of(ranking, group)}",
            estimate_text(group),
            str(group.n),
            difference_text(ranking.differences.get(group.number), is_wide=True),
            str(ranking.differences[group.number].method) if group.number in ranking.differences else "",
        )
        for group in ranking.groups
    ]
    header = ("run", f"{metric.title}, {metric.unit}", "seeds", f"vs #{ranking.reference}, 95 %", "by")
    return table(header, rows, kind="numbers names")


def _charts(ranking: Ranking) -> str:
    shown = ranking.groups[:_CURVES]
    curves = [(f"#{g.number} {label_of(ranking, g)}", mean_curve(g)) for g in shown]
    has_gpus = all(result.gpus for group in shown for result in group.results)
    hours = "GPU-hours" if has_gpus else "hours of running"
    by_residues = [(label, [(p.residues, p.bound) for p in curve]) for label, curve in curves]
    by_hours = [(label, [(p.hours, p.bound) for p in curve]) for label, curve in curves]
    first = f" of the first {_CURVES}" if len(ranking.groups) > _CURVES else ""
    title = f"Validation bound{first}"
    return line_chart(title, by_residues, unit="nats per residue", over="residues") + line_chart(
        f"{title}, over {hours}", by_hours, unit="nats per residue", over=hours
    )


def _used(ranking: Ranking) -> str:
    rows = [
        (f"#{group.number}", result.run.id, f"{result.step:,}", usage_words(result.usage))
        for group in ranking.groups
        for result in group.results
    ]
    return table(("", "run", "step", "used"), rows)
