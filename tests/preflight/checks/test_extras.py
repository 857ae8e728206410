"""Optional packages that a spec wants are missed before its job waits in a queue."""

import dataclasses
import importlib.util

import pytest

from sedd.preflight.checks import extras as check
from sedd.preflight.finding import Status
from sedd.spec.inference import EvaluateTask, SampleTask

SAMPLE = {"name": "s", "task": "sample", "sample": {"network": "/n"}}
EVALUATE = {"name": "e", "task": "evaluate", "evaluate": {"network": "/n", "fasta": ["/f"]}}


def with_(document, part, **changes):
    return document | {part: document[part] | changes}


def of(make_context, task):
    return dataclasses.replace(make_context(), experiment=task)


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("task", "saw", "hint"),
    [
        (SampleTask.model_validate(SAMPLE), "parasail", "'protein-sedd[report]'; or sample.report: false"),
        (
            EvaluateTask.model_validate(with_(EVALUATE, "evaluate", per_sequence="parquet")),
            "pyarrow",
            "'protein-sedd[parquet]'; or evaluate.per_sequence: csv",
        ),
    ],
)
def test_a_missing_one_fails_with_the_command_and_what_does_without(make_context, task, saw, hint):
    verdict = check.judge(check.gather(of(make_context, task)))
    assert verdict.status is Status.FAIL
    assert saw in verdict.saw
    assert verdict.hint.endswith(hint)


def test_one_that_is_there_is_ok(make_context):
    assert check.judge(check.gather(of(make_context, SampleTask.model_validate(SAMPLE)))).status is Status.OK


@pytest.mark.parametrize(
    "task",
    [SampleTask.model_validate(with_(SAMPLE, "sample", report=False)), EvaluateTask.model_validate(EVALUATE)],
)
def test_nothing_is_missed_that_is_not_wanted(make_context, task):
    assert check.gather(of(make_context, task)) is None
