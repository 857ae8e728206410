"""Which of several trainings is the best, and the link that says so."""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest

from sedd.errors import RunError
from sedd.rundir import best
from sedd.rundir.best import best_of, last_bound, link_best
from sedd.rundir.layout import RunDir
from sedd.rundir.validation_rows import ValidationRow


def run(folder: Path, name: str, *bounds: float | None) -> RunDir:
    made = RunDir(folder / "small" / name)
    made.path.mkdir(parents=True)
    rows = [
        {"step": n, "loss": 3.0} | ({} if b is None else {"validation_bound": b})
        for n, b in enumerate(bounds)
    ]
    made.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def test_the_last_validation_counts(tmp_path: Path) -> None:
    assert last_bound(run(tmp_path, "a", None, 2.5, 2.7, None)) == 2.7
    assert last_bound(run(tmp_path, "b", None)) is None
    assert last_bound(RunDir(tmp_path / "nowhere")) is None


def test_a_row_that_a_kill_has_cut_short_is_passed_over(tmp_path: Path) -> None:
    killed = run(tmp_path, "a", 2.5)
    with killed.metrics.open("a") as file:
        file.write('{"step": 9, "validation_bo')
    assert last_bound(killed) == 2.5


def test_the_lowest_is_the_best_and_of_equals_the_first(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", 2.6), run(tmp_path, "b", 2.4), run(tmp_path, "c", 2.4), run(tmp_path, "d")]
    assert best_of(runs) == runs[1]
    with pytest.raises(RunError, match="none of small/d"):
        best_of(runs[3:])


def test_a_bound_that_is_not_finite_is_never_the_lowest(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", 2.1, math.nan), run(tmp_path, "b", 2.4), run(tmp_path, "c", math.inf)]
    assert best_of(runs) == runs[1]
    with pytest.raises(RunError, match="none of small/a, small/c was validated to a finite bound"):
        best_of([runs[0], runs[2]])


def test_bounds_on_different_proteins_make_none_the_best(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", 2.6), run(tmp_path, "b", 2.4), run(tmp_path, "c", 2.5)]

    def validated_on(proteins: str, *which: RunDir) -> None:
        for each in which:
            row = ValidationRow(step=0, proteins=proteins, noise=0, residues=(9,), nats=(20.0,))
            each.validations.write_text(json.dumps(row.record()) + "\n")

    validated_on("one", runs[0], runs[1])
    assert best_of(runs) == runs[1], "of one nothing is noted"
    validated_on("other", runs[1])
    with pytest.raises(RunError, match="small/c were validated on 2 different sets of proteins"):
        best_of(runs)
    with pytest.raises(RunError, match="different sets"):
        link_best(tmp_path / "best", runs)


def test_all_who_link_at_once_link_the_same_and_later_ones_keep_it(tmp_path: Path) -> None:
    runs, link = [run(tmp_path, "a", 2.6), run(tmp_path, "b", 2.4)], tmp_path / "plan" / "best" / "train-1"
    with ThreadPoolExecutor(8) as pool:
        chosen = set(pool.map(lambda _: link_best(link, runs), range(16)))
    assert {each.path.resolve() for each in chosen} == {runs[1].path.resolve()}
    first = link_best(tmp_path / "first", runs[:1])

    def slowly(found: Sequence[RunDir]) -> RunDir:  # somebody else links meanwhile
        (tmp_path / "raced").symlink_to(first.path)
        return runs[1]

    with mock.patch.object(best, "best_of", slowly):
        assert link_best(tmp_path / "raced", runs).path == first.path.resolve()
    with runs[0].metrics.open("a") as file:
        file.write(json.dumps({"step": 9, "validation_bound": 1.0}) + "\n")
    assert link_best(link, runs).path == runs[1].path.resolve()
    assert [path.name for path in link.parent.iterdir()] == ["train-1"]
