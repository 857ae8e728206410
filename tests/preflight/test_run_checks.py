"""Every check gives a finding, in time, whatever happens to it."""

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.profile import LocalProfile
from sedd.preflight.check import Check
from sedd.preflight.context import Answers, CheckContext, Once, Side
from sedd.preflight.finding import Status, Verdict, fail, has_failures, ok
from sedd.preflight.run_checks import check_login, check_node, in_turn, side_by_side
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request


def raising(error: Exception):
    def gather(context: CheckContext) -> str:
        raise error

    return gather


def a_check(gather, judge=ok) -> Check[str]:
    """A check without a file: both of its steps are given."""

    class Given(Check[str]):
        def gather(self, context: CheckContext) -> str | None:
            return gather(context)

        def judge(self, facts: str) -> Verdict:
            return judge(facts)

    return Given(sides=(Side.LOGIN,), catches="", takes="", passing="well", failing="ill")


@pytest.fixture
def context(tmp_path: Path) -> CheckContext:
    experiment = Experiment.model_validate(
        {"name": "x", "data": {"store": str(tmp_path)}, "training": {"steps": 10}}
    )
    return CheckContext(
        side=Side.LOGIN,
        experiment=experiment,
        profile=LocalProfile(executor="local"),
        folder=tmp_path,
        environ={},
    )


RUNNERS = pytest.mark.parametrize("run", [side_by_side, in_turn])


def test_what_looks_at_the_cards_comes_before_what_uses_them(context: CheckContext):
    asked: list[str] = []
    checks = {
        "a": a_check(lambda _: asked.append("a") or "a"),
        "b": dataclasses.replace(a_check(lambda _: asked.append("b") or "b"), before_cuda=True),
    }
    assert [finding.check for finding in in_turn(checks, [context], limit_s=5)] == ["a", "b"]
    assert asked == ["b", "a"]


@RUNNERS
def test_findings_keep_the_order_of_the_checks(run, context: CheckContext):
    checks = {"slow": a_check(lambda s: time.sleep(0.05) or "a"), "quick": a_check(lambda s: "b")}
    assert [(f.check, f.saw) for f in run(checks, [context], limit_s=5)] == [("slow", "a"), ("quick", "b")]


@RUNNERS
def test_a_question_that_does_not_arise_gives_no_finding(run, context: CheckContext):
    assert run({"none": a_check(lambda s: None)}, [context], limit_s=5) == ()


@RUNNERS
def test_a_hanging_check_is_unknown_and_hides_no_failure(run, context: CheckContext):
    release = threading.Event()
    checks = {
        "hangs": a_check(lambda s: release.wait(30) or "x"),
        "fails": a_check(lambda s: "bad", lambda s: fail(s, "mend")),
    }
    started = time.monotonic()
    found = {f.check: f for f in run(checks, [context], limit_s=0.3)}
    release.set()
    assert time.monotonic() - started < 15
    assert found["hangs"].status is Status.UNKNOWN
    assert "0.3 s" in found["hangs"].saw
    assert found["fails"].status is Status.FAIL
    assert has_failures(found.values())


@RUNNERS
def test_a_check_that_breaks_is_unknown_with_the_errors_line(run, context: CheckContext):
    checks = {
        "breaks": a_check(raising(ZeroDivisionError("by zero\nmore"))),
        "works": a_check(lambda s: "fine"),
    }
    broken, works = run(checks, [context], limit_s=5)
    assert broken.status is Status.UNKNOWN
    assert broken.saw == "could not look: ZeroDivisionError: by zero"
    assert works.status is Status.OK


@RUNNERS
def test_slurm_that_does_not_answer_is_unknown_in_its_own_words(run, context: CheckContext):
    error = SlurmUnreachableError("scontrol did not answer within 3 s", hint="try again")
    (found,) = run({"asks": a_check(raising(error))}, [context], limit_s=5)
    assert (found.status, found.saw, found.hint) == (
        Status.UNKNOWN,
        "scontrol did not answer within 3 s",
        "try again",
    )


def test_a_question_is_asked_once_and_fails_alike_for_all():
    asked = []

    def ask() -> int:
        asked.append(1)
        raise SlurmUnreachableError("no answer")

    question = Once(ask)
    for _ in range(3):
        with pytest.raises(SlurmUnreachableError, match="no answer"):
            question()
    assert len(asked) == 1


def test_node_checks_draw_no_random_numbers_of_trainings(make_context):
    import torch

    before = torch.get_rng_state()
    findings = check_node(
        make_context().experiment, LocalProfile(executor="local"), None, ranks_size=1, rank=0, local_rank=0
    )
    assert torch.equal(before, torch.get_rng_state())
    assert not has_failures(findings), findings


def test_a_slow_file_system_does_not_hold_the_login_side_up(make_context, monkeypatch, tmp_path):
    """Every look at a disk takes half a minute: the rest is found, the command ends."""
    for name in ("fsync", "statvfs"):
        monkeypatch.setattr(f"sedd.preflight.read.filesystem.os.{name}", lambda *_: time.sleep(30))
    request = Request(experiments=(make_context().experiment,), points=({},), parallel=None)
    began = time.monotonic()
    found = {f.check: f for f in check_login(request, LocalProfile(executor="local"), runs=tmp_path)}
    assert time.monotonic() - began < 15
    for name in ("run_folder", "disk_space", "clock"):
        assert (found[name].status, found[name].saw) == (Status.UNKNOWN, "no answer within 4 s")
    assert found["data_store"].status is Status.OK


def test_a_sweep_is_measured_once_and_told_once(make_context, monkeypatch, tmp_path):
    from sedd.preflight.checks import run_folder

    written = []
    real = run_folder.measure_writing
    monkeypatch.setattr(run_folder, "measure_writing", lambda *a, **k: written.append(a) or real(*a, **k))
    small, large = make_context().experiment, make_context({"model.hidden": 128}).experiment
    request = Request(
        experiments=(small, large), points=({"model.hidden": 64}, {"model.hidden": 128}), parallel=None
    )
    answers = Answers()
    for _ in range(2):  # two specs of one command
        found = check_login(request, LocalProfile(executor="local"), runs=tmp_path, answers=answers)
    assert len(written) == 1
    assert len({f.check for f in found}) == len(found)
    assert not has_failures(found), found


def test_what_has_an_own_limit_may_take_longer(context: CheckContext):
    patient = dataclasses.replace(a_check(lambda s: time.sleep(0.2) or "a"), limit_s=5.0)
    (found,) = in_turn({"compiles": patient}, [context], limit_s=0.05)
    assert found.status is Status.OK


@RUNNERS
def test_paths_of_the_spec_are_told_without_dots_unless_a_link_makes_them_another(
    run, make_context: Callable[..., CheckContext], tmp_path: Path
):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    for folder, expected in (("jobs", tmp_path / "x.store"), ("link", tmp_path / "link" / ".." / "x.store")):
        asked = make_context({"data.store": str(tmp_path / folder / ".." / "x.store")})
        checks = {"a": a_check(lambda c: f"{c.experiment.data.store} is gone", lambda s: fail(s, s))}
        (found,) = run(checks, [asked], limit_s=5)
        assert (found.saw, found.hint) == (f"{expected} is gone", f"{expected} is gone")
