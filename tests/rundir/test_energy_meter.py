"""Energy of a GPU: by its counter, else by its power; written down as long as the block runs."""

import itertools
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sedd import cuda_order
from sedd.rundir import energy_meter
from sedd.rundir.energy_meter import (
    CounterMeter,
    PowerMeter,
    card_of_rank,
    energy_written,
    meter_of,
    open_meter,
    read_rank,
)


class Driver:
    """Answers as NVML does; a question that the card does not know is an error."""

    def __init__(self, *, energy_mj: float | None = None, power_mw: float | None = None) -> None:
        self._energy, self._power = energy_mj, power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> float:  # noqa: N802 - NVML's name
        if self._energy is None:
            raise RuntimeError("Not Supported")
        return self._energy

    def nvmlDeviceGetPowerUsage(self, handle: object) -> float:  # noqa: N802 - NVML's name
        if self._power is None:
            raise RuntimeError("Not Supported")
        return self._power


def test_the_counter_is_preferred_and_power_is_second() -> None:
    both, power, neither = Driver(energy_mj=5.0, power_mw=7.0), Driver(power_mw=7.0), Driver()
    sources = [meter.source if (meter := meter_of(d, None)) else None for d in (both, power, neither)]
    assert sources == ["counter", "power", None]


def test_a_counter_counts_from_where_it_stood() -> None:
    values = iter([10_000.0, 12_500.0, 20_000.0])
    meter = CounterMeter(lambda: next(values))
    assert (meter.joules(), meter.joules()) == (2.5, 10.0)


def test_power_is_integrated_by_straight_lines() -> None:
    """100 W rising to 300 W in 10 s, and 10 s at 300 W."""
    powers, times = iter([100e3, 300e3, 300e3]), iter([0.0, 10.0, 20.0])
    meter = PowerMeter(lambda: next(powers), clock=lambda: next(times))
    assert (meter.joules(), meter.joules()) == (2000.0, 5000.0)


@pytest.mark.parametrize(
    ("environment", "card"),
    [
        ({}, "0"),
        ({"LOCAL_RANK": "3"}, "3"),
        ({"LOCAL_RANK": "4"}, None),
        ({"CUDA_VISIBLE_DEVICES": "2,5", "LOCAL_RANK": "1"}, "5"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-aa,GPU-bb"}, "GPU-aa"),
        ({"CUDA_VISIBLE_DEVICES": ""}, None),
        ({"CUDA_VISIBLE_DEVICES": "MIG-aa"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0", "LOCAL_RANK": "1"}, None),
    ],
)
def test_the_card_is_the_one_that_cuda_gives_the_rank(environment: dict[str, str], card: str | None) -> None:
    assert card_of_rank(environment, gpus=1, present=4) == card


def test_where_slurm_binds_a_card_to_each_task_every_rank_measures_its_own() -> None:
    """Each sees one card alone, by its own number or, in a control group of its own, as the only one there is."""
    by_number = [{"CUDA_VISIBLE_DEVICES": str(card), "LOCAL_RANK": str(card)} for card in range(4)]
    assert [card_of_rank(each, gpus=4, present=4) for each in by_number] == ["0", "1", "2", "3"]
    alone = [
        {"LOCAL_RANK": str(rank)} | named for rank in (0, 3) for named in ({}, {"CUDA_VISIBLE_DEVICES": "0"})
    ]
    assert [card_of_rank(each, gpus=4, present=1) for each in alone] == ["0"] * 4


def test_ranks_that_share_the_jobs_only_card_have_it_measured_once() -> None:
    shared = [{"CUDA_VISIBLE_DEVICES": "2", "LOCAL_RANK": str(rank)} for rank in range(3)]
    assert [card_of_rank(each, gpus=1, present=4) for each in shared] == ["2", None, None]


def test_numbers_of_cards_are_cudas_which_begin_with_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's first card, of the screen, has taken 7 kJ since, the second 5 kJ."""
    counted = {0: itertools.count(0, 7_000_000), 1: itertools.count(0, 5_000_000)}
    driver = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-screen": 0, "GPU-big": 1}[uuid],
        nvmlDeviceGetUUID=lambda handle: ("GPU-screen", "GPU-big")[handle],
        nvmlDeviceGetName=lambda handle: (b"T400", "A100")[handle],
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counted[handle]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(cuda_order, "query_cuda_uuids", lambda order: ("GPU-big", "GPU-screen"))

    def kilojoules(**environment: str) -> float:
        meter = open_meter(environment)
        assert meter is not None
        return meter.joules() / 1000

    assert kilojoules() == 5
    assert kilojoules(CUDA_VISIBLE_DEVICES="0") == 5
    assert kilojoules(CUDA_VISIBLE_DEVICES="1") == 7
    assert kilojoules(CUDA_VISIBLE_DEVICES="GPU-screen") == 7
    assert kilojoules(CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID") == 7


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    assert open_meter({"CUDA_VISIBLE_DEVICES": ""}) is None
    with energy_written(tmp_path / "energy", rank=0, attempt=1, meter=None):
        pass
    assert not (tmp_path / "energy").exists()


def test_each_attempt_adds_its_own(tmp_path: Path) -> None:
    for attempt in (1, 2):
        counts = itertools.count(0, 1000)
        with energy_written(
            tmp_path / "energy",
            rank=0,
            attempt=attempt,
            meter=CounterMeter(lambda: float(next(counts))),  # noqa: B023 - used within this turn
            sample_s=0.001,
        ):
            deadline = time.monotonic() + 20
            path = tmp_path / "energy" / "rank-0.json"
            while attempt not in read_rank(path) and time.monotonic() < deadline:
                time.sleep(0.01)
    found = read_rank(path)
    assert set(found) == {1, 2}
    assert all(energy.joules >= 6 and energy.source == "counter" for energy in found.values())


def test_a_driver_that_fails_costs_only_the_number(tmp_path: Path) -> None:
    answers = iter([1.0])
    with energy_written(tmp_path, rank=0, attempt=1, meter=CounterMeter(lambda: next(answers))):
        pass
    assert read_rank(tmp_path / "rank-0.json") == {}


def test_a_driver_that_answers_no_more_does_not_hold_the_training_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a card has fallen off the bus: the fault must be told, not waited on."""
    monkeypatch.setattr(energy_meter, "LAST_S", 0.1)
    is_asked, may_answer = threading.Event(), threading.Event()

    class Stuck:
        source = "counter"

        def joules(self) -> float:
            is_asked.set()
            may_answer.wait()
            return 0.0

    def training() -> None:
        with energy_written(tmp_path, rank=0, attempt=1, meter=Stuck(), sample_s=0.01):
            is_asked.wait()

    thread = threading.Thread(target=training, daemon=True)
    thread.start()
    thread.join(10)
    is_held = thread.is_alive()
    may_answer.set()
    assert not is_held
