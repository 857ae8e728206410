"""Cards missing, busy, worn or slowed down; and what CUDA_VISIBLE_DEVICES leaves."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sedd import cuda_order
from sedd.preflight.checks import gpus as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status
from sedd.preflight.read.cards import Driver, Instance, visible
from sedd.rundir.layout import RunDir

CARD = check.CHECK.passing.cards[0]
FOUR = tuple(dataclasses.replace(CARD, index=i, uuid=f"GPU-{i}abc") for i in range(4))
DRIVER = Driver(version="570.124.06", cuda=(12, 8), cards=FOUR)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch):
    monkeypatch.setattr(check, "_WAIT_S", 0.0)


OURS = {"SEDD_JOB_ID": "7", "SEDD_HOST": "node1", "SEDD_ATTEMPT": "3"}
"""What tells the third attempt of job 7."""
START_AS = """
import sys, time
from sedd.rundir.process_name import name_process
if sys.argv[1]:
    name_process(sys.argv[1])
print(flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def process_of(name: str = "", **environ: str) -> Iterator[int]:
    """Another process, with our environment and this one; it bears its name once it is yielded."""
    process = subprocess.Popen(
        [sys.executable, "-c", START_AS, name], env=os.environ | environ, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def rank_of_job_7() -> Iterator[int]:
    """Another process of the job 7, in its third attempt."""
    with process_of(**OURS) as pid:
        yield pid


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


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({}, [2, 0, 1, 3]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, [2]),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, [3, 0]),
        ({"CUDA_VISIBLE_DEVICES": "4,1"}, []),
        ({"CUDA_VISIBLE_DEVICES": f"{FOUR[1].uuid},0"}, [1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0, 1, 2, 3]),
    ],
)
def test_numbers_of_cards_are_cudas_which_begin_with_the_fastest(monkeypatch, environ, seen):
    """Else the check would look at one card, and the run take another, which may be somebody else's."""
    cards = (*FOUR[:2], dataclasses.replace(FOUR[2], name="A100"), FOUR[3])
    by_speed = tuple(cards[number].uuid for number in (2, 0, 1, 3))
    monkeypatch.setattr(cuda_order, "query_cuda_uuids", lambda order: by_speed)
    driver = dataclasses.replace(DRIVER, cards=cards)
    assert [card.index for card in visible(driver, environ)] == seen


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
    ("parallel", "runs", "gpus", "status", "words"),
    [
        (2, 6, (2, 2), Status.OK, "idle"),
        (4, 6, (1, 1), Status.OK, "idle"),
        (4, 2, (2, 2), Status.OK, "idle"),  # there are no more than two
        (None, 6, (2, 2), Status.OK, "idle"),  # one after the other
        (3, 6, (2, 2), Status.WARN, "4 GPUs visible: 2 runs at a time, not 3"),
        (3, 6, (1, 2), Status.WARN, "4 GPUs visible: 2 runs at a time, not 3"),
        (2, 2, (3, 3), Status.WARN, "4 GPUs visible: 1 run at a time, not 2"),
    ],
)
def test_a_local_sweep_is_told_how_many_runs_at_a_time_have_cards(
    monkeypatch, make_context, parallel, runs, gpus, status, words
):
    monkeypatch.setattr(check, "query_driver", lambda: DRIVER)
    kinds = [{"resources.gpus_per_node": n, "training.residues_per_step": 3072} for n in gpus]
    points = tuple(make_context(kinds[n % 2]).experiment for n in range(runs))
    verdict = check.judge(check.gather(make_context(kinds[0], request=points, parallel=parallel)))
    assert verdict.status is status
    assert words in verdict.saw


def with_one_busy(index: int, pid: int = 4711) -> Driver:
    taken = dataclasses.replace(FOUR[index], used_bytes=9 << 30, processes=((pid, 9 << 30),))
    return dataclasses.replace(DRIVER, cards=(*FOUR[:index], taken, *FOUR[index + 1 :]))


@pytest.mark.parametrize(
    ("busy", "gpus", "runs", "parallel", "devices", "status"),
    [
        (1, 1, 1, None, None, Status.OK),  # a card that the run does not get
        (0, 1, 1, None, None, Status.FAIL),
        (1, 2, 1, None, None, Status.FAIL),
        (0, 1, 1, None, "2,0", Status.OK),
        (2, 1, 1, None, "2,0", Status.FAIL),
        (2, 1, 6, 2, None, Status.OK),  # two runs at a time have the first two
        (1, 1, 6, 2, None, Status.FAIL),
        (1, 1, 6, None, None, Status.OK),
        (3, 2, 6, 4, None, Status.FAIL),  # all there are
    ],
)
def test_cards_that_a_run_on_this_machine_gets_are_judged_and_no_others(
    monkeypatch, make_context, busy, gpus, runs, parallel, devices, status
):
    monkeypatch.setattr(check, "query_driver", lambda: with_one_busy(busy))
    spec = {"resources.gpus_per_node": gpus, "training.residues_per_step": 1024}
    request = tuple(make_context(spec).experiment for _ in range(runs))
    environ = {"CUDA_VISIBLE_DEVICES": devices} if devices else {}
    context = make_context(spec, request=request, parallel=parallel, environ=environ)
    assert check.judge(check.gather(context)).status is status


def test_a_run_that_is_changed_is_not_in_its_own_way_nor_are_points_of_its_sweep(
    monkeypatch, make_context, tmp_path
):
    """`sedd requeue --gpus` of a run that trains on this machine ends it first, and waits for its neighbours."""
    runs = [RunDir(tmp_path / "small" / name) for name in ("1", "2", "3")]
    for run, sweep in zip(runs, ("sweep-1", "sweep-1", "sweep-2"), strict=True):
        run.path.mkdir(parents=True)
        run.manifest.write_text(json.dumps({"sweep": sweep}))
        run.spec.write_text("")
    own, neighbour, stranger = runs
    for user, status in ((own, Status.OK), (neighbour, Status.OK), (stranger, Status.FAIL)):
        sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(user.path)])
        try:
            monkeypatch.setattr(check, "query_driver", lambda pid=sleeping.pid: with_one_busy(0, pid))
            context = make_context({"resources.gpus_per_node": 1}, changed=own)
            assert check.judge(check.gather(context)).status is status
        finally:
            sleeping.kill()
            sleeping.wait()


def test_a_node_is_not_at_fault_for_a_card_that_the_job_did_not_ask_for(monkeypatch, make_context):
    """Where SLURM confines nothing, a job sees all cards and trains on the first."""
    assert look(monkeypatch, make_context, with_one_busy(2)).status is Status.OK
    assert look(monkeypatch, make_context, with_one_busy(1)).status is Status.FAIL


@pytest.mark.parametrize(("devices", "status"), [("1", Status.OK), ("2", Status.FAIL)])
def test_every_task_looks_at_the_card_that_it_alone_sees(monkeypatch, make_context, devices, status):
    """SLURM binds a card to each task; what the first task sees says nothing of the others' cards."""
    own = {"environ": {"CUDA_VISIBLE_DEVICES": devices}, "ranks_size": 2, "rank": 1, "local_rank": 1}
    verdict = look(monkeypatch, make_context, with_one_busy(2), **own)
    assert verdict.status is status


@pytest.mark.parametrize("devices", ["0,1", "1,2,3"])
def test_cards_that_all_tasks_see_are_looked_at_once(monkeypatch, make_context, devices):
    monkeypatch.setattr(check, "query_driver", lambda: with_one_busy(1))
    spec = {"resources.gpus_per_node": 2, "training.residues_per_step": 1024}
    others = {"environ": {"CUDA_VISIBLE_DEVICES": devices}, "ranks_size": 2, "rank": 1, "local_rank": 1}
    assert check.gather(make_context(spec, side=Side.NODE, **others)) is None


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
    verdict = look(monkeypatch, make_context, driver, environ=OURS | {"SEDD_JOB_ID": job, "SEDD_HOST": host})
    assert verdict.status is status


@pytest.mark.parametrize(("theirs", "status"), [(8 << 30, Status.FAIL), (10 << 20, Status.OK)])
def test_beside_it_only_what_others_take_counts(monkeypatch, make_context, rank_of_job_7, theirs, status):
    ours = 9 << 30
    driver = used_by((rank_of_job_7, ours), (os.getppid(), theirs), used_bytes=ours + theirs)
    assert look(monkeypatch, make_context, driver, environ=OURS).status is status


@pytest.mark.parametrize(
    ("name", "started_with", "status"),
    [
        ("sedd a2 r1", "2", Status.FAIL),
        ("", "2", Status.FAIL),  # as a compiler that a rank has started
        ("sedd a3 r1", "3", Status.OK),
        ("sedd a3 r1", None, Status.OK),  # it stood by since an earlier attempt
        ("sedd a2 r1", None, Status.FAIL),
        ("", None, Status.FAIL),
    ],
)
def test_what_an_earlier_attempt_of_the_job_has_left_is_not_ours(
    monkeypatch, make_context, name, started_with, status
):
    """A rank that SIGKILL could not end keeps its memory: training beside it would run out of it."""
    own = {k: v for k, v in OURS.items() if k != "SEDD_ATTEMPT"}
    with process_of(name, **own | ({"SEDD_ATTEMPT": started_with} if started_with else {})) as pid:
        verdict = look(monkeypatch, make_context, used_by((pid, 9 << 30)), environ=OURS)
    assert verdict.status is status


def test_without_a_job_every_other_process_is_somebody_elses(monkeypatch, make_context, rank_of_job_7):
    assert look(monkeypatch, make_context, used_by((rank_of_job_7, None)), environ={}).status is Status.FAIL


def test_a_job_that_is_just_ending_is_waited_for(monkeypatch, make_context):
    monkeypatch.setattr(check, "_WAIT_S", 20.0)
    seen = iter([used_by((4711, None)), used_by((4711, None)), DRIVER])
    monkeypatch.setattr(check, "query_driver", lambda: next(seen))
    spec = {"resources.gpus_per_node": 2, "training.residues_per_step": 1024}
    assert check.judge(check.gather(make_context(spec, side=Side.NODE))).status is Status.OK
