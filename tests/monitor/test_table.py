"""The table as a user sees it."""

import dataclasses
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sedd.monitor.facts import QueueFacts
from sedd.monitor.snapshot import Snapshot
from sedd.monitor.table import recent, status_table


def render(snapshot: Snapshot, *, width: int, fold: bool = True, terminal: bool = False) -> str:
    stream = io.StringIO()
    colours = "standard" if terminal else None
    console = Console(
        file=stream, width=width, force_terminal=terminal, color_system=colours, highlight=False
    )
    console.print(status_table(snapshot, recent(snapshot), width=width, fold=fold))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_a_busy_morning(zoo: Snapshot, width: int, golden: Callable[[str, str], None]) -> None:
    golden(f"status_{width}.txt", render(zoo, width=width))


@pytest.mark.parametrize("width", [40, 60, 79, 80, 81, 100, 120, 133, 160, 250])
def test_no_line_is_wider_than_the_terminal_and_no_run_is_split(zoo: Snapshot, width: int) -> None:
    lines = render(zoo, width=width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    states = [str(view.state).split()[0] for view in sorted(zoo.runs, key=lambda v: v.id)]
    assert [line.split()[1] for line in lines[1:12]] == states


def test_eighty_columns_are_used_exactly(zoo: Snapshot) -> None:
    assert max(len(line) for line in render(zoo, width=80).splitlines()[:-2]) == 80


def test_states_are_words_and_colour_is_only_added(zoo: Snapshot) -> None:
    plain, coloured = render(zoo, width=80), render(zoo, width=80, terminal=True)
    assert "\x1b" not in plain
    assert "\x1b[32mrunning" in coloured
    for view in zoo.runs:
        assert str(view.state) in plain


def sweep(farm: Any, snapshot_of: Callable[..., Snapshot], points: int) -> Snapshot:
    runs = []
    for k in range(points):
        run = farm.run(
            "scan", f"20261122-080000-{k:08x}", executor="local", sweep="s1", point={"training.lr": k}
        )
        run.submitted(ago_s=3600).started(ago_s=3500)
        run.beat(1000 + k, loss=3.0, validation_bound=2.9 - k / 1000, residues_per_s=1e4, eta_s=1e4)
        runs.append(run)
    return snapshot_of(*runs, alive=True)


def test_points_of_a_sweep_stand_together(
    farm: Any, snapshot_of: Callable[..., Snapshot], golden: Callable[[str, str], None]
) -> None:
    golden("sweep_80.txt", render(sweep(farm, snapshot_of, 3), width=80))


def test_large_sweeps_fold_to_their_best(
    farm: Any, snapshot_of: Callable[..., Snapshot], golden: Callable[[str, str], None]
) -> None:
    large = sweep(farm, snapshot_of, 30)
    golden("sweep_folded_80.txt", render(large, width=80))
    assert len(render(large, width=80, fold=False).splitlines()) > 30


def test_runs_that_ended_long_ago_are_counted_not_listed(
    farm: Any, snapshot_of: Callable[..., Snapshot]
) -> None:
    old = (
        farm.run("old", "20261101-080000-1a2b3c4d")
        .submitted(ago_s=9e5)
        .event("cancelled", ago_s=8e5, by="ada")
    )
    new = farm.run("new").submitted(ago_s=5)
    text = render(snapshot_of(old, new), width=80)
    assert "1 that ended earlier: sedd status --all" in text
    assert "\nold" not in text


def test_silence_of_slurm_is_said_with_its_length(zoo: Snapshot) -> None:
    down = QueueFacts(
        down_since=zoo.taken.replace(hour=11, minute=58), error="squeue did not answer within 10 s"
    )
    text = render(dataclasses.replace(zoo, queue=down), width=120)
    assert re.search(
        r"SLURM does not answer since \d\d:\d\d:\d\d, for 2m: squeue did not answer within 10 s", text
    )


def test_wide_letters_do_not_shift_columns(farm: Any, snapshot_of: Callable[..., Snapshot]) -> None:
    wide = farm.run("蛋白質の拡散モデル訓練実験", executor="local").submitted(ago_s=30).started(ago_s=20)
    lines = render(snapshot_of(wide, alive=True), width=80).splitlines()
    position = lines[0].index("state")
    assert cell_len(lines[1][: lines[1].index("preflight")]) == position
