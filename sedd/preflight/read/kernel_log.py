"""Read the NVIDIA driver's errors (Xid) from the kernel's log, where users may read it."""

import re
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.command import run
from sedd.errors import ClusterError

# NVML tells an Xid only to who waits for it while it happens; of the past the kernel's log alone tells.
_COMMANDS = (["dmesg"], ["journalctl", "--dmesg", "--boot", "--no-pager", "--output=short-monotonic"])
_TIMEOUT_S = 2.0
_UPTIME = Path("/proc/uptime")
_LINE = re.compile(
    r"\[\s*(?P<seconds>\d+\.\d+)\] (?:\S+ kernel: )?NVRM: Xid \((?:PCI:)?(?P<bus>[0-9a-fA-F:.]+)\): "
    r"(?P<code>\d+),?\s*(?P<words>.*)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """One error that the driver reported.

    Attributes:
        bus: the card's PCI address, `(domain, bus, device)`.
        code: NVIDIA's number of the error.
        at_s: when, in seconds after the machine's start.
    """

    bus: tuple[int, int, int]
    code: int
    at_s: float
    words: str


def query_xids() -> tuple[Xid, ...]:
    """All Xid errors since the machine started. Raises: ClusterError: this user may not read the kernel's log."""
    refusals = []
    for command in _COMMANDS:
        try:
            text = run(command, timeout_s=_TIMEOUT_S)
        except ClusterError as e:
            refusals.append(e.message)
            continue
        if "[" in text:  # a kernel's log is never empty: journalctl shows others nothing
            return parse_xids(text)
        refusals.append(f"{command[0]} shows nothing")
    raise ClusterError(f"the kernel's log cannot be read: {'; '.join(refusals)}")


def parse_xids(text: str) -> tuple[Xid, ...]:
    """The driver's errors in the output of `dmesg`, or of `journalctl` with monotonic times."""
    return tuple(
        Xid(
            bus=parse_bus(match["bus"]),
            code=int(match["code"]),
            at_s=float(match["seconds"]),
            words=match["words"].strip().rstrip("."),
        )
        for line in text.splitlines()
        if (match := _LINE.fullmatch(line.strip()))
    )


def parse_bus(text: str) -> tuple[int, int, int]:
    """`0000:3b:00`, `00000000:3B:00.0` → (0, 59, 0)."""
    domain, bus, device = text.split(".")[0].split(":")[-3:]
    return int(domain, 16), int(bus, 16), int(device, 16)


def uptime_s() -> float:
    """Seconds since this machine started. Raises: OSError."""
    return float(_UPTIME.read_text(encoding="ascii").split()[0])
