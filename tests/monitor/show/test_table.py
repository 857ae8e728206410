"""The table as a user sees it."""

import dataclasses
import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.read.facts import QueueFacts
from sedd.monitor.show.columns import COLUMNS
from sedd.monitor.show.table import recent, run_line, status_table
from sedd.rundir.layout import RunDir
from tests.monitor.conftest import NOW, FakeRun

Sweep = Callable[[int], list[FakeRun]]


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
    runs = [line for line in lines[1:] if not line.startswith("    ")]  # a reason may stand below its run
    assert [line.split()[1] for line in runs[:11]] == states


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_reason_is_readable_at_every_width(
    farm: Any, snapshot_of: Callable[..., Snapshot], width: int
) -> None:
    error = "RuntimeError: CUDA out of memory"
    run = (
        farm.run("large").submitted(ago_s=50).started(ago_s=40).event("failed", cause="crashed", error=error)
    )
    run.event("gave_up", cause="crashed")
    text = render(snapshot_of(run), width=width)
    assert "CUDA out of" in text
    assert width > 60 or error in " ".join(text.split())


def test_eighty_columns_are_used_exactly(zoo: Snapshot) -> None:
    assert max(len(line) for line in render(zoo, width=80).splitlines()[:-2]) == 80


def test_states_are_words_and_colour_is_only_added(zoo: Snapshot) -> None:
    plain, coloured = render(zoo, width=80), render(zoo, width=80, terminal=True)
    assert "\x1b" not in plain
    assert "\x1b[32mrunning" in coloured
    for view in zoo.runs:
        assert str(view.state) in plain


@pytest.fixture
def sweep_of(farm: Any) -> Sweep:
    """Makes a sweep of this many running points; the later, the better."""

    def make(points: int) -> list[FakeRun]:
        runs = []
        for k in range(points):
            run = farm.run(
                "scan", f"20261122-080000-{k:08x}", executor="local", sweep="s1", point={"training.lr": k}
            )
            run.submitted(ago_s=3600).started(ago_s=3500)
            run.beat(1000 + k, loss=3.0, validation_bound=2.9 - k / 1000, residues_per_s=1e4, eta_s=1e4)
            runs.append(run)
        return runs

    return make


def test_points_of_a_sweep_stand_together(
    snapshot_of: Callable[..., Snapshot], sweep_of: Sweep, golden: Callable[[str, str], None]
) -> None:
    golden("sweep_80.txt", render(snapshot_of(*sweep_of(3), alive=True), width=80))


def test_large_sweeps_fold_to_their_best(
    snapshot_of: Callable[..., Snapshot], sweep_of: Sweep, golden: Callable[[str, str], None]
) -> None:
    large = snapshot_of(*sweep_of(30), alive=True)
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


def test_points_stand_in_the_order_of_their_values(farm: Any, snapshot_of: Callable[..., Snapshot]) -> None:
    for k, (rate, kind) in enumerate([(10, "b"), (9, "b"), (10, "a")]):
        point = {"training.lr": rate, "noise.kind": kind}
        farm.run("scan", f"20261122-080000-{k:08x}", executor="local", sweep="s", point=point)
    runs = [FakeRun(RunDir(path), executor="local") for path in sorted((farm.root / "scan").iterdir())]
    lines = render(snapshot_of(*runs, alive=True), width=120).splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["kind=a", "lr=10"],
        ["kind=b", "lr=9"],
        ["kind=b", "lr=10"],
    ]


def test_a_folded_sweep_still_shows_runs_in_trouble(
    snapshot_of: Callable[..., Snapshot], sweep_of: Sweep
) -> None:
    runs = sweep_of(40)
    for run in runs[:5]:
        run.event("failed", cause="crashed", error="RuntimeError: CUDA out of memory")
        run.event("gave_up", cause="crashed")
    lines = render(snapshot_of(*runs, alive=True), width=80).splitlines()
    assert lines[1] == "scan  40 runs: 5 gave up, 35 running; the best 3 and 3 in trouble"
    assert [line.split()[0] for line in lines[2:]] == [f"lr={k}" for k in (39, 38, 37, 0, 1, 2)]
    assert "RuntimeError: CUDA out of me" in lines[5]


def test_no_count_of_states_is_split(zoo: Snapshot) -> None:
    for width in (40, 60, 80):
        lines = render(zoo, width=width).splitlines()
        counts = lines[lines.index("") + 1 :]
        assert all(re.fullmatch(r"(\d+ [a-z ]+(, |,$|$))+", line) for line in counts)


def test_what_tells_runs_of_one_name_apart_is_never_cut(
    farm: Any, snapshot_of: Callable[..., Snapshot]
) -> None:
    column = next(c for c in COLUMNS if c.title == "run")
    view = snapshot_of(farm.run("a_rather_long_name").submitted(ago_s=5)).runs[0]
    line = run_line(view, "a_rather_long_name 1122-080000", [column], view.made).plain
    assert line == "a_ra… 1122-080000"


@pytest.mark.parametrize(
    ("point", "shown"),
    [
        ({"training.learning_rate": 0.0003, "seed": 1}, "seed=1 learning_ra…=0.0003"),
        ({"training.learning_rate": 0.0003, "training.warmup_steps": 1000}, "learn…=0.0003 warmu…=1000"),
        (
            {"a.learning_rate": 0.0003, "b.warmup_steps": 1000, "c.weight_decay": 0.01, "seed": 3},
            "0.0003 1000 0.01 3",
        ),
    ],
)
def test_at_80_columns_the_keys_of_a_sweep_can_be_read(
    farm: Any, snapshot_of: Callable[..., Snapshot], point: dict[str, float], shown: str
) -> None:
    for k in range(2):
        changed = {key: value + k for key, value in point.items()} if k else point
        run = farm.run("scan", f"20261122-080000-{k:08x}", executor="local", sweep="s1", point=changed)
        run.submitted(ago_s=30).started(ago_s=20)
    runs = [FakeRun(RunDir(path), executor="local") for path in sorted((farm.root / "scan").iterdir())]
    lines = render(snapshot_of(*runs, alive=True), width=80).splitlines()
    assert lines[2].split("  ")[1].strip() == shown
    assert all(len(line) <= 80 for line in lines)
    keys = [key.rpartition(".")[2] for key in point]
    assert "=" in shown or lines[1].endswith(f"({', '.join(keys)})")


def test_risk_says_what_a_kill_and_what_the_loss_of_the_node_would_lose() -> None:
    (column,) = [column for column in COLUMNS if column.title == "risk"]

    def cell(restart_s: float, at_risk_s: float, width: int) -> str:
        view: Any = SimpleNamespace(restart_s=restart_s, at_risk_s=at_risk_s)
        return column.cell(view, NOW, width)

    assert cell(4, 720, 9) == "4s–12m"
    assert cell(4, 720, 4) == "12m"  # too narrow for both: the greater
    assert cell(720, 720, 9) == "12m"
