"""A card that became slow is told from one that always was, by its own history."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sedd.preflight.checks.card_speed import _ENOUGH, _NOW, Facts, gather, judge
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Status
from sedd.rundir.card_history import append_speed, history_path, read_speeds
from sedd.rundir.layout import RunDir


def facts(*, earlier: int = 9, tflops: float = 91.0, gb_per_s: float = 770.0) -> Facts:
    now = replace(_NOW, tflops=tflops, gb_per_s=gb_per_s)
    return Facts(host="node7", now=now, earlier=(_NOW,) * earlier)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (facts(), Status.OK),
        (facts(tflops=80.0), Status.OK),
        (facts(tflops=70.0), Status.WARN),
        (facts(gb_per_s=600.0), Status.WARN),
        (facts(tflops=10.0, earlier=_ENOUGH - 1), Status.OK),
        (facts(tflops=10.0, earlier=_ENOUGH), Status.WARN),
    ],
)
def test_a_card_is_held_against_its_own_median(seen: Facts, status: Status) -> None:
    assert judge(seen).status is status


def test_the_warning_has_the_numbers_and_the_node() -> None:
    saw = judge(facts(tflops=62.0)).saw
    for part in ("62.0 TFLOP/s", "node7", "91.0 and 770 in 9 jobs since 2026-11-22"):
        assert part in saw


def test_the_history_of_a_node_is_read_back_without_damaged_lines(tmp_path: Path) -> None:
    path = history_path(tmp_path, "../node7")
    assert path.parent == tmp_path / ".cards"
    append_speed(path, _NOW)
    with path.open("a") as file:
        file.write('{"half a li\n[]\n{"other": 1}\n')
    append_speed(path, replace(_NOW, card="GPU-1"))
    assert [speed.card for speed in read_speeds(path)] == ["GPU-0", "GPU-1"]
    assert read_speeds(tmp_path / "nothing") == []


@pytest.mark.gpu
def test_a_real_card_is_measured_and_remembered(
    tmp_path: Path, make_context: Callable[..., CheckContext]
) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run = RunDir(tmp_path / "tiny" / "1")
    context = make_context(
        {"resources.gpus_per_node": 1}, side=Side.NODE, environ={"SEDD_HOST": "n1"}, run=run
    )
    for number in range(_ENOUGH + 1):
        seen = gather(context)
        assert seen is not None
        assert len(seen.earlier) == number
    assert judge(seen).status is Status.OK
    assert seen.now.tflops > 1
