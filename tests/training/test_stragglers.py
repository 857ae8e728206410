"""The slow rank is told from those that wait for it, though all their steps last equally long."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sedd.rundir.attempts import parse_attempts
from sedd.rundir.events import Event, read_events
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.step_clock import WINDOW, OwnTime, StepClock
from sedd.training.stragglers import SLOWER, STEPS, Stragglers
from tests.tiny import tiny_spec, train_process

WINDOWS = STEPS // WINDOW


def times(*step_s: float) -> list[OwnTime]:
    return [OwnTime(data_s=0.1 * s, host_s=0.9 * s, device_s=None) for s in step_s]


def slow_after(*windows: list[OwnTime]) -> list[int]:
    stragglers = Stragglers()
    found = [stragglers.add(window) for window in windows]
    return [each.rank for each in found[-1]]


def test_a_rank_is_slow_after_a_hundred_steps_without_a_break() -> None:
    slow, even = times(1.0, 1.0, 1.3, 1.0), times(1.0, 1.0, 1.0, 1.0)
    assert slow_after(*[slow] * (WINDOWS - 1)) == []
    assert slow_after(*[slow] * WINDOWS) == [2]
    assert slow_after(*[slow] * WINDOWS, even) == []
    assert slow_after(*[slow] * WINDOWS, even, *[slow] * (WINDOWS - 1)) == []


def test_of_two_ranks_the_slower_is_held_against_the_faster() -> None:
    assert slow_after(*[times(1.0, 1.3)] * WINDOWS) == [1]
    assert slow_after(*[times(1.0, 1.0 + SLOWER - 0.01)] * WINDOWS) == []
    assert slow_after(*[times(1.0)] * WINDOWS) == []


def test_a_gpus_time_counts_where_there_is_one_and_the_wait_for_data_everywhere() -> None:
    assert OwnTime(data_s=1, host_s=2, device_s=4).step_s == 5
    assert OwnTime(data_s=1, host_s=2, device_s=None).step_s == 3


def test_a_hiccup_of_some_steps_is_not_in_the_median() -> None:
    clock = StepClock(torch.device("cpu"))
    for number in range(WINDOW):
        clock.begin()
        clock._began -= 60.0 if number < 10 else 1.0
        clock.computed()
        clock.end()
    assert clock.is_full()
    assert clock.take().host_s == pytest.approx(1.0, abs=0.5)
    assert not clock.is_full()


@pytest.mark.parametrize("reduction", ["all_reduce", "ordered"])
def test_a_slow_rank_of_gloo_is_named_and_the_waiting_ones_are_not(
    reduction: str, store: Path, make_run: Callable[[Experiment], RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec(
        store,
        steps=17,
        reduction=reduction,
        validation={"every_steps": 1000, "residues": 256},
        checkpoint={"every_steps": 1000},
    )
    run = make_run(spec)
    monkeypatch.setenv("SLOW_RANK", "1")
    assert train_process(run, ranks=2) == 0
    beat = read_heartbeat(run.heartbeat)
    assert beat is not None
    assert [row["rank"] for row in beat.ranks or ()] == [0, 1]
    ((slow),) = beat.slow or ()
    assert (slow["rank"], slow["host"], slow["since_step"]) == (1, socket.gethostname(), 0)
    own = [row["step_s"] for row in beat.ranks or ()]
    assert own[1] > 0.2 > own[0], "the waiting rank's time holds the wait"
    (warning,) = [e for e in read_events(run.events) if e.event == "preflight"]
    assert warning.get("findings")[0]["check"] == "stragglers"
    started = Event(warning.t, "attempt_started", 1)
    (attempt,) = parse_attempts([started, *read_events(run.events)])
    assert attempt.slow_hosts == (socket.gethostname(),)
