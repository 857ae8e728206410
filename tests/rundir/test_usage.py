"""What a run has used, by its events: hours, waits, losses, energy, in a period."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from sedd.rundir.energy_meter import write_rank
from sedd.rundir.events import Event, append_event
from sedd.rundir.layout import RunDir
from sedd.rundir.read_usage import (
    attempt_uses,
    read_energies,
    read_job_ends,
    read_usage,
    signs_of_use,
    waits_of,
)
from sedd.rundir.usage import Energy, RunUse, Usage, usage_words

START = dt.datetime(2026, 11, 1, 8, tzinfo=dt.UTC)
HOUR = 3600.0


def at(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def story(*told: tuple[float, str, int] | tuple[float, str, int, dict[str, Any]]) -> list[Event]:
    """(hours, event, attempt, fields)."""
    return [Event(at(t[0]), t[1], t[2], t[3] if len(t) > 3 else {}) for t in told]


def used(events: list[Event], *, gpus: int = 4, **more: Any) -> Usage:
    return RunUse(attempts=attempt_uses(events, gpus=gpus, **more), waits=waits_of(events)).within()


PREEMPTED = story(
    (0.0, "submitted", 0),
    (2.0, "attempt_started", 1),
    (4.0, "checkpoint", 1, {"step": 400}),
    (4.5, "checkpoint", 1, {"step": 500}),
    (4.5, "requeued", 1, {"cause": "preempted"}),
    (5.5, "attempt_started", 2),
    (5.6, "resumed", 2, {"step": 500}),
    (7.0, "checkpoint", 2, {"step": 800}),
    (8.0, "failed", 2, {"cause": "killed"}),
    (8.0, "requeued", 2, {"cause": "killed"}),
    (9.0, "attempt_started", 3),
    (9.2, "resumed", 3, {"step": 800}),
    (10.0, "checkpoint", 3, {"step": 1000}),
    (10.0, "completed", 3),
)


def test_hours_of_running_waiting_and_losing() -> None:
    total = used(PREEMPTED)
    assert total.run_s == pytest.approx(HOUR * (2.5 + 2.5 + 1.0))
    assert total.gpu_hours == pytest.approx(24.0)
    assert total.queued_s == pytest.approx(HOUR * (2.0 + 1.0 + 1.0))
    assert total.restart_s == pytest.approx(HOUR * (0.1 + 0.2))
    assert total.repeat_s == pytest.approx(HOUR * 1.0)
    assert total.lost_gpu_s == pytest.approx(4 * HOUR * 1.3)
    assert total.lost_to == pytest.approx({"preempted": 4 * HOUR * 0.1, "killed": 4 * HOUR * 1.2})


@pytest.mark.parametrize(
    "before",
    [
        (("gave_up", 1, {"cause": "interrupted"}),),
        (("requeued", 1, {"cause": "preempted"}),),
        (("gave_up", 1, {"cause": "crashed"}), ("submitted", 1, {})),
        (),
    ],
)
def test_before_an_attempt_in_the_foreground_nothing_was_queued(before: tuple[Any, ...]) -> None:
    """It was interrupted, its job is gone, or it was killed; then it rested until its user continued it."""
    events = story(
        (0.0, "submitted", 0),
        (0.0, "attempt_started", 1),
        (2.0, "checkpoint", 1, {"step": 400}),
        *((2.0, *told) for told in before),
        (9.0, "attempt_started", 2, {"executor": "foreground"}),
        (9.0, "resumed", 2, {"step": 400}),
        (10.0, "completed", 2),
    )
    total = used(events)
    assert (total.queued_s, total.run_s) == pytest.approx((0.0, HOUR * 3.0))


def test_a_period_takes_its_part_of_everything() -> None:
    use = RunUse(attempts=attempt_uses(PREEMPTED, gpus=4), waits=waits_of(PREEMPTED))
    early, late = use.within(until=at(7.5)), use.within(since=at(7.5))
    whole = use.within()
    assert early.run_s == pytest.approx(HOUR * (2.5 + 2.0))
    for name in ("run_s", "gpu_s", "queued_s", "restart_s", "repeat_s", "lost_gpu_s"):
        assert getattr(early + late, name) == pytest.approx(getattr(whole, name))
    assert (early + late).lost_to == pytest.approx(whole.lost_to)


def test_a_damaged_checkpoint_costs_what_was_saved_in_it() -> None:
    """The next attempt starts from an older one: all since is repeated."""
    events = story(
        (0.0, "submitted", 0),
        (0.0, "attempt_started", 1),
        (1.0, "checkpoint", 1, {"step": 100}),
        (2.0, "checkpoint", 1, {"step": 200}),
        (2.0, "requeued", 1, {"cause": "preempted"}),
        (2.0, "attempt_started", 2),
        (2.0, "failed", 2, {"cause": "node_fault"}),  # it never came to train, and tells nothing of the first
        (2.0, "requeued", 2, {"cause": "node_fault"}),
        (3.0, "attempt_started", 3),
        (3.0, "resumed", 3, {"step": 100, "repeats": 100}),
        (4.0, "checkpoint", 3, {"step": 300}),
        (4.0, "completed", 3),
    )
    assert used(events).repeat_s == pytest.approx(HOUR)


def test_a_killed_first_attempt_that_saved_nothing_is_lost_whole() -> None:
    events = story(
        (0.0, "submitted", 0),
        (0.0, "attempt_started", 1),
        (3.0, "attempt_started", 2, {"last_beat": at(2.0).isoformat()}),
        (3.0, "resumed", 2, {"step": 0, "repeats": 70}),
        (4.0, "completed", 2),
    )
    total = used(events)
    assert total.run_s == pytest.approx(HOUR * 3.0)
    assert (total.repeat_s, total.queued_s) == pytest.approx((HOUR * 2.0, 0.0))
    assert total.lost_to == pytest.approx({"killed": 4 * HOUR * 2.0})


def test_an_attempt_without_a_last_word_lasts_until_its_heartbeat_and_loses_nothing_yet() -> None:
    events = story((0.0, "submitted", 0), (1.0, "attempt_started", 1))
    total = used(events, sign=(1, at(3.0)))
    assert (total.run_s, total.repeat_s) == (HOUR * 2.0, 0.0)


def test_the_jobs_own_start_counts_where_slurm_tells_it() -> None:
    events = story(
        (0.0, "submitted", 0),
        (1.0, "attempt_started", 1, {"job_started": str(int(at(0.75).timestamp()))}),
        (2.0, "completed", 1),
    )
    total = used(events)
    assert (total.run_s, total.queued_s) == pytest.approx((HOUR * 1.25, HOUR * 0.75))


def test_the_start_of_a_job_around_a_local_run_is_not_its_own(tmp_path: Path) -> None:
    environment = {"SEDD_JOB_START": "1795960803"}
    run = RunDir(tmp_path)
    assert signs_of_use(run, environment, executor="local") == {}
    assert signs_of_use(run, environment, executor="slurm") == {"job_started": "1795960803"}
    assert signs_of_use(run, environment | {"SLURM_JOB_START_TIME": "7"}, executor="slurm") == {
        "job_started": "7"
    }


def test_a_job_ends_with_its_batch_script_unless_slurm_took_it_away(tmp_path: Path) -> None:
    lines = [{"attempt": n, "t": at(t).isoformat()} for n, t in ((1, 1.5), (2, 3.5))]
    (tmp_path / "ends").write_text("\n".join(map(json.dumps, lines)))
    events = story(
        (0.0, "attempt_started", 1),
        (1.0, "requeued", 1, {"cause": "preempted"}),
        (2.0, "attempt_started", 2),
        (3.0, "completed", 2),
    )
    uses = attempt_uses(events, gpus=1, job_ends=read_job_ends(tmp_path / "ends"))
    assert [use.end for use in uses] == [at(1.0), at(3.5)]
    assert uses[1].kept_until == uses[1].end


def test_what_a_run_waits_for_other_runs_is_not_the_queue() -> None:
    (wait,) = waits_of(story((0.0, "submitted", 0), (5.0, "attempt_started", 1)), ready=at(4.0))
    assert wait == (at(4.0), at(5.0))


@pytest.mark.parametrize(
    ("field", "end"),
    [("after", "completed"), ("after_any", "gave_up"), ("after_any", "cancelled"), ("on_failure", "gave_up")],
)
def test_however_runs_are_waited_for_it_is_not_the_queue_and_what_becomes_of_them_later_changes_nothing(
    tmp_path: Path, field: str, end: str
) -> None:
    first, run = (RunDir(tmp_path / "runs" / name / "one") for name in ("first", "second"))
    for each in (first, run):
        each.path.mkdir(parents=True)
    run.manifest.write_text(json.dumps({"spec_hash": "0", field: [str(first.path)]}))
    for told, written in (
        (first, story((0.0, "submitted", 0), (1.0, "attempt_started", 1), (9.0, end, 1))),
        (run, story((0.0, "submitted", 0), (10.0, "attempt_started", 1), (11.0, "completed", 1))),
    ):
        for event in written:
            append_event(told.events, event.event, attempt=event.attempt, now=event.t)
    assert read_usage(run).within().queued_s == HOUR * 1.0
    append_event(first.events, "extended", attempt=1, now=at(20.0))
    append_event(first.events, "completed", attempt=2, now=at(30.0))
    assert read_usage(run).within().queued_s == HOUR * 1.0


def test_a_run_revived_by_its_user_did_not_wait_in_the_queue_meanwhile() -> None:
    events = story(
        (0.0, "submitted", 0),
        (1.0, "attempt_started", 1),
        (2.0, "gave_up", 1, {"cause": "crashed"}),
        (50.0, "submitted", 1),
        (51.0, "attempt_started", 2),
        (52.0, "completed", 2),
    )
    assert used(events).queued_s == pytest.approx(HOUR * 2.0)


COMPLETED = (
    (0.0, "submitted", 0),
    (1.0, "attempt_started", 1),
    (2.0, "checkpoint", 1, {"step": 100}),
    (2.0, "completed", 1),
    (9.0, "extended", 1, {"steps": 200}),
    (9.0, "submitted", 1),
    (10.0, "attempt_started", 2),
)


def test_the_start_of_an_extension_is_no_loss_and_what_interrupts_it_is_one() -> None:
    resumed, done = (10.5, "resumed", 2, {"step": 100}), (12.0, "completed", 2)
    total = used(story(*COMPLETED, resumed, done))
    assert (total.run_s, total.restart_s, total.lost_gpu_s) == pytest.approx((HOUR * 3.0, 0.0, 0.0))
    assert (total.queued_s, total.lost_to) == (pytest.approx(HOUR * 2.0), {})
    killed = (
        *((11.0, "checkpoint", 2, {"step": 150}), (11.0, "requeued", 2, {"cause": "preempted"})),
        *((11.0, "attempt_started", 3), (11.25, "resumed", 3, {"step": 150}), (12.0, "completed", 3)),
    )
    assert used(story(*COMPLETED, resumed, *killed)).lost_to == pytest.approx({"preempted": 4 * HOUR * 0.25})


def test_an_extension_that_was_ended_before_it_saved_is_lost_to_what_ended_it() -> None:
    events = story(
        *COMPLETED,
        (11.0, "failed", 2, {"cause": "node_fault"}),
        (11.0, "requeued", 2, {"cause": "node_fault"}),
        (11.0, "attempt_started", 3),
        (11.5, "resumed", 3, {"step": 100}),
        (12.0, "completed", 3),
    )
    assert used(events).lost_to == pytest.approx({"node_fault": 4 * HOUR * 1.5})


def test_gpus_are_those_of_each_attempt() -> None:
    events = story(
        (0.0, "submitted", 0),
        (0.0, "attempt_started", 1, {"gpus": 8}),
        (1.0, "requeued", 1, {"cause": "moved"}),
        (1.0, "attempt_started", 2),
        (2.0, "completed", 2),
    )
    assert used(events).gpu_hours == pytest.approx(12.0)


def test_energy_is_summed_over_ranks_and_priced(tmp_path: Path) -> None:
    for rank, joules, hours in ((0, 3.6e6, 2), (1, 1.8e6, 1)):
        energy = Energy(joules=joules, gpu_s=hours * HOUR, source="counter")
        write_rank(tmp_path / f"rank-{rank}.json", {1: energy})
    energies = read_energies(tmp_path)
    assert energies == {1: Energy(joules=5.4e6, gpu_s=10800, source="counter")}
    events = story((0.0, "submitted", 0), (0.0, "attempt_started", 1), (2.0, "completed", 1))
    use = RunUse(attempts=attempt_uses(events, gpus=2, energies=energies), waits=(), grams_per_kwh=50.0)
    assert use.within().kwh == pytest.approx(1.5)
    assert use.within().co2_kg == pytest.approx(0.075)
    assert usage_words(use.within()) == "4.00 GPU-hours, 1.50 kWh (counter, of 75%), 0.07 kg CO₂"
    assert use.within(until=at(0.5)).kwh == pytest.approx(1.5 / 4)
    assert Usage().kwh is None
    assert Usage().co2_kg is None


def test_a_missing_energy_is_not_zero(tmp_path: Path) -> None:
    assert read_energies(tmp_path / "absent") == {}
    assert used(PREEMPTED).kwh is None


def test_hours_are_written_alike_and_a_little_is_not_nothing() -> None:
    usage = Usage(run_s=20.0, queued_s=108.0, restart_s=36.0)
    words = "less than 0.01 hours; 0.03 hours queued; 0.01 hours lost to restarts and repeats"
    assert usage_words(usage) == words
    assert usage_words(Usage(run_s=20.0)) == "less than 0.01 hours"
