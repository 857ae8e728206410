"""When a run would end: waits, start-ups and requeues by hand."""

import pytest

from sedd.soonest.forecast import Work, forecast, refused, soonest, usable, walltime_for
from sedd.soonest.shapes import JobShape, Layout
from sedd.soonest.speed import Speed

SPEED = Speed(residue_s=1e-3, parameters=1, source="")
WORK = Work(steps=3600, residues_per_step=1000, start_s=60, pause_s=10, save_s=2.5)
ONE = Layout(nodes=1, gpus_per_node=1)
"""An hour of training on one GPU; a warning 40 s before the time limit."""


def shape(walltime_s: int, layout: Layout = ONE) -> JobShape:
    return JobShape(layout=layout, walltime_s=walltime_s)


def test_a_run_that_fits_ends_after_its_wait_its_start_and_its_training() -> None:
    found = forecast(shape(7200), WORK, SPEED, wait_s=500, waits_again_s=9999)
    assert (found.attempts, found.ends_s, found.gpu_s) == (1, 500 + 60 + 3600, 3660)


def test_each_requeue_waits_and_starts_up_once_more() -> None:
    # of 1300 s, 60 go into the start and 40 into the warning: 1200 train, so three attempts do
    found = forecast(shape(1300), WORK, SPEED, wait_s=0, waits_again_s=700)
    assert found.attempts == 3
    assert found.ends_s == 3600 + 3 * 60 + 2 * (700 + 10)


def test_a_limit_in_which_nothing_can_train_is_refused() -> None:
    assert forecast(shape(60), WORK, SPEED, wait_s=0, waits_again_s=0).refusal


@pytest.mark.parametrize("training_s", [10, 300, 3600, 1e5])
def test_the_limit_for_so_much_training_has_a_tenth_to_spare_and_no_more(training_s: float) -> None:
    for work in (WORK, Work(steps=1, residues_per_step=1)):
        assert usable(int(walltime_for(training_s, work)) + 1, work) >= training_s
        assert usable(int(walltime_for(training_s, work)), work) == pytest.approx(1.1 * training_s, abs=3)


def test_the_first_to_end_is_picked_and_of_equals_the_cheapest_and_shortest() -> None:
    two = Layout(nodes=1, gpus_per_node=2)
    free = forecast(shape(7200), WORK, SPEED, wait_s=0, waits_again_s=0)
    longer = forecast(shape(86400), WORK, SPEED, wait_s=0, waits_again_s=0)
    same_end = forecast(shape(7200, two), WORK, SPEED, wait_s=1800, waits_again_s=0)
    late = forecast(shape(7200, two), WORK, SPEED, wait_s=3600, waits_again_s=0)
    early = forecast(shape(7200, two), WORK, SPEED, wait_s=600, waits_again_s=0)
    no = refused(shape(7200), "Invalid account")
    assert soonest([late, longer, same_end, free, no]) is free
    assert soonest([late, longer, same_end, free, early]) is early
    assert soonest([no]) is None
