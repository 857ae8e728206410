"""`sedd compare`: which of several runs is the best, and whether that can be told."""

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import note, out, print_json, require_one_on_stdout, tell, write_text
from sedd.cli.options import FILE, Force
from sedd.errors import UsageError
from sedd.experiments.groups import METRICS
from sedd.experiments.rank import Ranking, rank
from sedd.experiments.ranking_document import ranking_csv, ranking_document
from sedd.experiments.ranking_page import render_ranking
from sedd.experiments.ranking_text import ranking_table
from sedd.experiments.results import Result, evaluated_network, read_result, with_evaluations
from sedd.halving.savings import read_savings
from sedd.rundir.atomic import is_stdout, require_output, write_output
from sedd.rundir.find import each_once, find_run, find_runs, is_name_of, list_runs_of_name, runs_root
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.plan_record import find_plan


def command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Run folders, ids, job ids or names; sweeps; plans.")
    ],
    sort: Annotated[str, typer.Option(help=f"Lowest first: {', '.join(METRICS)}.")] = "validation",
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Compare with this run; default: the best.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one HTML page, with curves.", metavar=FILE, readable=False)
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="Write a CSV with a row for each run; - is stdout.", metavar=FILE, readable=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document (sedd/experiments/README.md).")
    ] = False,
    force: Force = False,
) -> None:
    """Rank runs, join those that differ in seed alone, and say which can be told apart.

    Example: sedd compare my-sweep --html compare.html
    """
    if sort not in METRICS:
        raise UsageError(f"--sort is '{sort}'", hint=f"one of {', '.join(METRICS)}")
    require_output(html, force=force, endings=(".html", ""))
    require_output(table, force=force, endings=(".csv", ""), to_stdout=True)
    require_one_on_stdout({"--csv": is_stdout(table), "--json": as_json})
    ranking = _rank(runs, sort, against)
    if html is not None:
        write_output(html, render_ranking(ranking, now=dt.datetime.now(dt.UTC)))
        tell(f"page in {html}")
    if table is not None and write_text(table, ranking_csv(ranking)):
        tell(f"table in {table}")
    if as_json:
        print_json(ranking_document(ranking))
    elif not is_stdout(table):
        console = out()
        console.print(ranking_table(ranking, width=console.width))


def _of_its_name(text: str, run: RunDir) -> list[RunDir]:
    """A name that several runs have means all of them here, where one alone means nothing."""
    if not is_name_of(text, run):
        return [run]
    task = read_manifest(run).get("task")
    alike = [
        other for other in list_runs_of_name(run.path.parent) if read_manifest(other).get("task") == task
    ]
    if len(alike) > 1:
        note(f"{len(alike)} runs are called {run.name}: all are compared")
    return alike


def _rank(texts: list[str], metric: str, against: str | None) -> Ranking:
    root = runs_root()
    chosen: list[RunDir] = []
    for text in texts:
        found = find_runs(text, root)
        if find_plan(text, root) is not None:
            tasks = ("train", "evaluate") if metric == "evaluation" else ("train",)
            found = [run for run in found if read_manifest(run).get("task") in tasks]
        chosen += found
    reference = find_run(against, root) if against else None
    chosen = each_once([*([reference] if reference else []), *chosen])
    if len(texts) == len(chosen) == 1 and against is None:
        chosen = _of_its_name(texts[0], chosen[0])
    if len(chosen) < 2:
        is_plan = find_plan(texts[0], root) is not None
        what = (
            f"plan {texts[0]} has {'one training' if chosen else 'no training'}"
            if is_plan
            else f"{texts[0]} is a single run"
            if len(texts) == 1
            else f"{' and '.join(texts)} are the same run"
        )
        raise UsageError(f"{what}: there is nothing to compare", hint="name two runs, or a sweep")
    read = [read_result(run) for run in chosen]
    results = with_evaluations(read)
    named = _result_of(read[0], results) if reference else None
    ranking, savings = rank(results, metric=metric, against=named), read_savings(chosen)
    return replace(ranking, remarks=(*ranking.remarks, str(savings))) if savings else ranking


def _result_of(named: Result, results: Sequence[Result]) -> Result:
    """The result that a run's own has become: of an evaluation that of its training, which has taken it up."""
    network = evaluated_network(named)
    own = next((each for each in results if each.run == named.run), None)
    return own or next(each for each in results if os.path.realpath(each.run.path) == network)
