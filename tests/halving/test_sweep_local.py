"""A halving sweep without SLURM whose processes are killed: the same points go on, the winner has the same bits."""

import contextlib
import datetime as dt
import os
import random
import signal
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from sedd.errors import SeddError
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import find_members
from sedd.launch.make_runs import Order, make_runs
from sedd.launch.requeue import requeue
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.attempts import is_paused
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.load import load_request
from tests.halving.test_rule import by_definition
from tests.halving.tiny_sweep import LOCAL, fates, is_over, submitted, trained_steps, write_spec
from tests.launch.conftest import logs_of, story
from tests.tiny import train_process

KILLS = 8


def hurt_until_over(runs: Sequence[RunDir], draw: random.Random, *, kills: int, timeout_s: float) -> int:
    """SIGKILL trainings and job entries, with pauses; requeue what is dead, as a user would; returns the kills."""
    done, deadline = 0, time.monotonic() + timeout_s
    while not all(map(is_over, runs)):
        assert time.monotonic() < deadline, "\n".join(
            f"{story(r)}\n{logs_of(r)}" for r in runs if not is_over(r)
        )
        members = [m for run in runs for m in find_members(run)]
        if done < kills and members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(members).process.pid, signal.SIGKILL)
                done += 1
        wake_sweeps_of(runs)  # as `sedd status` does
        for run in runs:
            dead = not is_over(run) and not is_paused(read_events(run.events)) and not find_members(run)
            if dead:
                with contextlib.suppress(SeddError):  # it moved meanwhile
                    requeue([run], now=dt.datetime.now(dt.UTC))
        time.sleep(draw.uniform(0.3, 2.5))
    return done


def bounds_at(run: RunDir, rung: int) -> float | None:
    found = [e.get("validation_bound") for e in read_events(run.events) if e.event == "rung"]
    steps = [e.get("step") for e in read_events(run.events) if e.event == "rung"]
    return float(found[steps.index(rung)]) if rung in steps else None


@pytest.mark.timeout(600)
def test_killed_points_end_as_in_synchronous_halving_and_the_winner_as_one_that_never_paused(
    tmp_path: Path,
) -> None:
    points = "grid: {training.learning_rate: [1.0e-6, 1.0e-2, 1.0e-4, 3.0e-3, 1.0e-5, 1.0e-3]}"
    spec = write_spec(tmp_path, points=points, keep="1/2")
    runs = submitted(spec)
    try:
        assert hurt_until_over(runs, random.Random(3), kills=KILLS, timeout_s=350) == KILLS
    finally:
        cancel(runs, now=dt.datetime.now(dt.UTC))
    assert_as_never_killed(spec, runs, rungs=(4, 8), steps=12, share=Fraction(1, 2))


def assert_as_never_killed(
    spec: Path, runs: Sequence[RunDir], *, rungs: tuple[int, int], steps: int, share: Fraction
) -> None:
    """Those passed each rung that the rule says, none trained a step too many, and a winner has the bits of one run."""
    ordered = sorted(runs, key=lambda run: read_manifest(run)["halving"]["index"])
    # A point that was stopped has no value at later rungs: there it would have been behind those that went on.
    metric = [[bounds_at(run, rungs[0]) or 0.0, bounds_at(run, rungs[1]) or 1e9] for run in ordered]
    passed = by_definition(metric, share)
    assert [len(f[0]) for f in fates(runs)] == passed
    assert [f[1] for f in fates(runs)] == ["completed" if p == 2 else "stopped" for p in passed]
    assert trained_steps(runs) == sum((*rungs, steps)[p] for p in passed)
    assert all(story(run).count("promoted") == p for run, p in zip(ordered, passed, strict=True))
    winner = ordered[passed.index(2)]
    request = load_request(spec)
    (alone,) = make_runs(
        Order(
            request=type(request)(
                experiments=(request.experiments[passed.index(2)],), points=({},), parallel=None
            ),
            profile=LOCAL,
            runs=spec.parent / "alone",
            parameters=[None],
        ),
        now=dt.datetime.now(dt.UTC),
        made=[],
    ).runs
    assert train_process(alone) == 0
    assert winner.metrics.read_bytes() == alone.metrics.read_bytes()
    assert winner.validations.read_bytes() == alone.validations.read_bytes()
    assert weights_of(winner) == weights_of(alone)


def weights_of(run: RunDir) -> dict[str, bytes]:
    from sedd.training.checkpoint_file import newest_whole, read_checkpoint

    newest = newest_whole(run.checkpoints, notify=print)
    assert newest is not None
    saved = read_checkpoint(newest)
    return {name: tensor.numpy().tobytes() for name, tensor in saved["model"].items()}
