"""The gaps before the first waiting job, and SLURM's answer to `sbatch --test-only`."""

import datetime as dt

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.sbatch import parse_expected_start
from sedd.cluster.site import parse_config, parse_nodes
from sedd.cluster.squeue import WaitingJob, parse_waiting
from sedd.soonest import queue_wait
from sedd.soonest.queue_wait import Room, query_room, room_of

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


def test_cards_that_no_waiting_job_can_claim_are_free_for_any_time() -> None:
    room = Room(cards=(4, 4), free=(4, 2), unclaimed=(4, 2))
    assert room.is_unclaimed_for(nodes=2, gpus_per_node=2)
    assert not room.is_unclaimed_for(nodes=2, gpus_per_node=4)
    assert not Room(cards=(4,), free=(4,)).is_unclaimed_for(nodes=1, gpus_per_node=1), "not known"


def test_the_room_counts_cards_of_the_type_that_is_asked_for() -> None:
    text = """NodeName=n1 State=MIXED Gres=gpu:v100:4,gpu:a100:2 GresUsed=gpu:v100:3(IDX:0-2) Partitions=gpu

NodeName=n2 State=IDLE Gres=gpu:a100:8 GresUsed=gpu:a100:0 Partitions=gpu
"""
    room = room_of(parse_nodes(text), "v100", None)
    assert (room.cards, room.free, room.most_per_node) == ((4, 0), (1, 0), 4)
    assert room_of(parse_nodes(text), None, None).most_per_node == 8


NODES = """NodeName=v100-1 State=IDLE Gres=gpu:v100:4 GresUsed=gpu:v100:0 Partitions=requeue,urgent

NodeName=v100-2 State=IDLE Gres=gpu:v100:4 GresUsed=gpu:v100:0 Partitions=requeue,urgent
"""
PROFILE = SlurmProfile.model_validate({"executor": "slurm", "partition": "requeue", "gpu": {"type": "v100"}})
DEAD, ALIVE = "N/A|DependencyNeverSatisfied", "N/A|Priority"


def room_beside(
    monkeypatch: pytest.MonkeyPatch, queues: dict[str, str], *, private: str = "none", reserved: str = ""
) -> Room:
    """What is seen of two idle nodes while these lines of squeue wait in these partitions."""

    def waiting(partitions: set[str]) -> list[WaitingJob]:
        return [job for name in partitions for job in parse_waiting(queues.get(name, ""))]

    config = parse_config(f"SLURM_VERSION = 22.05.8\nPrivateData = {private}")
    monkeypatch.setattr(queue_wait, "query_nodes", lambda: parse_nodes(NODES))
    monkeypatch.setattr(queue_wait, "query_config", lambda: config)
    monkeypatch.setattr(queue_wait, "query_reserved_nodes", lambda: {reserved})
    monkeypatch.setattr(queue_wait, "query_waiting", waiting)
    return query_room(PROFILE)


def test_a_job_that_can_never_start_leaves_all_free_cards_unclaimed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room_beside(monkeypatch, {"requeue": DEAD}).unclaimed == (4, 4)


@pytest.mark.parametrize(
    "queues",
    [{"requeue": f"{DEAD}\n{ALIVE}"}, {"requeue": DEAD, "urgent": ALIVE}, {}],
    ids=["a job that can start", "such a job in another partition of the nodes", "nothing: ask SLURM"],
)
def test_cards_may_be_claimed_beside(queues: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert room_beside(monkeypatch, queues).unclaimed == ()


def test_what_is_hidden_or_reserved_may_be_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room_beside(monkeypatch, {"requeue": DEAD}, private="jobs").unclaimed == ()
    assert room_beside(monkeypatch, {"requeue": DEAD}, reserved="v100-2").unclaimed == (4,)


def test_the_expected_start_is_read_from_sbatchs_answer() -> None:
    answer = "sbatch: Job 15 to start at 1795973365 using 1 processors on nodes v100-2 in partition urgent"
    assert parse_expected_start(answer) == dt.datetime.fromtimestamp(1795973365, dt.UTC)
    assert parse_expected_start("welcome") is None
