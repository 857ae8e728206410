"""A kernel that computes wrong numbers is found out."""

import math

import pytest

import sedd.model.attention
from sedd.preflight.checks import attention
from sedd.preflight.checks import known_answer as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status


def look(make_context):
    return check.judge(check.gather(make_context(side=Side.NODE)))


def test_this_cpu_computes_right(make_context):
    verdict = look(make_context)
    assert verdict.status is Status.OK
    assert "padded attention" in verdict.saw


@pytest.mark.parametrize("wrong", [lambda x: x * 1.001, lambda x: x / 0], ids=["slightly wrong", "infinite"])
def test_wrong_attention_fails(monkeypatch, make_context, wrong):
    right = sedd.model.attention.attention
    monkeypatch.setattr(
        sedd.model.attention, "attention", lambda *inputs, **how: wrong(right(*inputs, **how))
    )
    verdict = look(make_context)
    assert verdict.status is Status.FAIL
    assert "attention off by" in verdict.saw
    assert "matmul" not in verdict.saw


def test_the_kernel_that_the_spec_names_is_the_one_tried(make_context):
    context = make_context({"training.attention": "explicit"}, side=Side.NODE)
    assert check.gather(context).kernel == "explicit"


def test_a_kernel_that_cannot_run_here_is_left_to_its_own_check(make_context):
    context = make_context({"training.attention": "flash"}, side=Side.NODE)
    assert check.gather(context) is None
    assert attention.judge(attention.gather(context)).status is Status.FAIL


@pytest.mark.parametrize(
    ("dtype", "error", "status"),
    [("float16", 2e-3, Status.OK), ("float16", 2e-2, Status.FAIL), ("bfloat16", 2e-2, Status.OK),
     ("float32", 1e-3, Status.FAIL), ("float16", math.nan, Status.FAIL), ("float16", math.inf, Status.FAIL)],
)  # fmt: skip
def test_tolerance_follows_the_format(dtype, error, status):
    facts = check.Facts(device="cuda:0", dtype=dtype, kernel="efficient", errors=(("matmul", error),))
    assert check.judge(facts).status is status
