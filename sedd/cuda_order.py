"""Which card CUDA means by a number: by default it counts from the fastest on, and the driver (NVML) by PCI address.

Numbers in CUDA_VISIBLE_DEVICES are CUDA's, those of nvidia-smi the driver's. Where all cards are of one kind, or
CUDA_DEVICE_ORDER is PCI_BUS_ID, they are the same. Not thus on a workstation with a card for its screen.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

ORDER = "CUDA_DEVICE_ORDER"
AS_DRIVER = "PCI_BUS_ID"
_TIMEOUT_S = 30.0
"""For the first use of a driver that keeps nothing in memory, with many cards."""
_PRINT_UUIDS = """
import ctypes, uuid
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for number in range(count.value):
    card, name = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    assert cuda.cuDeviceGet(ctypes.byref(card), number) == 0 and cuda.cuDeviceGetUuid(name, card) == 0
    print(f"GPU-{uuid.UUID(bytes=bytes(name))}")
"""
"""In a process of its own: CUDA reads its environment once, and takes memory of each process that has asked it."""


def cuda_order(cards: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> tuple[int, ...]:
    """The driver's number of each card that CUDA can use, by CUDA's number.

    `cards` are the UUIDs and kinds of all cards, by the driver's number. CUDA itself is asked, which takes a second,
    where it may count otherwise; without its answer, as the driver.
    """
    as_driver = tuple(range(len(cards)))
    if environ.get(ORDER) == AS_DRIVER or len({kind for _, kind in cards}) < 2:
        return as_driver
    numbers = {uuid: number for number, (uuid, _) in enumerate(cards)}
    found = query_cuda_uuids(environ.get(ORDER))
    return tuple(numbers[uuid] for uuid in found if uuid in numbers) or as_driver


def query_cards(nvml: Any) -> list[tuple[str, str]]:
    """UUID and kind of each card, by the driver's number. Raises: what `nvml`, which was begun, raises."""
    handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
    return [(_text(nvml.nvmlDeviceGetUUID(card)), _text(nvml.nvmlDeviceGetName(card))) for card in handles]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@functools.cache
def query_cuda_uuids(order: str | None) -> tuple[str, ...]:
    """The UUIDs of all cards as CUDA counts them with this CUDA_DEVICE_ORDER; none where it does not answer."""
    own = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", ORDER)}
    command = [sys.executable, "-I", "-c", _PRINT_UUIDS]
    try:
        done = subprocess.run(
            command,
            env=own if order is None else own | {ORDER: order},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(done.stdout.split())


def slurm_order(environ: Mapping[str, str]) -> dict[str, str]:
    """What lets CUDA count as SLURM does, by PCI address, in a job to which it has given cards by their numbers.

    Nothing where somebody has chosen an order.
    """
    is_given = "SLURM_JOB_ID" in environ and "CUDA_VISIBLE_DEVICES" in environ
    return {ORDER: AS_DRIVER} if is_given and ORDER not in environ else {}
