"""Steps on several GPUs: computing is shared out, messages are not; what was measured is foreseen again."""

import pytest

from sedd.soonest.shapes import Layout
from sedd.soonest.speed import Measured, messages_s, speed_of

ONE, FOUR, EIGHT = (Layout(nodes=n, gpus_per_node=g) for n, g in ((1, 1), (1, 4), (2, 4)))
PARAMETERS, BATCH = 24_000_000, 131_072


def measured(layout: Layout, residues_per_s: float) -> Measured:
    return Measured(layout=layout, residues_per_s=residues_per_s, residues_per_step=BATCH)


@pytest.mark.parametrize("layout", [ONE, FOUR, EIGHT])
def test_a_measured_speed_is_foreseen_for_the_shape_that_it_was_measured_on(layout: Layout) -> None:
    speed = speed_of([measured(layout, 400_000)], parameters=PARAMETERS, source="")
    assert speed.step_s(BATCH, layout) == pytest.approx(BATCH / 400_000)


def test_more_gpus_are_faster_and_each_does_less() -> None:
    speed = speed_of([measured(ONE, 100_000)], parameters=PARAMETERS, source="")
    steps = [speed.step_s(BATCH, each) for each in (ONE, FOUR, EIGHT)]
    assert steps == sorted(steps, reverse=True)
    assert steps[1] > steps[0] / 4
    assert speed.efficiency(BATCH, ONE) == 1
    assert 1 > speed.efficiency(BATCH, FOUR) > speed.efficiency(BATCH, EIGHT)


def test_one_gpu_sends_nothing_and_nodes_send_more_slowly_than_their_cards() -> None:
    assert messages_s(PARAMETERS, ONE) == 0
    assert messages_s(PARAMETERS, FOUR) < messages_s(PARAMETERS, Layout(nodes=4, gpus_per_node=1))


def test_of_several_attempts_the_median_counts() -> None:
    several = [measured(ONE, rate) for rate in (10.0, 100_000.0, 110_000.0)]
    speed = speed_of(several, parameters=PARAMETERS, source="")
    assert speed.residue_s == pytest.approx(1 / 100_000)
