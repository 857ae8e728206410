"""One run in full."""

import dataclasses
import datetime as dt
import io
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from sedd.monitor.decide.inspection import Inspection, inspect, next_commands
from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.monitor.show.detail import detail_view


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch, farm: Any) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("SEDD_RUNS", str(farm.root))
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def look(zoo: Snapshot, name: str, squeue: str = "") -> Inspection:
    run = next(view.run for view in zoo.runs if view.name == name)
    gatherer = Gatherer(queue=Queue(squeue=lambda users: squeue))
    return inspect(gatherer.gather([run], now=zoo.taken).runs[0], now=zoo.taken)


def render(seen: Inspection, *, width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False)
    console.print(detail_view(seen, width=width), soft_wrap=True)
    root = str(seen.view.run.path.parent.parent)
    return stream.getvalue().replace(root, "RUNS")


def write_curve(seen: Inspection) -> None:
    with open(seen.view.run.metrics, "w") as file:
        for k in range(1, 407):
            loss = 2.4 + 0.6 * math.exp(-k / 60) + 0.02 * math.sin(1.7 * k)
            row = {"step": 100 * k, "loss": loss, "learning_rate": 3e-4 * min(1, k / 50)}
            file.write(json.dumps(row | ({"validation_bound": loss + 0.01} if k % 50 == 0 else {})) + "\n")


@pytest.mark.parametrize("width", [80, 160])
def test_a_running_run(
    zoo: Snapshot, width: int, squeue_line: Callable[..., str], golden: Callable[[str, str], None]
) -> None:
    write_curve(look(zoo, "uniref50_small"))
    text = render(look(zoo, "uniref50_small", squeue_line("100")), width=width)
    golden(f"detail_{width}.txt", text)
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_a_run_that_gave_up_shows_error_and_log_first(
    zoo: Snapshot, golden: Callable[[str, str], None]
) -> None:
    run = look(zoo, "gave_up").view.run
    lines = [f"line {i}" for i in range(50)]
    (run.logs / "107_0.out").write_text(
        "\n".join([*lines, "RuntimeError: CUDA error: no kernel image"]) + "\n"
    )
    text = render(look(zoo, "gave_up"), width=80)
    golden("detail_gave_up.txt", text)
    assert text.index("107_0.out") < text.index("progress")


def test_without_a_log_the_error_event_is_shown(zoo: Snapshot) -> None:
    assert "\nRuntimeError: CUDA error" in render(look(zoo, "gave_up"), width=80)


def test_every_run_can_be_looked_at(zoo: Snapshot) -> None:
    for view in zoo.runs:
        assert view.id in render(look(zoo, view.name), width=80)


def test_findings_that_were_not_ok_are_shown(farm: Any, zoo: Snapshot) -> None:
    finding = {"check": "free disk", "status": "warn", "saw": "9 GiB free", "hint": "needs 40 GiB"}
    run = (
        farm.run("w", executor="local")
        .submitted(ago_s=9)
        .event("preflight", side="login", ok=True, findings=[finding])
    )
    facts = Gatherer(alive=lambda h: True).gather([run.folder], now=zoo.taken).runs[0]
    assert "login preflight: free disk warn: 9 GiB free (needs 40 GiB)" in render(
        inspect(facts, now=zoo.taken), width=80
    )


def test_a_finding_of_both_sides_is_told_once(farm: Any, zoo: Snapshot) -> None:
    finding = {"check": "data_store", "status": "WARN", "saw": "few proteins for validation", "hint": "more"}
    run = farm.run("w", executor="local").submitted(ago_s=9)
    for side in ("login", "node"):
        run.event("preflight", side=side, ok=True, findings=[finding])
    facts = Gatherer(alive=lambda h: True).gather([run.folder], now=zoo.taken).runs[0]
    text = render(inspect(facts, now=zoo.taken), width=80)
    assert text.count("few proteins for validation") == 1
    assert "login and node preflight: data_store warn: few proteins" in text
    assert "node preflight passed (data_store)" in text


def test_timeline_counts_waiting_running_and_losses(zoo: Snapshot, squeue_line: Callable[..., str]) -> None:
    first, second = look(zoo, "uniref50_small", squeue_line("100")).timeline
    assert (first.queued_s, first.lasted_s, first.lost) == (3600, 3820, 0)
    assert (second.queued_s, second.lasted_s, second.cause) == (3380, 3600, None)
    (lost,) = look(zoo, "lost").timeline
    assert (lost.lasted_s, lost.lost, lost.cause) == (4000, 99, "killed")


def test_suggested_commands_exist(zoo: Snapshot) -> None:
    from sedd.cli.main import COMMANDS

    for view in zoo.runs:
        commands = next_commands(view, view.id)
        assert len(set(commands)) == 3
        for command in commands:
            if command == f"rm -r {view.run.path}":
                continue
            program, name, identity = re.split(r"\s+", command)[:3]
            assert (program, identity) == ("sedd", view.id)
            assert name in COMMANDS


def test_what_is_suggested_fits_the_state(zoo: Snapshot) -> None:
    by_state = {view.state: next_commands(view, view.id) for view in zoo.runs}
    assert "cancel" in by_state[State.RUNNING][2]
    assert "requeue" in by_state[State.GAVE_UP][1]
    assert all(any("rm -r" in c for c in three) == (s is State.UNSUBMITTED) for s, three in by_state.items())
    assert not any("cancel" in command for s, three in by_state.items() if s.is_final for command in three)


def test_another_users_run_is_shown_as_far_as_it_may_be_read(
    zoo: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = look(zoo, "gave_up")
    (seen.view.run.logs / "107_0.out").write_text("secret\n")

    def may_not(*arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("sedd.monitor.decide.inspection.read_curves", may_not)
    monkeypatch.setattr("sedd.monitor.decide.inspection.last_lines", may_not)
    text = render(look(zoo, "gave_up"), width=80)
    assert "no kernel image" in text
    assert "secret" not in text


def test_a_run_whose_events_may_not_be_read_is_shown_by_its_heartbeat(
    farm: Any, now: dt.datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = farm.run().submitted(ago_s=60).started(ago_s=50).beat(7)
    real = os.open

    def may_not(path: Any, *rest: Any) -> int:
        if str(path).endswith("events.jsonl"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", may_not)  # chmod does not stop root, who runs CI
    monkeypatch.setattr("sedd.monitor.decide.inspection.read_events", lambda path: ())
    (facts,) = Gatherer(queue=Queue(squeue=lambda users: "")).gather([run.folder], now=now).runs
    text = render(inspect(facts, now=now), width=80)
    assert text.splitlines()[0].endswith("running")
    assert "cannot read events.jsonl: Permission denied" in text


def test_a_slow_rank_is_shown_with_its_times(zoo: Snapshot) -> None:
    seen = look(zoo, "uniref50_small")
    rows = [
        {"rank": 0, "host": "v100-1", "step_s": 0.1, "data_s": 0.0, "host_s": 0.1, "device_s": None},
        {"rank": 1, "host": "v100-2", "step_s": 0.125, "data_s": 0.001, "host_s": 0.02, "device_s": 0.124},
    ]
    slow = {"rank": 1, "host": "v100-2", "over": 0.25, "since_step": 300}
    view = dataclasses.replace(seen.view, ranks=tuple(rows), slow=(slow,))
    text = render(dataclasses.replace(seen, view=view), width=100)
    assert "slow      rank 1 on v100-2: 25% over the median since step 300\n" in text
    assert "125.0 ms a step (data 1.0 ms, host 20.0 ms, GPU 124.0 ms), the fastest 100.0 ms" in text


def _saved_line(farm: Any, run: Any, now: dt.datetime, *, alive: bool) -> str:
    facts = Gatherer(alive=lambda history: alive).gather([run.folder], now=now).runs[0]
    lines = render(inspect(facts, now=now), width=200).splitlines()
    return next((line.removeprefix("saved     ") for line in lines if line.startswith("saved")), "")


def test_what_is_saved_and_what_a_kill_would_lose_is_right_in_each_state(farm: Any, zoo: Snapshot) -> None:
    now = zoo.taken
    run = farm.run("w", executor="local").submitted(ago_s=900)
    assert _saved_line(farm, run, now, alive=True) == "", "a run that waits has nothing to save"
    run.started(ago_s=600).event("ready", ago_s=590).beat(0, ago_s=590)
    assert _saved_line(farm, run, now, alive=True) == "nothing yet"
    run.beat(1, ago_s=300)
    found = _saved_line(farm, run, now, alive=True)
    assert re.fullmatch(r"nothing yet; a kill now would lose all 1 step, [45]m", found), found
    run.beat(120, ago_s=2)
    found = _saved_line(farm, run, now, alive=True)
    assert re.fullmatch(r"nothing yet; a kill now would lose all 120 steps, 9m", found), found
    assert _saved_line(farm, run, now, alive=False) in ("nothing", "nothing yet"), "it was killed"
    moment = (now - dt.timedelta(seconds=62)).isoformat()
    run.beat(120, ago_s=2, local_step=100, local_t=moment)
    found = _saved_line(farm, run, now, alive=True)
    assert re.fullmatch(
        r"nothing yet; on its node step 100, 1m ago; a kill of the training now would lose 20 steps, 1m; "
        r"the loss of its node or job all 120 steps, 9m",
        found,
    ), found
    run.event("checkpoint", ago_s=2, step=120, seconds=1, bytes=9).beat(120, ago_s=2)
    assert _saved_line(farm, run, now, alive=True) == "step 120, 2s ago; a kill now would lose nothing"
    run.beat(150, ago_s=1)
    assert _saved_line(farm, run, now, alive=True) == "step 120, 2s ago; a kill now would lose 30 steps, 1s"
    run.event("checkpoint", ago_s=0, step=150, seconds=1, bytes=9).event("completed", ago_s=0, step=150)
    assert _saved_line(farm, run, now, alive=False) == "step 150, 0s ago"


def test_a_run_that_failed_before_its_first_checkpoint_has_saved_nothing(farm: Any, zoo: Snapshot) -> None:
    run = farm.run("w", executor="local").submitted(ago_s=900).started(ago_s=600).beat(7, ago_s=9)
    run.event("gave_up", ago_s=5, cause="crashed", step=7, detail="RuntimeError: no")
    assert _saved_line(farm, run, zoo.taken, alive=False) == "nothing"


@pytest.mark.parametrize(
    ("saved", "words", "whole"), [(None, "nothing yet", "all "), (40000, "step 40000, 4m ago", "")]
)
def test_beside_a_copy_on_the_node_a_kill_and_the_loss_of_the_node_are_told_apart(
    zoo: Snapshot, saved: int | None, words: str, whole: str
) -> None:
    seen = look(zoo, "uniref50_small")
    copied = zoo.taken - dt.timedelta(seconds=4)
    view = dataclasses.replace(seen.view, checkpoint_step=saved, local_step=40590, local_t=copied)
    view = dataclasses.replace(view, at_risk_steps=600, at_risk_s=240.0, restart_steps=10, restart_s=4.0)
    text = render(dataclasses.replace(seen, view=view), width=180)
    (line,) = [line for line in text.splitlines() if line.startswith("saved")]
    assert line.endswith(
        f"{words}; on its node step 40590, 4s ago; a kill of the training now would lose 10 steps, 4s; "
        f"the loss of its node or job {whole}600 steps, 4m"
    )


@pytest.mark.parametrize("width", [40, 60, 80])
def test_long_numbers_are_folded_below_each_other(zoo: Snapshot, width: int) -> None:
    seen = look(zoo, "uniref50_small")
    copied = zoo.taken - dt.timedelta(seconds=4)
    view = dataclasses.replace(seen.view, checkpoint_step=40000, local_step=40590, local_t=copied)
    lines = render(dataclasses.replace(seen, view=view), width=width).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("saved"))
    end = next(n for n, line in enumerate(lines) if n > start and line[:1] != " ")
    assert end - start > 1
    assert all(len(line) <= width for line in lines[start:end])
    told = " ".join(line[10:] for line in lines[start:end])
    assert told.startswith(
        "step 40000, 4m ago; on its node step 40590, 4s ago; a kill of the training now would"
    )


def test_an_error_of_one_line_is_told_once(zoo: Snapshot) -> None:
    seen = look(zoo, "uniref50_small")
    error = "PermissionError: [Errno 13] Permission denied: '/data/p.store/offsets.npy'"
    view = dataclasses.replace(seen.view, state=State.GAVE_UP, why=error, error=error)
    for log_end, times in (((), 1), (("Traceback:", error), 2)):
        text = render(dataclasses.replace(seen, view=view, log_end=log_end), width=80)
        assert text.count(error) == times


def test_a_task_that_trains_nothing_is_told_in_its_own_unit(zoo: Snapshot) -> None:
    seen = look(zoo, "uniref50_small")
    view = dataclasses.replace(seen.view, unit="proteins")
    text = render(dataclasses.replace(seen, view=view), width=80)
    assert "into the work" in text
    assert not [word for word in ("training", "ETTR", "trained", "steps") if word in text], text


def test_what_wandb_has_recorded_without_a_network_has_its_command(zoo: Snapshot) -> None:
    view = next(view for view in zoo.runs if view.state is State.COMPLETED)
    assert "wandb sync" not in render(look(zoo, view.name), width=80)
    (view.run.wandb / "wandb" / "offline-run-20261122_100000-a").mkdir(parents=True)
    shown = render(look(zoo, view.name), width=80).replace(
        "'", ""
    )  # of a path that a shell would not take as it is
    assert f"wandb     wandb sync RUNS/{view.run.name}/{view.run.id}/wandb/wandb/offline-run-*\n" in shown
