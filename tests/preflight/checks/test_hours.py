"""The hours that a training is told to take are its steps times what a step takes, on all its cards together."""

from dataclasses import replace

import pytest

from sedd.cluster.profile import Gpu, LocalProfile, SlurmProfile
from sedd.preflight.checks import hours
from sedd.preflight.finding import Status
from sedd.soonest.v100 import estimated_residue_s
from tests.soonest.test_earlier_runs import make as make_earlier

V100S = SlurmProfile(executor="slurm", gpu=Gpu(type="v100"))
LONG = {"training.steps": 1_000_000, "resources.gpus_per_node": 1, "resources.walltime": "1h"}


def test_one_card_takes_the_estimate_for_each_residue_and_a_start_for_each_attempt(make_context):
    context = make_context(LONG, profile=V100S)
    facts = hours.gather(context)
    spec = context.training_run
    trains_s = 1_000_000 * 512 * estimated_residue_s(spec.model, spec.data.max_length)
    assert facts.usable_s < 3600
    assert facts.attempts == -(-trains_s // facts.usable_s)
    assert facts.seconds[0] == pytest.approx(trains_s + 60 * facts.attempts)
    assert facts.gpu_s == pytest.approx(facts.seconds[0])
    assert "estimated for a V100" in hours.judge(facts).saw


@pytest.mark.parametrize(
    ("resources", "started", "where"),
    [
        ({}, {"gpus": 1}, " on 1 GPU (140 GPU hours), in "),
        (
            {"resources.gpus_per_node": 0},
            {"gpus": 0, "ranks": 1},
            " on 1 process (140 hours of processes), in ",
        ),
    ],
    ids=["GPUs", "as many processes on CPUs"],
)
def test_what_a_run_here_has_measured_counts_instead(make_context, tmp_path, resources, started, where):
    context = make_context(LONG | resources, profile=V100S)
    slow = (("attempt_started", 0, started), ("resumed", 30, {"step": 0}), ("checkpoint", 130, {"step": 200}))
    name = make_earlier(tmp_path, context.training_run, slow)
    facts = hours.gather(context)
    assert facts.source == f"measured, run {name}"
    assert facts.seconds[0] == pytest.approx(1_000_000 / 2 + 30 * facts.attempts)
    assert where in hours.judge(facts).saw


@pytest.mark.parametrize(
    ("spec", "profile"),
    [
        ({"resources.gpus_per_node": 0}, V100S),
        (LONG | {"training.precision": "fp32"}, V100S),
        (LONG, LocalProfile(executor="local")),
    ],
    ids=["CPUs", "fp32", "no SLURM"],
)
def test_nothing_is_said_where_nothing_is_known(make_context, spec, profile):
    assert hours.gather(make_context(spec, profile=profile)) is None


@pytest.mark.parametrize(
    ("hours_", "words"), [(0.0926, "0.093"), (4.93, "4.9"), (17.26, "17"), (3_102.3, "3,102")]
)
def test_gpu_hours_are_told_as_exactly_as_they_are_known(hours_: float, words: str):
    facts = replace(hours.CHECK.passing, gpu_s=hours_ * 3600)
    assert f"({words} GPU hours)" in hours.judge(facts).saw


def test_of_other_cards_it_says_that_the_estimate_is_of_v100s(make_context):
    facts = hours.gather(make_context(LONG, profile=SlurmProfile(executor="slurm", gpu=Gpu(type="a100"))))
    assert facts.other_card == "a100"
    assert "that is of V100s: no run here has measured this network on a100" in hours.judge(facts).saw


def test_a_time_limit_that_starting_uses_up_is_a_warning(make_context):
    verdict = hours.judge(hours.gather(make_context(LONG | {"resources.walltime": "2m"}, profile=V100S)))
    assert verdict.status is Status.WARN
    assert verdict.hint is not None
    assert "resources.walltime" in verdict.hint


@pytest.mark.parametrize(
    ("at_once", "ends", "words"), [(4, 2, "4 at a time"), (6, 1, "all at once"), (1, 6, "1 at a time")]
)
def test_a_sweep_ends_when_its_last_run_does(at_once: int, ends: int, words: str):
    facts = replace(hours.CHECK.passing, seconds=(3600.0,) * 6, at_once=at_once, gpus=1, gpu_s=6 * 3600.0)
    saw = hours.judge(facts).saw
    assert f"about {ends}h for 6 runs (6 GPU hours), {words}, each up to 1h on 1 GPU" in saw
