"""Which runs are told apart, by which interval, and what is said of it at 80 columns, on a page, in JSON and CSV."""

import csv
import datetime as dt
import io
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sedd.errors import UsageError
from sedd.experiments.differences import Method
from sedd.experiments.groups import METRICS
from sedd.experiments.intervals import Estimate
from sedd.experiments.rank import Ranking, rank
from sedd.experiments.ranking_document import best_document, ranking_csv, ranking_document
from sedd.experiments.ranking_page import render_ranking
from sedd.experiments.ranking_text import ALIKE, best_lines, ranking_table
from sedd.experiments.results import Result, read_result, with_evaluations
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir
from sedd.rundir.usage import Usage
from tests.experiments.runs import make_run


def results(root: Path, *settings: dict[str, Any]) -> list[Result]:
    return [read_result(make_run(root, number, **each)) for number, each in enumerate(settings)]


def printed(ranking: Ranking, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(ranking_table(ranking, width=width))
    return console.export_text()


def seeded(excesses: Sequence[float], *, n: int, spread: float) -> list[dict[str, Any]]:
    rng = random.Random(4)
    return [
        {"learning_rate": 1e-3 / 3**k, "seed": seed, "excess": excess + rng.gauss(0, spread)}
        for k, excess in enumerate(excesses)
        for seed in range(n)
    ]


def test_runs_of_one_validation_set_are_compared_in_pairs(tmp_path: Path) -> None:
    """A difference far below either bound's own error is seen."""
    found = rank(results(tmp_path, {"excess": 0.01}, {"learning_rate": 3e-4}))
    best, worse = found.groups
    assert best.results[0].settings["training.learning_rate"] == 3e-4
    difference = found.differences[worse.number]
    assert (difference.method, difference.is_distinguishable) == (Method.PAIRED, True)
    assert best.estimate is not None
    assert best.estimate.error is not None
    assert best.estimate.error > 5 * abs(difference.estimate.value)
    assert difference.estimate.value == pytest.approx(0.01, abs=0.002)
    assert ALIKE not in printed(found), "explained, and nowhere in the table"


def test_a_narrow_table_still_shows_what_tells_its_rows_apart(tmp_path: Path) -> None:
    made = [{"excess": k / 100, "learning_rate": rate} for k, rate in enumerate((0.02822, 0.0302, 0.0512))]
    found = rank(results(tmp_path, *made))
    wide, narrow = (printed(found, width=width).splitlines() for width in (100, 60))
    assert [line.split()[1] for line in wide[:2]] == ["run", "learning_rate=0.02822"]
    assert [line.split()[1] for line in narrow[1:4]] == ["0.02822", "0.0302", "0.0512"]
    assert narrow[0].split()[1].startswith("learn")


def test_processes_that_the_way_of_launching_writes_are_no_difference(tmp_path: Path) -> None:
    """`sedd train` writes how many there are, `sedd submit` leaves that to the GPUs."""
    one = {"processes_per_node": 1, "gpus_per_node": 1}
    left = {"processes_per_node": None, "gpus_per_node": 1}
    trained, submitted, seeded, more = results(
        tmp_path,
        {"resources": one, "excess": 0.01},
        {"resources": left},
        {"resources": left, "seed": 1},
        {"resources": one | {"processes_per_node": 2}},
    )
    assert rank([trained, submitted]).fields == {}
    assert rank([trained, seeded]).groups[0].n == 2, "seeds of one setting"
    assert rank([trained, more]).fields == {"resources.processes_per_node": (2, 1)}


@pytest.mark.parametrize("others", [(), ({"learning_rate": 3e-4, "excess": 0.01},)])
def test_the_best_is_told_with_its_number_of_seeds_once(
    tmp_path: Path, others: tuple[dict[str, Any], ...]
) -> None:
    runs = [{"seed": seed} | other for other in ({}, *others) for seed in (1, 2)]
    line = best_lines(rank(results(tmp_path, *runs)), is_over=True)[0]
    assert line.count("2 seeds") == 1, line


def test_a_small_difference_is_not_distinguishable(tmp_path: Path) -> None:
    found = rank(results(tmp_path, {"jitter": 0.05}, {"learning_rate": 3e-4, "jitter": 0.05}))
    assert found.differences[2].is_distinguishable is False
    assert ALIKE in printed(found)
    assert any(ALIKE in line for line in best_lines(found, is_over=True))


def test_different_validation_sets_are_not_paired_and_that_is_said(tmp_path: Path) -> None:
    found = rank(results(tmp_path, {"excess": 0.01}, {"learning_rate": 3e-4, "proteins": "bbbb"}))
    assert found.differences[2].method is Method.UNPAIRED
    assert found.differences[2].is_distinguishable is False
    assert "cannot be paired" in printed(found).replace("\n", " ")


def test_runs_of_an_older_version_have_no_interval(tmp_path: Path) -> None:
    found = rank(results(tmp_path, {"excess": 0.01}, {"learning_rate": 3e-4, "keeps_blocks": False}))
    assert found.differences[2].method is Method.NONE
    assert found.differences[2].is_distinguishable is None
    assert "± ?" in printed(found)
    assert any("uncertainty is unknown" in line for line in best_lines(found, is_over=True))


def test_seeds_are_joined_and_compared_by_welch(tmp_path: Path) -> None:
    found = rank(results(tmp_path, *seeded([0.0, 0.1], n=3, spread=0.004)))
    assert [group.n for group in found.groups] == [3, 3]
    assert found.differences[2].method is Method.SEEDS
    assert found.differences[2].is_distinguishable is True
    assert found.groups[0].sd == pytest.approx(0.004, rel=0.8)
    low, _ = found.differences[2].interval or (0, 0)
    assert (
        best_lines(found, is_over=True)[1] == f"sure: better than the other by at least {low:.4f} nats (95%)"
    )
    assert list(found.fields) == ["training.learning_rate"]


def test_the_best_of_many_is_sure_only_against_all_of_them_together(tmp_path: Path) -> None:
    """Of two differences the intervals that hold together are wider than each alone."""
    found = rank(results(tmp_path, *seeded([0.0, 0.1, 0.1], n=2, spread=0.008)))
    alone = [d.estimate.interval() for d in found.differences.values()]
    both = [d.estimate.interval(0.975) for d in found.differences.values()]
    assert all(b[0] < a[0] for a, b in zip(alone, both, strict=True) if a and b)
    assert len(found.confused) == sum(b[0] <= 0 <= b[1] for b in both if b)


def test_the_same_run_twice_is_not_two_seeds(tmp_path: Path) -> None:
    found = rank(results(tmp_path, {"seed": 1}, {"seed": 1}))
    assert [group.n for group in found.groups] == [1, 1]
    assert "no field differs" in printed(found)


def test_any_run_may_be_the_reference(tmp_path: Path) -> None:
    runs = results(tmp_path, {"excess": 0.05}, {"learning_rate": 3e-4})
    found = rank(runs, against=runs[0])
    assert found.reference == 2
    assert found.differences[1].estimate.value == pytest.approx(-0.05, abs=0.003)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_sorts_or_says_that_none_has_it(tmp_path: Path, metric: str) -> None:
    runs = results(tmp_path, {"hours": 5.0, "excess": 0.2}, {"learning_rate": 3e-4, "hours": 3.0})
    if metric in ("evaluation", "kwh"):
        with pytest.raises(UsageError, match="none of the 2 runs has"):
            rank(runs, metric=metric)
        return
    found = rank(runs, metric=metric)
    assert found.groups[0].results[0] == runs[1]
    assert printed(found)


def test_the_table_fits_into_80_columns(tmp_path: Path) -> None:
    found = rank(results(tmp_path, *seeded([0.0, 0.002, 0.1], n=2, spread=0.004)))
    for width in (60, 80, 120):
        assert max(map(len, printed(found, width).splitlines())) <= width
    assert "2.4" in printed(found)


def test_json_and_csv_tell_the_same(tmp_path: Path) -> None:
    found = rank(results(tmp_path, *seeded([0.0, 0.1], n=2, spread=0.004)))
    document = json.loads(json.dumps(ranking_document(found), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(ranking_csv(found))))
    assert [row["id"] for row in rows] == [run["id"] for g in document["groups"] for run in g["runs"]]
    assert float(rows[2]["difference"]) == document["groups"][1]["difference"]["value"]
    assert document["groups"][1]["difference"]["method"] == rows[2]["method"] == "seeds"
    assert best_document(found)["ids"] == [run["id"] for run in document["groups"][0]["runs"]]
    assert document["groups"][0]["runs"][0]["usage"]["gpu_hours"] == 16.0


def test_values_are_shown_as_yaml_has_them_and_a_field_that_is_not_there_as_a_dash(tmp_path: Path) -> None:
    """Floats that differ in their last digits stay apart."""
    one, other = results(tmp_path, {"excess": 0.01}, {})
    rise = [{"from_step": 100, "steps": 10}]
    one = replace(one, settings={"a": True, "b": None, "c": [], "d": 1e-5, "e": 0.12345678, "f": "off"})
    other = replace(other, settings={"a": False, "c": rise, "d": 1.0, "e": 0.12345679, "f": "none"})
    lines = printed(rank([one, other]), width=120).splitlines()
    for line in (
        "a: false (#1); true (#2)",
        "c: [{from_step: 100, steps: 10}] (#1); [] (#2)",
        "d: 1.0 (#1); 1.0e-05 (#2)",
        "e: 0.12345679 (#1); 0.12345678 (#2)",
        'f: none (#1); "off" (#2)',
    ):
        assert line in lines


def test_null_is_not_the_same_as_no_such_field(tmp_path: Path) -> None:
    one, other = results(tmp_path, {"excess": 0.01}, {})
    one = replace(one, settings={"guide": None})
    other = replace(other, settings={"guide.weight": 2})
    lines = printed(rank([one, other]), width=120).splitlines()
    assert "guide.weight: 2 (#1); – (#2)" in lines


def test_what_was_stopped_is_compared_at_its_rung(tmp_path: Path) -> None:
    """Not with what the best has learnt since then, which is fifty times as much."""
    best, other = results(tmp_path, {}, {"learning_rate": 3e-4, "excess": 0.01})
    stopped = replace(other.until(400), ended="stopped")
    found = rank([best, stopped])
    assert found.differences[2].method is Method.PAIRED
    assert found.differences[2].estimate.value == pytest.approx(0.01, abs=0.002)
    assert found.groups[1].estimate is not None
    assert found.groups[1].estimate.value - best.curve[-1].bound > 0.1
    assert "differences from these are those at that rung" in " ".join(printed(found).split())
    assert rank([best, stopped], metric="best").differences[2].estimate.value == pytest.approx(
        0.01, abs=0.002
    )
    assert found.is_sure


def test_seeds_of_which_one_was_stopped_are_averaged_at_its_rung(tmp_path: Path) -> None:
    settings = [{"seed": 0}, {"seed": 1}, {"learning_rate": 3e-4}, {"learning_rate": 3e-4, "seed": 1}]
    first, second, *others = results(tmp_path, *settings)
    found = rank([first, replace(second.until(400), ended="stopped"), *others])
    assert found.groups[1].estimate is not None
    at_400 = [r.until(400).curve[-1].bound for r in (first, second)]
    assert found.groups[1].estimate.value == pytest.approx(sum(at_400) / 2)
    assert abs(found.differences[2].estimate.value) < 0.01
    assert found.differences[2].method is Method.SEEDS


def test_nothing_is_sure_where_a_stopped_one_was_better_at_its_rung(tmp_path: Path) -> None:
    """As with a second seed that was bad; and nothing is better 'by at least -0.01'."""
    best, other = results(tmp_path, {"excess": 0.01}, {"learning_rate": 3e-4})
    found = rank([best, replace(other.until(400), ended="stopped")])
    assert found.differences[2].estimate.value < 0
    assert not found.is_sure
    assert best_document(found)["is_sure"] is False
    assert "not sure" in best_lines(found, is_over=True)[1]


def test_what_a_halving_sweep_stopped_at_its_first_rung_is_a_dot_on_the_page(tmp_path: Path) -> None:
    best, *others = results(tmp_path, *({"learning_rate": 1e-3 / 3**k, "excess": k / 100} for k in range(4)))
    found = rank([best, *(replace(other.until(200), ended="stopped") for other in others)])
    page = render_ranking(found, now=dt.datetime(2026, 11, 2, tzinfo=dt.UTC))
    assert page.count("<polyline") == 2
    for number in (1, 2, 3):
        assert page.count(f'class="dot curve-{number}"') == 4, "in both charts and their legends"
    assert page.count("#3 learning_rate=") == 3, "in the table and both legends"


def test_of_one_other_the_sentence_needs_no_count(tmp_path: Path) -> None:
    found = rank(results(tmp_path, {"jitter": 0.05}, {"learning_rate": 3e-4, "jitter": 0.05}))
    lines = best_lines(found, is_over=True)
    assert lines[1].startswith(f"{ALIKE} (95%) from learning_rate=")
    assert "not compared" not in " ".join(lines)


def test_what_cannot_be_compared_with_the_best_is_not_counted_and_is_named(tmp_path: Path) -> None:
    rates = (1e-3, 3e-4, 1e-4, 3e-5)
    runs = results(tmp_path, *({"learning_rate": rate, "jitter": 0.05} for rate in rates))
    unvalidated = [replace(run, curve=(), rows=()) for run in runs[2:]]
    found = rank([*runs[:2], *unvalidated])
    lines = best_lines(found, is_over=True)
    assert "1 of" not in lines[1]
    assert (
        lines[2]
        == "not compared, with no validation up to the same step: learning_rate=0.0001, learning_rate=3.0e-05"
    )
    three = best_lines(rank([*runs[:3], *unvalidated[1:]]), is_over=True)
    assert three[1].startswith(f"{ALIKE} (95%) from 2 of 2 that can be compared: ")
    pair = results(tmp_path / "sure", {}, {"excess": 0.5, "learning_rate": 3e-4})
    sure = rank([*pair, *unvalidated])
    assert "better than what can be compared with it by at least" in best_lines(sure, is_over=True)[1]
    assert best_document(sure)["is_sure"] is False, "of two nothing is known"
    assert best_document(rank(pair))["is_sure"] is True


def test_validations_that_are_not_alike_are_told_beside_the_best(tmp_path: Path) -> None:
    """Else a point of which less is trained, or whose proteins are harder, is surely worse."""
    best, other = results(tmp_path, {}, {"learning_rate": 3e-4, "excess": 0.1})
    alike = " ".join(best_lines(rank([best, other]), is_over=False))
    assert "different" not in alike
    lines = best_lines(rank([best, other.until(400)]), is_over=False)
    assert "last validated at different steps, from 400 to 1,000" in lines
    (harder,) = results(tmp_path / "x", {"learning_rate": 3e-4, "excess": 0.1, "proteins": "bbbb"})
    assert "runs with different validation sets" in " ".join(best_lines(rank([best, harder]), is_over=True))


def test_the_page_draws_both_curves_and_needs_no_network(tmp_path: Path) -> None:
    found = rank(results(tmp_path, *seeded([0.0, 0.1, 0.2], n=2, spread=0.004)))
    page = render_ranking(found, now=dt.datetime(2026, 11, 2, tzinfo=dt.UTC))
    assert page.count("<svg") == 2
    assert page.count("<polyline") == 6
    assert "residues</text>" in page
    assert "GPU-hours</text>" in page
    assert "http" not in page


def test_an_evaluation_belongs_to_the_training_that_it_evaluates(tmp_path: Path) -> None:
    runs = results(tmp_path, {"seed": 0}, {"seed": 1}, {"learning_rate": 3e-4})
    evaluations = [
        replace(
            runs[2],
            run=RunDir(tmp_path / "eval" / str(number)),
            settings={"task": "evaluate", "evaluate.network": str(runs[of].run.path)},
            evaluation=Estimate(value=value, error=0.001),
        )
        for number, (of, value) in enumerate([(0, 2.5), (1, 2.52), (2, 2.7), (2, 2.8)])
    ]
    joined = with_evaluations([*runs, *evaluations])
    assert [r.evaluation.value if r.evaluation else None for r in joined[:3]] == [2.5, 2.52, None]
    assert len(joined) == 5  # two evaluations of one network: which of them counts is not known
    (tmp_path / "best").symlink_to(runs[0].run.path)  # as a plan's best, or a folder of runs below ~/scratch
    by_link = replace(
        evaluations[0], settings={"task": "evaluate", "evaluate.network": str(tmp_path / "best")}
    )
    assert [r.evaluation is not None for r in with_evaluations([*runs, by_link])] == [True, False, False]
    found = rank(joined[:2], metric="evaluation")
    assert found.groups[0].estimate is not None
    assert (found.groups[0].n, found.groups[0].estimate.value) == (2, pytest.approx(2.51))


def test_evaluations_of_different_proteins_are_said_to_be(tmp_path: Path) -> None:
    """Of two trainings that were evaluated on two files the one with the easier file was better, and that was sure."""
    read = []
    for number, residues in enumerate((5000, 7000, 5000)):
        run = make_run(tmp_path, number, learning_rate=1e-3 + number)
        document = {"nats_per_residue": 2.5 + number, "standard_error": 0.001, "residues": residues}
        run.evaluation.write_text(json.dumps(document))
        read.append(read_result(run))
    of_different = "evaluations are of different proteins, and part of a difference may come from these"
    assert of_different in rank(read, metric="evaluation").remarks
    assert of_different not in rank(read[::2], metric="evaluation").remarks
    trainings = [replace(each, evaluation=None, evaluated=None) for each in read]
    evaluations = [
        replace(
            each,
            run=RunDir(tmp_path / "eval" / each.run.id),
            settings={"task": "evaluate", "evaluate.network": str(each.run.path)},
        )
        for each in read
    ]
    assert of_different in rank(with_evaluations([*trainings, *evaluations]), metric="evaluation").remarks


def test_a_curve_over_hours_counts_what_was_repeated(tmp_path: Path) -> None:
    from tests.experiments.runs import START

    run = make_run(tmp_path, 0, hours=1.0, gpus=2, ended=None)
    run.events.write_text("")

    def tell(hours: float, event: str, attempt: int, **fields: Any) -> None:
        append_event(run.events, event, attempt=attempt, now=START + dt.timedelta(hours=hours), **fields)

    tell(0, "submitted", 0)
    tell(1, "attempt_started", 1)
    tell(3, "checkpoint", 1, step=400)
    tell(4, "checkpoint", 1, step=600)
    tell(5, "requeued", 1, cause="killed")
    tell(9, "attempt_started", 2)
    tell(9, "resumed", 2, step=400)
    tell(12, "checkpoint", 2, step=1000)
    tell(12, "completed", 2, step=1000)
    hours = {point.step: point.hours for point in read_result(run).curve}
    # 400 steps in two hours on two GPUs; two more hours that were lost; then 600 steps in three.
    assert hours == pytest.approx({200: 2.0, 400: 4.0, 600: 10.0, 800: 12.0, 1000: 14.0})


def test_energy_that_was_measured_in_part_is_not_taken_for_all_of_it(tmp_path: Path) -> None:
    """Whose meter had failed for a day seemed to be the thriftiest."""
    half, whole = (read_result(make_run(tmp_path, n, seed=n, learning_rate=n + 1e-3)) for n in range(2))
    used = Usage(gpu_s=7200, joules=3.6e6, measured_gpu_s=7200, sources=frozenset({"counter"}))
    results = [
        replace(whole, usage=used),
        replace(half, usage=replace(used, joules=1.8e6, measured_gpu_s=3600)),
    ]
    assert [r for r in rank(results, metric="kwh").remarks if "energy" in r] == [
        "the energy of a part of the GPU-hours was measured, and counts alone: #1"
    ]
    assert not [r for r in rank(results).remarks if "energy" in r]


def test_a_run_that_goes_on_has_no_last_word(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0, ended="gave_up")
    assert read_result(run).ended == "gave_up"
    now = dt.datetime.now(dt.UTC)
    append_event(run.events, "submitted", attempt=1, now=now, executor="local")
    assert read_result(run).ended == ""
    append_event(run.events, "cancelled", attempt=1, now=now)
    assert read_result(run).ended == "cancelled"


def test_a_run_under_torchrun_has_the_gpus_that_train_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, 0, gpus=1, ended=None)
    assert read_result(run).gpus == 1
    now = dt.datetime.now(dt.UTC)
    append_event(run.events, "attempt_started", attempt=2, now=now, executor="foreground", gpus=4)
    assert read_result(run).gpus == 4
