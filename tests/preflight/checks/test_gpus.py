"""Cards missing, busy, worn or slowed down; and what CUDA_VISIBLE_DEVICES leaves."""

import dataclasses
import os
import subprocess
from collections.abc import Iterator

import pytest

from sedd.preflight.checks import gpus as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status
from sedd.preflight.read.cards import Driver, Instance, visible

CARD = check.CHECK.passing.cards[0]
FOUR = tuple(dataclasses.replace(CARD, index=i, uuid=f"GPU-{i}abc") for i in range(4))
DRIVER = Driver(version="570.124.06", cuda=(12, 8), cards=FOUR)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    monkeypatch.setattr(check, "_WAIT_S", 0.0)


@pytest.fixture
def rank_of_job_7() -> Iterator[int]:
    """Another process of the job 7."""
    environ = os.environ | {"SEDD_JOB_ID": "7", "SEDD_HOST": "node1"}
    process = subprocess.Popen(["sleep", "60"], env=environ)
    yield process.pid
    process.kill()
    process.wait()


def look(monkeypatch, make_context, driver, spec=None, **context):
    monkeypatch.setattr(check, "query_driver", lambda: driver)
    spec = {"resources.gpus_per_node": 2, "training.residues_per_step": 1024} | (spec or {})
    return check.judge(check.gather(make_context(spec, side=Side.NODE, **context)))


def test_cpu_jobs_ask_for_no_card(make_context):
    assert check.gather(make_context(side=Side.NODE)) is None


def test_no_driver_fails(monkeypatch, make_context):
    verdict = look(monkeypatch, make_context, None)
    assert verdict.status is Status.FAIL
    assert "no NVIDIA driver" in verdict.saw


@pytest.mark.parametrize(("devices", "status"), [("0,1", Status.OK), ("3", Status.FAIL), ("", Status.FAIL)])
def test_visible_cards_are_counted(monkeypatch, make_context, devices, status):
    verdict = look(monkeypatch, make_context, DRIVER, environ={"CUDA_VISIBLE_DEVICES": devices})
    assert verdict.status is status


def test_a_part_of_a_card_is_found_by_its_names_and_has_its_own_memory():
    part = Instance(names=("MIG-9c0e", "MIG-GPU-1abc/3/0"), memory_bytes=5 << 30, used_bytes=0)
    divided = dataclasses.replace(FOUR[1], instances=(part,))
    driver = dataclasses.replace(DRIVER, cards=(FOUR[0], divided))
    for name in ("MIG-9c0e", "MIG-9c", "MIG-GPU-1abc/3/0"):
        (seen,) = visible(driver, {"CUDA_VISIBLE_DEVICES": name})
        assert (seen.uuid, seen.memory_bytes, seen.index) == ("MIG-9c0e", 5 << 30, 1)
    assert visible(driver, {"CUDA_VISIBLE_DEVICES": "MIG-other"}) == ()
    assert visible(driver, {"CUDA_VISIBLE_DEVICES": "GPU-1abc"}) == (divided,)


def test_a_task_that_sees_its_own_card_alone_is_well(monkeypatch, make_context):
    verdict = look(monkeypatch, make_context, DRIVER, environ={"CUDA_VISIBLE_DEVICES": "2"}, ranks_size=2)
    assert verdict.status is Status.OK


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        (
            {"used_bytes": 20 << 30, "processes": ((4711, None),)},
            Status.FAIL,
            "busy: 20.0 GiB in use by process 4711",
        ),
        ({"used_bytes": 20 << 30}, Status.FAIL, "busy"),  # in a container other processes do not show
        ({"used_bytes": 2 << 30}, Status.OK, "idle"),  # the driver's own
        ({"ecc_errors": 3}, Status.FAIL, "3 uncorrected memory errors"),
        ({"is_retirement_pending": True}, Status.FAIL, "reset"),
        ({"retired_pages": 61}, Status.WARN, "61 pages"),
        ({"retired_pages": 2}, Status.OK, "idle"),
        ({"slowdowns": ("too hot",)}, Status.WARN, "too hot"),
        ({"ecc_errors": None, "retired_pages": None, "is_retirement_pending": None}, Status.OK, "idle"),
    ],
)
def test_state_of_a_card(changes, status, words):
    verdict = check.judge(
        check.Facts(asked=1, has_driver=True, cards=(dataclasses.replace(CARD, **changes),))
    )
    assert verdict.status is status
    assert words in verdict.saw


@pytest.mark.parametrize(
    ("devices", "indices"),
    [(None, [0, 1, 2, 3]), ("2,0", [2, 0]), ("GPU-1a", [1]), ("0,9,1", [0]), ("", []), ("-1", [])],
)
def test_cuda_visible_devices(devices, indices):
    environ = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    assert [card.index for card in visible(DRIVER, environ)] == indices


def used_by(*processes: tuple[int, int | None], used_bytes: int = 9 << 30) -> Driver:
    return dataclasses.replace(
        DRIVER, cards=tuple(dataclasses.replace(c, used_bytes=used_bytes, processes=processes) for c in FOUR)
    )


@pytest.mark.parametrize(
    ("job", "host", "status"),
    [("7", "node1", Status.OK), ("8", "node1", Status.FAIL), ("7", "n2", Status.FAIL)],
)
def test_another_rank_of_the_same_job_is_nobody_else(
    monkeypatch, make_context, rank_of_job_7, job, host, status
):
    driver = used_by((rank_of_job_7, 9 << 30))
    verdict = look(monkeypatch, make_context, driver, environ={"SEDD_JOB_ID": job, "SEDD_HOST": host})
    assert verdict.status is status


@pytest.mark.parametrize(("theirs", "status"), [(8 << 30, Status.FAIL), (10 << 20, Status.OK)])
def test_beside_it_only_what_others_take_counts(monkeypatch, make_context, rank_of_job_7, theirs, status):
    ours = 9 << 30
    driver = used_by((rank_of_job_7, ours), (os.getppid(), theirs), used_bytes=ours + theirs)
    environ = {"SEDD_JOB_ID": "7", "SEDD_HOST": "node1"}
    assert look(monkeypatch, make_context, driver, environ=environ).status is status


def test_without_a_job_every_other_process_is_somebody_elses(monkeypatch, make_context, rank_of_job_7):
    assert look(monkeypatch, make_context, used_by((rank_of_job_7, None)), environ={}).status is Status.FAIL


def test_a_job_that_is_just_ending_is_waited_for(monkeypatch, make_context):
    monkeypatch.setattr(check, "_WAIT_S", 20.0)
    seen = iter([used_by((4711, None)), used_by((4711, None)), DRIVER])
    monkeypatch.setattr(check, "query_driver", lambda: next(seen))
    spec = {"resources.gpus_per_node": 2, "training.residues_per_step": 1024}
    assert check.judge(check.gather(make_context(spec, side=Side.NODE))).status is Status.OK
