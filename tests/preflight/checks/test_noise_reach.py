"""The finding about schedules that end too soon."""

import math

import pytest

from sedd.preflight.checks.noise_reach import Facts, gather, judge
from sedd.preflight.finding import Status


@pytest.mark.parametrize("kind", ["loglinear", "geometric", "cosine"])
def test_a_schedule_is_warned_of_where_more_than_half_a_percent_or_so_stays_visible(kind: str):
    assert judge(Facts(kind=kind, sigma_bar=-math.log(0.001))).status is Status.OK
    found = judge(Facts(kind=kind, sigma_bar=2.0))
    assert found.status is Status.WARN
    assert "0.14 of the residues" in found.saw
    assert ("epsilon" in found.hint) == (kind == "loglinear")


def test_every_point_of_a_sweep_is_looked_at(make_context):
    right, wrong = (
        make_context({"diffusion.noise": {"kind": "cosine", "sigma_max": most}}).experiment
        for most in (20.0, 2.0)
    )
    assert judge(gather(make_context(request=(right, wrong)))).status is Status.WARN
