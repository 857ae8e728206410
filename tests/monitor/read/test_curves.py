"""metrics.jsonl as curves."""

import json
from pathlib import Path

from sedd.monitor.read.curves import Curves, means, parse_curves, read_curves


def test_no_file_yet_is_no_curve(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "metrics.jsonl") == Curves()


def test_rows_become_points_and_half_a_row_none() -> None:
    rows = [{"step": 1, "loss": 3.0, "learning_rate": 0.1}, {"step": 2, "loss": 2.5, "validation_bound": 2.4}]
    content = "\n".join(json.dumps(row) for row in rows) + '\n{"step": 3, "lo'
    curves = parse_curves(content.encode())
    assert curves.loss == ((1, 3.0), (2, 2.5))
    assert curves.learning_rate == ((1, 0.1),)
    assert curves.validation_bound == ((2, 2.4),)


def test_long_runs_are_thinned_but_keep_every_validation() -> None:
    rows = [
        {"step": k, "loss": 1.0} | ({"validation_bound": 2.0} if k % 997 == 0 else {})
        for k in range(1, 50_001)
    ]
    curves = parse_curves("\n".join(json.dumps(row) for row in rows).encode())
    assert len(curves.validation_bound) == 50_000 // 997
    assert 3000 < len(curves.loss) < 5000


def test_means_keep_the_level_and_the_ends_of_a_curve() -> None:
    curve = tuple((float(k), 2.0 + (-1) ** k) for k in range(1000))
    thin = means(curve, 100)
    assert len(thin) == 100
    assert {y for _, y in thin} == {2.0}
    assert (thin[0][0], thin[-1][0]) == (4.5, 994.5)
    assert means(curve[:50], 100) == curve[:50]
