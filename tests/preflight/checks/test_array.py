"""A sweep against the site's arrays."""

import dataclasses

import pytest

from sedd.preflight.checks import array as check
from sedd.preflight.checks import sbatch_test
from sedd.preflight.finding import Status
from tests.preflight.slurm_facts import config, profile, slurm


def scene_of(make_context, runs, *, largest, parallel=None, spec=None):
    one = make_context(spec).experiment
    request = tuple(one.model_copy(update={"seed": seed}) for seed in range(runs))
    known = slurm(site=config(max_array_size=largest))
    return make_context(spec, profile=profile(), slurm=known, request=request, parallel=parallel)


def look(*arguments, **more):
    return check.judge(check.gather(scene_of(*arguments, **more)))


@pytest.mark.parametrize(
    ("runs", "largest", "parallel", "status", "saw"),
    [
        (10, 1001, None, Status.OK, "10 runs in 1 array, indices up to 9 (MaxArraySize=1001)"),
        (10, 10, None, Status.OK, "10 runs in 1 array, indices up to 9"),
        (11, 10, None, Status.OK, "11 runs in 2 arrays, indices up to 9 (MaxArraySize=10): split to fit"),
        (30, 10, 7, Status.OK, "30 runs in 3 arrays"),
        (30, 10, 2, Status.WARN, "3 runs at a time, not 2"),
        (2, 0, None, Status.FAIL, "no job arrays (MaxArraySize=0)"),
        (2, 1, None, Status.OK, "2 runs in 2 arrays"),
    ],
)
def test_sweep(make_context, runs, largest, parallel, status, saw):
    verdict = look(make_context, runs, largest=largest, parallel=parallel)
    assert verdict.status is status
    assert saw in verdict.saw


def test_launch_makes_as_many_arrays_as_is_said():
    from sedd.launch.submit_slurm import split

    facts = check.Facts(groups=(11,), max_array_size=5, parallel=None)
    assert f"in {len(split(range(11), largest=5))} arrays" in check.judge(facts).saw


def test_runs_with_other_resources_are_an_array_of_their_own():
    facts = dataclasses.replace(check.CHECK.passing, groups=(3, 2), parallel=1)
    verdict = check.judge(facts)
    assert "5 runs in 2 arrays, indices up to 2" in verdict.saw
    assert "2 runs at a time, not 1" in verdict.saw
    shared = dataclasses.replace(check.CHECK.passing, groups=(3, 2), parallel=3)
    assert check.judge(shared).status is Status.OK  # one at a time of each array


def test_a_single_run_is_no_array(make_context):
    assert check.gather(make_context(profile=profile(), slurm=slurm())) is None


@pytest.mark.parametrize(("runs", "option"), [(3, "--array=0-2"), (12, "--array=0-9"), (1, "--array")])
def test_slurm_is_asked_about_the_array(make_context, monkeypatch, runs, option):
    asked = []
    monkeypatch.setattr(sbatch_test, "sbatch_test_only", lambda script, timeout_s: asked.append(script))
    sbatch_test.gather(scene_of(make_context, runs, largest=10))
    assert (option in asked[0]) is (runs > 1)
