"""Notifications: what is told, by what means, at most once, and that no secret of theirs lands in a run folder."""

import dataclasses
import datetime as dt
import http.server
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.cli import main as cli
from sedd.config.settings import NotifySettings
from sedd.config.user_config import config_file
from sedd.notify.deliver import UNDELIVERED, deliver
from sedd.notify.marker import marker, watch_ends
from sedd.notify.message import Message, end_message
from sedd.notify.pending import tell_pending
from sedd.notify.send import NotSentError
from sedd.notify.stall import begin_to_tell, is_stalled, stall_words
from sedd.notify.tell import tell_end, tell_loss, tell_stall
from sedd.rundir.events import Event, append_event
from sedd.rundir.heartbeat import Heartbeat, write_heartbeat
from sedd.rundir.plan_record import PlanRecord, StageRecord, write_plan
from tests.command_line import sedd
from tests.experiments.runs import make_run

NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
SECRET = "T0KEN-abc123"
MESSAGE = Message(occasion="completed", key="completed-1", title="tiny completed", text="tiny 1 completed.")


def story(*told: tuple[str, dict[str, object]]) -> list[Event]:
    return [Event(NOW, event, 1, fields) for event, fields in told]


def program(folder: Path, *, exit_code: int = 0) -> tuple[Path, Path]:
    """A program that appends its stdin to a file, and that file; it prints a secret, as careless ones do."""
    told, path = folder / "told.txt", folder / "tell me"
    path.write_text(
        f"#!/bin/sh\necho {SECRET}; echo {SECRET} >&2\n"
        f'{{ echo "[$SEDD_EVENT] $SEDD_RUN"; cat; }} >> "{told}"; exit {exit_code}\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path, told


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, command: Path, *, on: str = "") -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    config_file().parent.mkdir(parents=True, exist_ok=True)
    wanted = f"  on: {on}\n" if on else ""
    config_file().write_text(f"notify:\n{wanted}  command: ['{command}', --token={SECRET}]\n")


@pytest.mark.parametrize(
    ("told", "occasion"),
    [
        ([("completed", {"step": 9})], "completed"),
        ([("failed", {"error": "NaN"}), ("gave_up", {"cause": "crashed"})], "gave_up"),
        ([("requeued", {"cause": "preempted"})], None),
        ([("cancelled", {"by": "ada"})], None),
        ([("cancelled", {"by": "ada"}), ("gave_up", {"cause": "crashed"})], None),
        ([("gave_up", {"cause": "interrupted"})], None),
        ([("completed", {}), ("submitted", {})], None),
        ([], None),
    ],
)
def test_an_end_is_told_unless_the_user_made_it(
    told: list[tuple[str, dict[str, object]]], occasion: str | None
) -> None:
    message = end_message("tiny", "1", story(*told))
    assert (message.occasion if message else None) == occasion
    if occasion == "gave_up":
        assert message is not None
        assert "NaN" in message.text


def test_what_an_earlier_attempt_got_over_is_not_told_as_the_reason() -> None:
    first, again = (Event(NOW, "failed", 1, {"error": "NaN"}), Event(NOW, "attempt_started", 2, {}))
    last = Event(NOW, "gave_up", 2, {"cause": "killed", "detail": "no progress in 3 attempts"})
    message = end_message("tiny", "1", (first, again, last))
    assert message is not None
    assert "gave up: no progress in 3 attempts" in message.text


def test_a_run_that_ended_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    run = make_run(tmp_path / "runs", 0)
    for is_login in (False, True, False):
        tell_end(run, is_login=is_login)
    assert told.read_text().splitlines()[:2] == [f"[completed] tiny/{run.id}", f"tiny {run.id} completed."]
    assert told.read_text().count("[completed]") == 1
    assert "16.00 GPU-hours" in told.read_text()


def test_who_is_not_asked_for_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command, on="[gave_up]")
    tell_end(make_run(tmp_path / "runs", 0), is_login=True)
    assert not told.exists()


def test_what_a_node_could_not_tell_the_next_command_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    watch_ends(root)
    run = make_run(root, 0)
    failing, _ = program(tmp_path, exit_code=7)
    configure(monkeypatch, tmp_path, failing)
    tell_end(run, is_login=False)
    assert "exit code 7" in capfd.readouterr().out
    assert [path.name for path in (run.path / "notified").iterdir()] == [f"completed-1{UNDELIVERED}"]
    tell_end(run, is_login=False)  # a node does not try again
    _, told = program(tmp_path)
    told.unlink()
    assert list(tell_pending(root)) == list(tell_pending(root)) == []
    assert told.read_text().count("[completed]") == 1


def test_a_login_node_that_cannot_tell_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "runs"
    watch_ends(root)
    make_run(root, 0)
    configure(monkeypatch, tmp_path, tmp_path / "no such program")
    (problem,) = tell_pending(root)
    assert f"{tmp_path / 'no such program'}: No such file" in problem
    assert SECRET not in problem
    assert list(tell_pending(root)) == []


def test_runs_that_ended_before_anybody_asked_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    root = tmp_path / "runs"
    run = make_run(root, 0)
    os.utime(run.events, (time.time() - 86400, time.time() - 86400))
    assert list(tell_pending(root)) == []  # no submission since
    watch_ends(root)
    assert marker(root).exists()
    assert list(tell_pending(root)) == []
    assert not told.exists()


def test_the_first_look_tells_no_run_that_ended_minutes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    root = tmp_path / "runs"
    earlier = make_run(root, 0)
    os.utime(earlier.events, (time.time() - 60, time.time() - 60))
    watch_ends(root)
    assert list(tell_pending(root)) == []
    assert not told.exists()
    make_run(root, 1)
    assert list(tell_pending(root)) == []
    assert told.read_text().count("[completed]") == 1


@pytest.mark.parametrize("is_made_then", [False, True])
def test_a_clock_that_was_ahead_hides_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made_then: bool
) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    root, ahead = tmp_path / "runs", time.time() + 86400
    watch_ends(root)
    if is_made_then:
        marker(root).write_text(str(ahead))
    os.utime(marker(root), (ahead, ahead))
    make_run(root, 0)
    assert list(tell_pending(root)) == []
    assert told.read_text().count("[completed]") == 1
    assert marker(root).stat().st_mtime < ahead


def test_a_marker_that_cannot_be_touched_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch_ends(tmp_path)
    monkeypatch.setattr("sedd.notify.pending.os.utime", raises(PermissionError(1, "not permitted")))
    assert list(tell_pending(tmp_path)) == []


def raises(error: BaseException) -> Callable[..., None]:
    def act(*arguments: object) -> None:
        raise error

    return act


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("a bug"), 0), (KeyboardInterrupt(), 130)])
def test_what_is_told_after_a_command_does_not_break_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: BaseException, code: int,
) -> None:  # fmt: skip
    watch_ends(tmp_path)
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path))
    monkeypatch.setattr("sedd.notify.pending.tell_pending", raises(error))
    monkeypatch.setattr(sys, "argv", ["sedd", "status", "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    assert capsys.readouterr().err == ("" if code else "notify: RuntimeError: a bug\n")


def test_a_mistake_in_the_configuration_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs that ended, and after a command that ends with the same error."""
    root = tmp_path / "runs"
    watch_ends(root)
    for number in range(2):
        make_run(root, number)
    configure(monkeypatch, tmp_path, tmp_path / "program")
    config_file().write_text("notify:\n  programs: [x]\n")
    assert sedd("status", runs=root).stderr.count("programs") == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEDD_RUNS", raising=False)
    assert sedd("status").stderr.count("programs") == 1


def _deliver(folder: str, command: str, barrier: "multiprocessing.synchronize.Barrier") -> None:
    barrier.wait()
    deliver(Path(folder), MESSAGE, NotifySettings(command=(command,)), run="tiny/1", is_login=True)


def test_of_several_at_once_one_tells(tmp_path: Path) -> None:
    command, told = program(tmp_path)
    (tmp_path / "notified").mkdir()
    (tmp_path / "notified" / f"completed-1{UNDELIVERED}").touch()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    processes = [
        context.Process(target=_deliver, args=(str(tmp_path), str(command), barrier)) for _ in range(8)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert told.read_text().count("[completed]") == 1


def test_who_dies_while_telling_is_not_followed_by_another(tmp_path: Path) -> None:
    command, told = program(tmp_path)
    (tmp_path / "notified").mkdir()
    (tmp_path / "notified" / "completed-1").touch()
    assert not deliver(tmp_path, MESSAGE, NotifySettings(command=(str(command),)), run="x", is_login=True)
    assert not told.exists()


def test_a_program_that_does_not_end_may_have_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sedd.notify.send.TIMEOUT_S", 0.3)
    assert deliver(tmp_path, MESSAGE, NotifySettings(command=("sleep", "30")), run="x", is_login=False)


def test_stalls_and_losses_are_told_once_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    run = make_run(tmp_path / "runs", 0, ended=None)
    for attempt in (1, 1, 2):
        tell_stall(run, attempt=attempt, why="no step for 10m", is_login=True)
        tell_loss(run, attempt=attempt, why="no job", is_login=True)
    assert told.read_text().count("[stalled]") == told.read_text().count("[gave_up]") == 2


@pytest.mark.parametrize(
    ("age_s", "phase", "stalled"),
    [(700, "training", True), (500, "training", False), (700, "waiting", False), (700, "starting", True)],
)
def test_what_counts_as_a_stall(age_s: float, phase: str, stalled: bool) -> None:
    moved = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age_s)
    assert is_stalled(beat_of(moved, phase)) is stalled


def beat_of(moved: dt.datetime, phase: str) -> Heartbeat:
    now = dt.datetime.now(dt.UTC).isoformat()
    return Heartbeat(t=now, progress_t=moved.isoformat(), attempt=2, phase=phase, step=7, steps=10)


def test_a_stall_is_told_by_a_process_beside_the_job_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    run = make_run(tmp_path / "runs", 0, ended=None)
    write_heartbeat(run.heartbeat, beat_of(NOW, "training"))
    for _ in range(2):
        assert begin_to_tell(run).wait(60) == 0
    assert told.read_text().count(f"[stalled] tiny/{run.id}") == 1
    assert "at step 7, in phase training" in told.read_text()


def test_a_stall_is_told_in_the_unit_of_the_task() -> None:
    beat = dataclasses.replace(beat_of(NOW, "evaluating"), unit="proteins")
    assert stall_words(beat).endswith("at 7 proteins, in phase evaluating")


def test_a_plan_is_told_when_nothing_of_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two stages, the second of which waits for the success of a first that gives up."""
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command, on="[plan_done]")
    root = tmp_path / "runs"
    first, second, waiting = (
        make_run(root, 0),
        make_run(root, 1, ended=None),
        make_run(root, 2, ended=None),
    )
    stages = (
        StageRecord(name="train", task="train", runs=(first, second), waits={}, by_point=()),
        StageRecord(name="more", task="train", runs=(waiting,), waits={"train": "afterok"}, by_point=()),
    )
    write_plan(PlanRecord(name="all", folder=root / "all" / "plan-1", stages=stages), "")
    for run in (first, second, waiting):
        manifest = json.loads(run.manifest.read_text()) | {"plan": "all"}
        run.manifest.write_text(json.dumps(manifest))
    waiting.events.write_text("")
    tell_end(first, is_login=False)
    assert not told.exists()
    append_event(second.events, "gave_up", attempt=1, now=NOW, cause="crashed")
    for run in (second, first):
        tell_end(run, is_login=False)
    assert told.read_text().count("[plan_done] all") == 1
    assert "train: 1 completed, 1 gave up\nmore: 1 waits in vain" in told.read_text()
    for run, attempt in ((second, 2), (waiting, 1)):  # sedd requeue all
        append_event(run.events, "submitted", attempt=attempt - 1, now=NOW)
        append_event(run.events, "attempt_started", attempt=attempt, now=NOW)
        append_event(run.events, "completed", attempt=attempt, now=NOW, step=10)
    for run in (second, waiting, first):
        tell_end(run, is_login=False)
    assert told.read_text().count("[plan_done] all") == 2
    assert "train: 2 completed\nmore: 1 completed" in told.read_text()


def test_a_profiles_own_settings_come_first_and_stay_out_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sedd.cluster.profile import load_profile

    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, tmp_path / "not this one")
    profile = tmp_path / "site.yaml"
    profile.write_text(f"executor: local\nnotify:\n  command: ['{command}', '{SECRET}']\n")
    loaded = load_profile(profile)
    assert loaded.notify is not None
    assert SECRET not in json.dumps(loaded.model_dump(mode="json"))
    run = make_run(tmp_path / "runs", 0)
    manifest = json.loads(run.manifest.read_text()) | {"profile": loaded.model_dump(mode="json")}
    run.manifest.write_text(json.dumps(manifest))
    tell_end(run, is_login=True)
    assert "[completed]" in told.read_text()
    assert all(SECRET.encode() not in p.read_bytes() for p in run.path.rglob("*") if p.is_file())


def test_apprise_reads_its_own_file_and_says_no_address(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("apprise")
    addresses = tmp_path / "apprise.txt"
    for content, words in [
        (None, "cannot be read"),
        (f"json://127.0.0.1:9/{SECRET}\n", "could not be reached"),
    ]:
        if content:
            addresses.write_text(content)
        folder = tmp_path / words[:3]
        folder.mkdir()
        with pytest.raises(NotSentError, match=words) as caught:
            deliver(folder, MESSAGE, NotifySettings(apprise=str(addresses)), run="x", is_login=True)
        assert SECRET not in caught.value.message
    assert SECRET not in "".join(capfd.readouterr())


def test_apprise_tells_a_real_server(tmp_path: Path) -> None:
    pytest.importorskip("apprise")
    heard: list[dict[str, str]] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        addresses = tmp_path / "apprise.txt"
        addresses.write_text(f"json://127.0.0.1:{server.server_port}/{SECRET}\n")
        settings = NotifySettings(apprise=str(addresses))
        assert deliver(tmp_path, MESSAGE, settings, run="tiny/1", is_login=True)
        server.shutdown()
    assert (heard[0]["title"], heard[0]["message"]) == (MESSAGE.title, MESSAGE.text)


def test_status_tells_a_stall_and_a_loss_of_runs_that_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs without a process, an old heartbeat and no last word are lost."""
    command, told = program(tmp_path)
    configure(monkeypatch, tmp_path, command)
    run = make_run(tmp_path / "runs", 0, ended=None)
    write_heartbeat(run.heartbeat, beat_of(NOW, "training"))
    for is_watched in (False, True, True):
        if is_watched:
            watch_ends(tmp_path / "runs")
        shown = sedd("status", run.id, runs=tmp_path / "runs")
        assert shown.returncode == 0, shown.stderr
        assert told.exists() is is_watched, shown.stdout
    assert told.read_text().count("[gave_up]") + told.read_text().count("[stalled]") == 1


def test_nothing_is_imported_where_nothing_is_asked(tmp_path: Path) -> None:
    code = "import sys, sedd.cli.notify_pending as n; n.tell_ends('status'); print('pydantic' in sys.modules)"
    environment = os.environ | {"SEDD_RUNS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_run_folder_that_cannot_be_written_costs_the_message(tmp_path: Path) -> None:
    (tmp_path / "notified").write_text("a file where the folder should be")
    assert not deliver(tmp_path, MESSAGE, NotifySettings(command=("true",)), run="x", is_login=False)
