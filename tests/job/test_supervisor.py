"""Local runs, for real: submitit's controller, the job entry, and a training process that behaves as told."""

import datetime as dt
import itertools
import os
import signal
import time
from pathlib import Path

import pytest

from sedd.amend.reshape import Shape, reshape
from sedd.cluster.local import LocalJob, signal_local
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import Role, ask_to_stop, find_members, wait_until
from sedd.launch.submit_local import submit_local
from sedd.rundir.attempts import Cause, parse_attempts
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir
from tests.launch.conftest import (
    LocalRuns,
    change_code,
    is_alive,
    logs_of,
    small_experiment,
    story,
    wait_for_end,
    wait_for_event,
    wait_for_steps,
)


def hurt(run: RunDir, role: Role, number: int) -> None:
    members = [m for m in find_members(run) if m.role is role]
    assert members, f"no {role} in {find_members(run)}\n{logs_of(run)}"
    assert signal_local(members[0].process, number)


def test_a_run_completes_in_one_attempt_and_leaves_no_process(local: LocalRuns) -> None:
    run = local.start_one()
    assert wait_for_end(run).get("step") == 40
    assert story(run) == ["submitted", "attempt_started", "completed"]
    assert "=== attempt 1" in logs_of(run)


def test_sigterm_to_the_training_saves_and_goes_on_to_the_end(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 5)
    hurt(run, Role.TRAINING, signal.SIGTERM)
    wait_for_end(run)
    assert story(run) == [
        "submitted",
        "attempt_started",
        "stop_requested",
        "requeued:preempted",
        "attempt_started",
        "resumed",
        "completed",
    ]


def test_a_signal_to_the_job_entry_reaches_the_training(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 5)
    hurt(run, Role.ENTRY, signal.SIGUSR2)
    wait_for_end(run)
    assert story(run).count("requeued:preempted") == 1
    assert story(run)[-1] == "completed"


def test_a_killed_training_counts_as_killed_and_starts_again(local: LocalRuns) -> None:
    run = local.start_one(plan="kill@5 train")
    wait_for_end(run)
    assert [a.cause for a in parse_attempts(read_events(run.events))] == [Cause.KILLED, Cause.COMPLETED]
    failure = next(e for e in read_events(run.events) if e.event == "failed")
    assert "SIGKILL" in failure.get("error")


def test_a_second_crash_gives_up_with_the_error_in_the_events(local: LocalRuns) -> None:
    run = local.start_one(plan="crash@5 crash@9")
    word = wait_for_end(run)
    assert (word.event, word.get("cause"), word.get("step")) == ("gave_up", "crashed", 9)
    assert story(run).count("requeued:crashed") == 1
    assert parse_attempts(read_events(run.events))[-1].error == "ValueError: on purpose"


def test_node_faults_have_their_own_budget(local: LocalRuns) -> None:
    run = local.start_one(small_experiment(retry={"node_faults": 1, "crashes": 0}), plan="fault@5 fault@9")
    assert wait_for_end(run).get("cause") == "node_fault"
    assert story(run).count("requeued:node_fault") == 1


def test_a_killed_job_entry_takes_the_training_down_gracefully(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 5)
    hurt(run, Role.ENTRY, signal.SIGKILL)
    wait_for_event(run, "checkpoint")
    assert wait_until(lambda: not find_members(run), timeout_s=60), find_members(run)
    assert read_events(run.events)[-1].get("reason") == "stop"


def test_a_run_outlives_submitits_controller(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 3)
    hurt(run, Role.CONTROLLER, signal.SIGKILL)
    assert wait_for_end(run).event == "completed"


def test_children_that_a_killed_training_left_behind_are_ended(local: LocalRuns) -> None:
    run = local.start_one(plan="litter@3 train")
    wait_for_end(run)
    assert not is_alive(int((run.path / "litter.txt").read_text()))


def test_a_run_past_its_walltime_saves_and_starts_again(local: LocalRuns) -> None:
    experiment = small_experiment(resources={"gpus_per_node": 0, "walltime": "1s", "memory": "1GiB"})
    run = local.start_one(experiment)
    wait_for_end(run)
    assert "requeued:time_limit" in story(run)
    assert story(run)[-1] == "completed"


def test_a_run_that_was_suspended_for_a_while_keeps_its_walltime(local: LocalRuns) -> None:
    """SIGCONT asks for nothing; the limit still counts."""
    experiment = small_experiment(resources={"gpus_per_node": 0, "walltime": "3s", "memory": "1GiB"})
    run = local.start_one(experiment, plan="endless train")
    wait_for_steps(run, 1)
    hurt(run, Role.ENTRY, signal.SIGCONT)
    wait_for_event(run, "requeued", timeout_s=120)
    assert "requeued:time_limit" in story(run)


def test_a_cancellation_is_seen_in_the_run_folder_alone(local: LocalRuns) -> None:
    """A cancel on another machine of the shared file system can send no signal."""
    run = local.start_one(plan="long")
    wait_for_steps(run, 2)
    said = read_events(run.events)
    append_event(run.events, "cancelled", attempt=1, now=said[-1].t, by="me")
    assert wait_until(lambda: not find_members(run), timeout_s=120)
    assert story(run) == ["submitted", "attempt_started", "cancelled", "stop_requested"]


def test_a_training_that_hangs_after_its_save_does_not_keep_the_next_attempt_waiting(
    local: LocalRuns,
) -> None:
    run = local.start_one(plan="stuck train")
    wait_for_steps(run, 3)
    assert ask_to_stop(run, Role.ENTRY)
    wait_for_end(run, timeout_s=180)
    requeued = next(e for e in read_events(run.events) if e.event == "requeued")
    assert requeued.get("cause") == "preempted"
    assert "killed" in requeued.get("detail")
    assert story(run)[-1] == "completed"
    assert next(e for e in read_events(run.events) if e.event == "resumed").get("step") > 0


def test_a_training_that_has_saved_its_last_step_and_does_not_exit_completes(local: LocalRuns) -> None:
    (run,) = local.make(small_experiment(), plan="lingers")
    change_code(run, "job/watch.py", "FINISHED_PATIENCE_S = 300.0", "FINISHED_PATIENCE_S = 1.0")
    submit_local([run])
    assert wait_for_end(run, timeout_s=120).get("step") == 40
    assert story(run) == ["submitted", "attempt_started", "completed"]
    assert wait_until(lambda: not find_members(run), timeout_s=60)


def test_a_run_folder_that_goes_away_ends_the_training_and_is_not_made_anew(local: LocalRuns) -> None:
    run = local.start_one(plan="endless")
    wait_for_steps(run, 3)
    moved = run.path.with_name("moved")
    run.path.rename(moved)
    assert wait_until(lambda: not find_members(run), timeout_s=180)
    assert not run.path.exists()
    output = "".join(path.read_text() for path in (moved / "submitit").glob("*_log.out"))
    assert f"the run folder {run.path} is gone" in output


def test_a_run_folder_that_is_back_soon_costs_an_attempt(local: LocalRuns) -> None:
    run = local.start_one(plan="endless train")
    wait_for_steps(run, 3)
    moved = run.path.with_name("moved")
    run.path.rename(moved)
    assert wait_until(lambda: not any(m.role is Role.TRAINING for m in find_members(run)), timeout_s=180)
    time.sleep(1)  # its entry looks ten times a second
    moved.rename(run.path)
    wait_for_end(run, timeout_s=180)
    assert story(run)[-1] == "completed"
    failed = next(e for e in read_events(run.events) if e.event == "failed")
    assert "the run folder was away" in failed.get("error")


def test_when_one_rank_is_killed_all_ranks_start_again(local: LocalRuns) -> None:
    two = {"gpus_per_node": 0, "processes_per_node": 2, "cpus_per_process": 1, "memory": "1GiB"}
    run = local.start_one(small_experiment(resources=two), plan="crash1@5 train")
    wait_for_end(run, timeout_s=180)
    failure = next(e for e in read_events(run.events) if e.event == "failed")
    assert (failure.get("cause"), failure.get("rank")) == ("killed", 1)
    assert story(run)[-1] == "completed"
    assert {p.name.rpartition("_")[2] for p in run.logs.iterdir()} == {"0.out", "1.out"}
    assert "rank 1 of 2" in logs_of(run)


def test_a_training_that_stands_still_is_ended_as_hung_with_its_stacks_and_starts_again(
    local: LocalRuns,
) -> None:
    two = {"gpus_per_node": 0, "processes_per_node": 2, "cpus_per_process": 1, "memory": "1GiB"}
    run = local.start_one(
        small_experiment(resources=two, retry={"hang_after": "2s", "crashes": 0}), plan="halt@5 train"
    )
    wait_for_end(run, timeout_s=180)
    assert story(run) == [
        "submitted",
        "attempt_started",
        "failed:hung",
        "requeued:hung",
        "attempt_started",
        "resumed",
        "completed",
    ]
    for rank in (0, 1):  # rank 1 was stopped by SIGSTOP
        (log,) = run.logs.glob(f"*_{rank}.out")
        assert "in misbehave" in log.read_text(), "the stack says where it stood"


def test_a_rank_that_hangs_while_rank_0_waits_for_a_disk_is_seen(local: LocalRuns) -> None:
    two = {"gpus_per_node": 0, "processes_per_node": 2, "cpus_per_process": 1, "memory": "1GiB"}
    run = local.start_one(small_experiment(resources=two, retry={"hang_after": "2s"}), plan="disk@5 train")
    wait_for_end(run, timeout_s=180)
    failures = [(e.get("cause"), e.get("rank")) for e in read_events(run.events) if e.event == "failed"]
    assert failures == [("hung", 1)]
    assert story(run)[-1] == "completed"


def test_a_training_that_hangs_and_is_asked_to_stop_is_not_waited_for(local: LocalRuns) -> None:
    run = local.start_one(small_experiment(retry={"hang_after": "2s"}), plan="halt@5 train")
    wait_for_steps(run, 5)
    assert ask_to_stop(run, Role.ENTRY)
    wait_for_end(run, timeout_s=180)
    assert story(run)[2:4] == ["failed:hung", "requeued:preempted"], "for what it was asked to stop"
    assert story(run)[-1] == "completed"


def test_hang_after_null_switches_the_watchdog_off(local: LocalRuns) -> None:
    run = local.start_one(small_experiment(retry={"hang_after": None}), plan="halt@5")
    wait_for_steps(run, 5)
    time.sleep(3)
    assert story(run) == ["submitted", "attempt_started"]


def test_two_jobs_of_one_run_never_train_at_once(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 2)
    submit_local([run])
    wait_for_event(run, "completed")
    assert wait_until(lambda: not find_members(run), timeout_s=120)
    told = [e for e in read_events(run.events) if e.event in ("attempt_started", "completed")]
    assert [e.event for e in told[:2]] == ["attempt_started", "completed"], story(run)


def test_a_changed_copy_of_the_code_is_not_run(local: LocalRuns) -> None:
    run = local.make(small_experiment())[0]
    with (run.code / "sedd" / "units.py").open("a") as source:
        source.write("\n# edited after submission\n")
    submit_local([run])
    assert wait_for_end(run).event == "gave_up"
    assert "changed after submission" in next(
        e.get("error") for e in read_events(run.events) if e.event == "failed"
    )
    assert not list(run.logs.iterdir()), "no training process may have started"


def test_points_of_a_local_sweep_take_turns(local: LocalRuns) -> None:
    runs = local.start(*(small_experiment(seed=n) for n in range(2)), parallel=1)
    for run in runs:
        wait_for_end(run, timeout_s=180)
    spans = sorted(
        (events["attempt_started"], events["completed"])
        for run in runs
        for events in [{e.event: e.t for e in read_events(run.events)}]
    )
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert len({run.code.resolve() for run in runs}) == 1


def cards_of(run: RunDir) -> set[str]:
    """What CUDA_VISIBLE_DEVICES says in the run's training processes."""
    found = set()
    for member in find_members(run):
        if member.role is Role.TRAINING:
            said = Path(f"/proc/{member.process.pid}/environ").read_bytes().split(b"\0")
            found |= {text.decode() for text in said if text.startswith(b"CUDA_VISIBLE_DEVICES=")}
    return {text.partition("=")[2] for text in found}


def test_points_of_a_local_sweep_that_train_side_by_side_have_cards_of_their_own(
    local: LocalRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many at a time as there are groups of cards, though `parallel` lets three."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-1f,7,9,2")
    asked = {"gpus_per_node": 2, "cpus_per_process": 1, "memory": "2GiB", "walltime": "1h"}
    points = [small_experiment(seed=n, resources=asked) for n in range(3)]
    runs = local.start(*points, plan="endless", parallel=3)

    def trains() -> list[RunDir]:
        return [run for run in runs if cards_of(run)]

    assert wait_until(lambda: len(trains()) == 2, timeout_s=120), [logs_of(run) for run in runs]
    assert sorted(map(cards_of, trains()), key=str) == [{"4,GPU-1f"}, {"7,9"}]
    ended = next(run for run in trains() if cards_of(run) == {"7,9"})
    (waits,) = (run for run in runs if not cards_of(run))
    cancel([ended], now=dt.datetime.now(dt.UTC))
    assert wait_until(lambda: cards_of(waits) == {"7,9"}, timeout_s=120), logs_of(waits)


def test_a_turn_ends_with_the_last_process_of_a_run_not_with_its_job_entry(local: LocalRuns) -> None:
    """An entry that is killed leaves a training that saves, on the cards of its slot."""
    runs = local.start(*(small_experiment(seed=n) for n in range(2)), plan="stuck", parallel=1)

    def trainings(run: RunDir) -> list[LocalJob]:
        return [m.process for m in find_members(run) if m.role is Role.TRAINING]

    def has_saved(run: RunDir) -> bool:
        return any(e.event == "checkpoint" for e in read_events(run.events))

    assert wait_until(lambda: any(map(trainings, runs)), timeout_s=120), [logs_of(run) for run in runs]
    first, second = sorted(runs, key=lambda run: not trainings(run))
    wait_for_steps(first, 1)
    (entry,) = (m.process for m in find_members(first) if m.role is Role.ENTRY)
    signal_local(entry, signal.SIGKILL)
    assert wait_until(lambda: has_saved(first), timeout_s=120), logs_of(first)
    assert not wait_until(lambda: bool(trainings(second)), timeout_s=3.0), "two train in one slot"
    (saving,) = trainings(first)
    signal_local(saving, signal.SIGKILL)
    assert wait_until(lambda: bool(trainings(second)), timeout_s=120), logs_of(second)


def test_a_point_that_has_more_cards_now_waits_for_those_of_its_neighbours(
    local: LocalRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    asked = {"gpus_per_node": 1, "cpus_per_process": 1, "memory": "2GiB", "walltime": "1h"}
    runs = local.start(
        *(small_experiment(seed=n, resources=asked) for n in range(2)), plan="endless", parallel=2
    )
    assert wait_until(lambda: all(map(cards_of, runs)), timeout_s=120), [logs_of(run) for run in runs]
    wide, neighbour = sorted(runs, key=lambda run: cards_of(run) != {"4"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # of another shell: the sweep's cards count
    reshape(wide, Shape(gpus=2), check=lambda _: None, now=dt.datetime.now(dt.UTC))
    assert not wait_until(lambda: bool(cards_of(wide)), timeout_s=3.0), "it trains on its neighbour's card"
    cancel([neighbour], now=dt.datetime.now(dt.UTC))
    assert wait_until(lambda: cards_of(wide) == {"4,7"}, timeout_s=120), logs_of(wide)


def test_a_job_lives_in_a_session_of_its_own_and_holds_no_terminal(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 1)
    for member in find_members(run):
        assert os.getsid(member.process.pid) != os.getsid(0)
        descriptors = [os.readlink(f"/proc/{member.process.pid}/fd/{n}") for n in (0, 1, 2)]
        assert descriptors[0] == os.devnull
        assert all(Path(target).is_relative_to(run.path) for target in descriptors[1:]), descriptors
    wait_for_end(run)


def test_an_attempt_that_was_replaced_ends_at_once_and_says_nothing_more(local: LocalRuns) -> None:
    """What a lost node's job finds when its slurmd is back: SLURM has started another attempt meanwhile."""
    run = local.start_one(plan="endless")
    wait_for_steps(run, 10)
    append_event(run.events, "attempt_started", attempt=2, now=dt.datetime.now(dt.UTC), job_id="another")
    assert wait_until(lambda: not find_members(run), timeout_s=120), find_members(run)
    assert story(run) == ["submitted", "attempt_started", "attempt_started"]
