"""CUDA counts cards from the fastest on, the driver by PCI address: numbers of one are not taken for the other's."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sedd import cuda_order as module
from sedd.cuda_order import cuda_order, query_cuda_uuids, slurm_order

WORKSTATION = (("GPU-screen", "T400"), ("GPU-big", "A100"), ("GPU-small", "T4"))
ALIKE = (("GPU-a", "V100"), ("GPU-b", "V100"))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    query_cuda_uuids.cache_clear()
    yield
    query_cuda_uuids.cache_clear()


def answers(monkeypatch: pytest.MonkeyPatch, *uuids: str) -> list[str | None]:
    """Let CUDA count so; the orders that it is asked for."""
    asked: list[str | None] = []
    monkeypatch.setattr(module, "query_cuda_uuids", lambda order: asked.append(order) or uuids)
    return asked


def test_on_a_machine_with_cards_of_several_kinds_cuda_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, "GPU-big", "GPU-small", "GPU-screen")
    assert cuda_order(WORKSTATION, {}) == (1, 2, 0)
    assert cuda_order(WORKSTATION, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}) == (1, 2, 0)
    assert asked == [None, "FASTEST_FIRST"]


def test_cards_that_cuda_cannot_use_have_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "GPU-big", "GPU-small")
    assert cuda_order(WORKSTATION, {}) == (1, 2)


def test_where_both_count_alike_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, "GPU-b", "GPU-a")
    assert cuda_order(WORKSTATION, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (0, 1, 2)
    assert cuda_order(ALIKE, {}) == (0, 1)
    assert cuda_order((), {}) == ()
    assert asked == []


def test_without_an_answer_cuda_is_taken_to_count_as_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PRINT_UUIDS", "raise OSError('libcuda.so.1: cannot open')")
    assert cuda_order(WORKSTATION, {}) == (0, 1, 2)


def test_cuda_is_asked_for_all_cards_and_in_the_order_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('CUDA_DEVICE_ORDER'))"
    monkeypatch.setattr(module, "_PRINT_UUIDS", shown)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert query_cuda_uuids(None) == ("None", "None")
    assert query_cuda_uuids("FASTEST_FIRST") == ("None", "FASTEST_FIRST")


LIBCUDA = """
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *card, int number) { *card = number; return 0; }
int cuDeviceGetUuid(unsigned char *uuid, int card) {
    memset(uuid, 0xab, 16); uuid[0] = 0x01; uuid[15] = (unsigned char)card; return 0;
}
"""


def test_uuids_are_written_as_the_driver_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("cc"):
        pytest.skip("no C compiler for a stand-in of libcuda: install gcc to enable")
    (tmp_path / "cuda.c").write_text(LIBCUDA)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert query_cuda_uuids(None) == tuple(
        f"GPU-01ababab-abab-abab-abab-ababababab{number}" for number in ("00", "01")
    )


@pytest.mark.parametrize(
    ("environ", "added"),
    [
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        ({"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, {}),
        ({"SLURM_JOB_ID": "7"}, {}),
        ({"CUDA_VISIBLE_DEVICES": "2"}, {}),
    ],
)
def test_slurms_numbers_mean_cards_by_pci_address(environ: dict[str, str], added: dict[str, str]) -> None:
    assert slurm_order(environ) == added
