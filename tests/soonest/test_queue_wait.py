"""The gaps before the first waiting job, and SLURM's answer to `sbatch --test-only`."""

import datetime as dt

import pytest

from sedd.cluster.sbatch import parse_expected_start
from sedd.cluster.site import parse_nodes
from sedd.soonest.queue_wait import Room, room_of

NOW = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)


def after(minutes: float) -> dt.datetime:
    return NOW + dt.timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("nodes", "gpus", "minutes", "is_gap"),
    [
        (1, 4, 29, True),
        (1, 4, 29.5, False),  # less than a minute before the other is due
        (2, 2, 10, True),
        (2, 4, 10, False),
        (1, 5, 10, False),
    ],
)
def test_a_gap_takes_what_is_free_and_ends_before_the_first_job_is_due(
    nodes: int, gpus: int, minutes: float, is_gap: bool
) -> None:
    room = Room(cards=(4, 4, 4), free=(4, 2, 0), first_due=after(30))
    assert room.is_gap_for(nodes=nodes, gpus_per_node=gpus, until=after(minutes)) is is_gap


def test_where_nothing_waits_slurms_own_answer_is_enough() -> None:
    assert not Room(cards=(4,), free=(4,)).is_gap_for(nodes=1, gpus_per_node=1, until=NOW)


def test_the_room_counts_cards_of_the_type_that_is_asked_for() -> None:
    text = """NodeName=n1 State=MIXED Gres=gpu:v100:4,gpu:a100:2 GresUsed=gpu:v100:3(IDX:0-2) Partitions=gpu

NodeName=n2 State=IDLE Gres=gpu:a100:8 GresUsed=gpu:a100:0 Partitions=gpu
"""
    room = room_of(parse_nodes(text), "v100", None)
    assert (room.cards, room.free, room.most_per_node) == ((4, 0), (1, 0), 4)
    assert room_of(parse_nodes(text), None, None).most_per_node == 8


def test_the_expected_start_is_read_from_sbatchs_answer() -> None:
    answer = "sbatch: Job 15 to start at 1795973365 using 1 processors on nodes v100-2 in partition urgent"
    assert parse_expected_start(answer) == dt.datetime.fromtimestamp(1795973365, dt.UTC)
    assert parse_expected_start("welcome") is None
