"""`extend`: a run that has ended goes on as if it had been asked for more steps from the start."""

import datetime as dt
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sedd.amend.extend import Extended, extend, plan_extension
from sedd.amend.preview import preview
from sedd.amend.spec_change import SpecChange, plan_change, write_change
from sedd.errors import RunError, SeddError, SpecError, UsageError
from sedd.launch.cancel import cancel
from sedd.launch.liveness import query_run_status
from sedd.launch.requeue import requeue
from sedd.launch.submitted import find_submitted
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir, Seals, read_manifest, read_seals, write_manifest
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_resolved, load_resolved_as
from sedd.training.checkpoint_file import newest_whole, read_checkpoint
from sedd.training.metrics import read_metrics
from sedd.training.schedule import learning_rate
from tests.launch.conftest import (
    LocalRuns,
    local,  # noqa: F401 # a fixture
    small_experiment,
    story,
    wait_for_end,
    wait_for_event,
    wait_for_steps,
)
from tests.tiny import tiny_spec, train_process
from tests.training.conftest import make_run  # noqa: F401 # a fixture
from tests.training.test_resume import assert_same_bits

MakeRun = Callable[[Experiment], RunDir]
NOW = dt.datetime.now(dt.UTC)


def fine(change: SpecChange) -> None:
    """A preflight that finds nothing."""


def constant(**training: object) -> Experiment:
    basic = {"steps": 40, "residues_per_step": 4096, "residues_per_gpu": 1024, "schedule": "constant"}
    return small_experiment(training=basic | training)


def more(run: RunDir, steps: int, *, rewarm: int | None = None) -> Extended:
    return extend(run, steps, rewarm=rewarm, check=fine, now=NOW)


def save(run: RunDir, step: int) -> None:
    """A checkpoint, as the stand-in of the training does not write one."""
    path = run.checkpoints / f"step-{step:08d}.pt"
    path.write_bytes(b"weights")
    path.with_suffix(".json").write_text(f'{{"step": {step}, "bytes": 7, "sha256": ""}}')


@pytest.mark.parametrize("schedule", ["constant", "inverse_sqrt"])
def test_an_extended_run_ends_with_the_bits_of_the_longer_one(
    schedule: str,
    store: Path,
    make_run: MakeRun,  # noqa: F811
) -> None:
    """The short one ends at step 13, between two logged steps, which a longer run would not have noticed."""
    longer = make_run(tiny_spec(store, schedule=schedule, steps=24))
    run = make_run(tiny_spec(store, schedule=schedule, steps=13))
    write_manifest(run, {"profile": {"executor": "local"}})
    assert train_process(run) == 0
    write_change(plan_change(run, {("training", "steps"): 24}, origin="test"))
    assert train_process(run, attempt=2, end="kill:16") == -9
    assert train_process(run, attempt=3) == 0
    assert train_process(longer) == 0
    ours, theirs = (read_checkpoint(newest_whole(each.checkpoints)) for each in (run, longer))
    assert (ours.pop("run"), theirs.pop("run")) != ("", "")
    assert_same_bits(ours, theirs)
    rows = read_metrics(run.metrics)
    assert [row for row in rows if row["step"] != 13] == read_metrics(longer.metrics)
    assert [row["step"] for row in rows].count(13) == 1, (
        "its own last step is validated, and stays in the curve"
    )


def test_a_completed_run_trains_on_in_its_folder_with_its_code(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant())
    wait_for_end(run)
    save(run, 40)
    code, short = read_manifest(run)["code_hash"], run.spec.read_text()
    result = more(run, 90)
    assert result.changed
    assert result.detail == "extended from 40 to 90 steps; submitted, continues from step 40"
    wait_for_event(run, "completed", count=2)
    assert story(run) == [
        *("submitted", "attempt_started", "completed"),
        *("extended", "submitted", "attempt_started", "resumed", "completed"),
    ]
    assert load_resolved(run.spec) == constant(steps=90)
    assert run.earlier_spec(1).read_text() == short
    manifest = read_manifest(run)
    assert (manifest["steps"], manifest["code_hash"]) == (90, code)
    wait_for_end(run)


def test_both_specs_of_an_extended_run_count_as_submitted(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant(), plan="endless")
    wait_for_steps(run, 3)
    cancel([run], now=NOW)
    wait_for_end(run)
    save(run, 3)
    more(run, 90)
    for experiment in (constant(), constant(steps=90)):
        (known,) = find_submitted([experiment], local.runs)
        assert (known.run, known.spec_hash) == (run, experiment.hash())
    assert not find_submitted([constant(steps=91)], local.runs)
    cancel([run], now=NOW)


def test_of_two_at_one_instant_one_wins_and_the_other_is_told(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant(), plan="train endless")
    wait_for_end(run)
    save(run, 40)

    def one(steps: int) -> Extended | SeddError:
        try:
            return more(run, steps)
        except SeddError as e:
            return e

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, [90, 90]))
    assert [isinstance(r, Extended) and r.changed for r in results].count(True) == 1
    told = [story(run).count(word) for word in ("extended", "submitted")]
    assert told == [1, 2]
    cancel([run], now=NOW)


def test_what_cannot_be_extended_is_one_line_and_stays_as_it_was(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant(), plan="endless train")
    wait_for_steps(run, 3)
    with pytest.raises(RunError, match="runs: it can be extended when it has ended"):
        more(run, 90)
    cancel([run], now=NOW)
    wait_for_end(run)
    spec, events = run.spec.read_bytes(), run.events.read_bytes()
    with pytest.raises(RunError, match="no whole checkpoint any more"):
        more(run, 90)
    save(run, 3)
    for steps in (39, 40):
        with pytest.raises(UsageError, match=f"has 40 steps already: --steps {steps} adds none") as caught:
            more(run, steps)
        assert caught.value.hint == f"--steps is the new total: {40 + steps} adds {steps}"
    with pytest.raises(SpecError, match="the schedule constant needs none"):
        more(run, 90, rewarm=5)
    assert (run.spec.read_bytes(), run.events.read_bytes()) == (spec, events)
    (run.code / "sedd" / "errors.py").write_text("")
    with pytest.raises(RunError, match="was changed after submission"):
        more(run, 90)
    (unsubmitted,) = local.make(constant())
    with pytest.raises(RunError, match="not submitted yet"):
        more(unsubmitted, 90)


def test_where_a_run_goes_on_is_said_exactly_or_it_is_refused(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant())
    wait_for_end(run)
    append_event(run.events, "checkpoint", attempt=1, now=NOW, step=40, reason="last")
    append_event(run.events, "completed", attempt=1, now=NOW, step=40)
    save(run, 20)
    save(run, 40)
    events, (newest, seal) = (
        run.events.read_bytes(),
        (run.checkpoints / f"step-00000040{s}" for s in (".pt", ".json")),
    )
    whole = seal.read_bytes()
    seal.unlink()
    seal.mkdir()  # as one that may not be read: root may read all
    with pytest.raises(RunError, match=r"cannot read .*step-00000040\.json: is a directory; from which step"):
        more(run, 90)
    seal.rmdir()
    seal.write_bytes(whole)
    run.events.write_bytes(
        events.replace(b'"completed", "attempt": 1, "step": 40', b'"completed", "attempt": 1')
    )
    assert run.events.read_bytes() != events
    with pytest.raises(RunError, match="do not say at which step"):
        more(run, 90)
    run.events.write_bytes(events.replace(b'"event": "completed"', b'"event": "compl'))
    with pytest.raises(RunError, match="damaged line: whether the run is completed is not known"):
        more(run, 90)
    run.events.write_bytes(events)
    assert "spec-1.yaml" not in {path.name for path in run.path.iterdir()}
    newest.write_bytes(b"weigh")
    result = more(run, 90)
    assert result.detail.endswith(
        "continues from step 20; that of step 40: step-00000040.pt has 5 bytes, not 7"
    )
    wait_for_event(run, "completed", count=3)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda pt, seal: seal.write_text("{}"), "its seal step-00000040.json is damaged"),
        (lambda pt, seal: seal.write_text('{"step": 40'), "its seal step-00000040.json is damaged"),
        (lambda pt, seal: pt.unlink(), "step-00000040.pt is gone"),
        (lambda pt, seal: pt.write_bytes(b""), "step-00000040.pt has 0 bytes, not 7"),
        (
            lambda pt, seal: seal.write_text(
                '{"step": 40, "bytes": 7, "parts": [{"name": "step-00000040-1.part", "bytes": 3}]}'
            ),
            "step-00000040-1.part is gone",
        ),
    ],
)
def test_a_seal_tells_what_is_wrong_with_its_checkpoint(
    tmp_path: Path, harm: Callable[[Path, Path], object], problem: str
) -> None:
    run = RunDir(tmp_path)
    assert read_seals(run) == Seals(whole=(), broken={}, unreadable={})
    run.checkpoints.mkdir()
    for step in (20, 30, 40):
        save(run, step)
    harm(run.checkpoints / "step-00000040.pt", run.checkpoints / "step-00000040.json")
    (run.checkpoints / "step-00000050.pt").write_bytes(b"its writer was killed before the seal")
    assert read_seals(run) == Seals(whole=(30, 20), broken={40: problem}, unreadable={})


def test_code_that_ends_at_the_first_completed_is_refused(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant())
    wait_for_end(run)
    save(run, 40)
    write_manifest(run, read_manifest(run) | {"format": 2})
    with pytest.raises(RunError, match="keeps the code of an older version"):
        more(run, 90)


def test_a_preflight_that_fails_changes_nothing(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant())
    wait_for_end(run)
    save(run, 40)
    events = run.events.read_bytes()

    def fails(change: SpecChange) -> None:
        assert change.experiment.steps == 90
        raise RunError("data_store: /data/proteins.store: no such folder")

    with pytest.raises(RunError, match="no such folder"):
        extend(run, 90, rewarm=None, check=fails, now=NOW)
    assert run.events.read_bytes() == events
    assert load_resolved(run.spec) == constant()


def test_killed_before_its_event_the_same_command_goes_on(local: LocalRuns) -> None:  # noqa: F811
    """The spec is written, and nothing says so: the run is completed, with the steps of the longer one."""
    run = local.start_one(constant())
    wait_for_end(run)
    save(run, 40)
    write_change(plan_extension(query_run_status(run), 90, rewarm=None))
    assert more(run, 90).changed
    wait_for_event(run, "completed", count=2)
    assert [e.get("earlier_steps") for e in read_events(run.events) if e.event == "extended"] == [40]
    assert not run.earlier_spec(2).exists()


def test_killed_before_it_was_submitted_requeue_goes_on(
    local: LocalRuns,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = local.start_one(constant())
    wait_for_end(run)
    save(run, 40)
    with monkeypatch.context() as broken:
        broken.setenv("PATH", str(local.runs))
        shutil.move(run.submitit, run.path / "elsewhere")
        with pytest.raises(RunError) as refusal:
            more(run, 90)
        shutil.move(run.path / "elsewhere", run.submitit)
    assert "sedd requeue" in (refusal.value.hint or "")
    assert requeue([run], now=NOW)[0].changed
    wait_for_event(run, "completed", count=2)


def test_a_cosine_rises_and_falls_once_more_from_where_it_ended(local: LocalRuns) -> None:  # noqa: F811
    """The first forty steps stay what they were, to the bit."""
    spec = constant(schedule="cosine", warmup_steps=5)
    run = local.start_one(spec)
    wait_for_end(run)
    save(run, 40)
    with pytest.raises(SpecError, match="ends at step 40") as refusal:
        more(run, 100)
    assert "--rewarm" in (refusal.value.hint or "")
    more(run, 100, rewarm=10)
    wait_for_event(run, "completed", count=2)
    wait_for_end(run)
    longer = load_resolved_as(Experiment, run.spec).training
    rates = [learning_rate(step, longer) / longer.learning_rate for step in range(101)]
    assert rates[:41] == [learning_rate(n, spec.training) / spec.training.learning_rate for n in range(41)]
    assert [rates[n] for n in (40, 45, 50, 75, 100)] == pytest.approx([0.1, 0.55, 1.0, 0.55, 0.1])
    more(run, 130, rewarm=10)
    again = load_resolved_as(Experiment, run.spec).training
    assert [learning_rate(n, again) for n in range(101)] == [learning_rate(n, longer) for n in range(101)]
    assert learning_rate(130, again) == pytest.approx(0.1 * again.learning_rate)
    wait_for_event(run, "completed", count=3)


def test_a_dry_run_shows_what_would_be_started_and_touches_nothing(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(constant())
    wait_for_end(run)
    save(run, 40)
    before = sorted((path, path.stat().st_mtime_ns) for path in run.path.rglob("*"))
    shown = preview(plan_extension(query_run_status(run), 90, rewarm=None))
    assert f"sedd.launch.submit_local {run.path}" in shown.detail
    assert sorted((path, path.stat().st_mtime_ns) for path in run.path.rglob("*")) == before
