"""Read the GPUs of this machine from the driver (NVML), without torch and without a CUDA context."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sedd.cluster.profile import Profile
from sedd.cuda_order import cuda_order
from sedd.preflight.context import CheckContext, Side

# Bits of nvmlDeviceGetCurrentClocksThrottleReasons that mean trouble, not idleness or a set limit.
_SLOWDOWNS = {0x08: "hardware slowdown", 0x40: "too hot", 0x80: "power brake", 0x20: "too hot (software)"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A part of a card that is a device of its own (MIG), and its names in CUDA_VISIBLE_DEVICES."""

    names: tuple[str, ...]
    memory_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One GPU. None: this driver or card does not say.

    Attributes:
        index: the driver's number, as nvidia-smi shows it.
        bus: PCI address: domain, bus, device.
        used_bytes: memory in use now, by whomever, the driver's own share included.
        processes: (pid, memory) of compute processes that are not this one.
        ecc_errors: uncorrected, since the driver was loaded.
        retired_pages: pages retired or rows remapped for uncorrected errors, over the card's life.
        is_retirement_pending: whether a reset is due to put faulty memory aside.
        slowdowns: why its clock is held down now, in words.
        instances: its parts, where it is divided.
    """

    index: int
    name: str
    uuid: str
    bus: tuple[int, int, int] | None
    capability: tuple[int, int] | None
    memory_bytes: int
    used_bytes: int
    processes: tuple[tuple[int, int | None], ...]
    ecc_errors: int | None
    retired_pages: int | None
    is_retirement_pending: bool | None
    slowdowns: tuple[str, ...]
    instances: tuple[Instance, ...] = ()

    def find_instance(self, name: str) -> Instance | None:
        """The part with a name that begins so, such as `MIG-9c0e`."""
        if not name.startswith("MIG-"):
            return None
        return next((part for part in self.instances if any(n.startswith(name) for n in part.names)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The NVIDIA driver and its cards."""

    version: str
    cuda: tuple[int, int]
    """Newest CUDA that the driver knows by itself."""
    cards: tuple[Card, ...]


def query_driver() -> Driver | None:
    """The driver and all its cards; None where there is no NVIDIA driver or no `nvidia-ml-py`."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        version, cuda = _text(pynvml.nvmlSystemGetDriverVersion()), pynvml.nvmlSystemGetCudaDriverVersion_v2()
        cards = tuple(_card(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
        return Driver(version=version, cuda=(cuda // 1000, cuda % 1000 // 10), cards=cards)
    finally:
        pynvml.nvmlShutdown()


def visible(driver: Driver, environ: Mapping[str, str]) -> tuple[Card, ...]:
    """The cards that CUDA_VISIBLE_DEVICES leaves this process, in its order; a part of one with its own memory.

    Numbers there, and the order without it, are CUDA's, not the driver's.
    """
    asked = environ.get("CUDA_VISIBLE_DEVICES")
    if asked is None:
        return _as_cuda_counts(driver, environ)
    chosen: list[Card] = []
    for word in filter(None, map(str.strip, asked.split(","))):
        if word.isdecimal():
            found = list(_as_cuda_counts(driver, environ)[int(word) :][:1])
        else:
            found = [card for card in (_named(card, word) for card in driver.cards) if card]
        if not found:
            break  # CUDA stops at the first name that it does not know
        chosen.append(found[0])
    return tuple(chosen)


def _as_cuda_counts(driver: Driver, environ: Mapping[str, str]) -> tuple[Card, ...]:
    order = cuda_order([(card.uuid, card.name) for card in driver.cards], environ)
    return tuple(driver.cards[number] for number in order)


def own_cards(driver: Driver, context: CheckContext) -> tuple[Card, ...]:
    """Of the cards that this process sees those that the run gets: the first; of a sweep here all that run at once."""
    return visible(driver, context.environ)[: context.cards_at_once]


def is_bound(cards: Sequence[Card], context: CheckContext) -> bool:
    """Whether SLURM has bound one card to each task, of which a process sees its own alone, as these."""
    asked = context.experiment.resources.gpus_per_node
    return context.side is Side.NODE and context.ranks_size > 1 and len(cards) == 1 < asked


def answers_for_cards(driver: Driver | None, context: CheckContext) -> bool:
    """Whether this process looks at the cards that it sees: a node's first, or one that alone sees its card."""
    return context.is_first_here or (
        driver is not None and is_bound(visible(driver, context.environ), context)
    )


def _named(card: Card, name: str) -> Card | None:
    """The card, or the part of it, that has this name: (the beginning of) a UUID, or of a MIG name."""
    if card.uuid.startswith(name):
        return card
    if part := card.find_instance(name):
        return dataclasses.replace(
            card, uuid=part.names[0], memory_bytes=part.memory_bytes, used_bytes=part.used_bytes, instances=()
        )
    return None


def _card(nvml: Any, index: int) -> Card:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)

    def ask(question: Callable[..., Any], *arguments: Any) -> Any:
        with _tolerating(nvml):
            return question(handle, *arguments)
        return None

    reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons) or 0
    processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses) or ()
    pages, is_pending = _faulty_memory(nvml, ask)
    return Card(
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        bus=_bus(ask(nvml.nvmlDeviceGetPciInfo)),
        capability=ask(nvml.nvmlDeviceGetCudaComputeCapability),
        memory_bytes=memory.total,
        used_bytes=memory.used,
        processes=tuple((p.pid, p.usedGpuMemory) for p in processes if p.pid != os.getpid()),
        ecc_errors=ask(
            nvml.nvmlDeviceGetTotalEccErrors, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
        retired_pages=pages,
        is_retirement_pending=is_pending,
        slowdowns=tuple(word for bit, word in _SLOWDOWNS.items() if reasons & bit),
        instances=_instances(nvml, handle, ask),
    )


def _instances(nvml: Any, handle: Any, ask: Callable[..., Any]) -> tuple[Instance, ...]:
    """The parts of a card in MIG mode; older drivers name them by the card's UUID and two numbers."""
    found = []
    for number in range(ask(nvml.nvmlDeviceGetMaxMigDeviceCount) or 0):
        with _tolerating(nvml):  # a place without an instance
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            numbers = f"{nvml.nvmlDeviceGetGpuInstanceId(part)}/{nvml.nvmlDeviceGetComputeInstanceId(part)}"
            memory = nvml.nvmlDeviceGetMemoryInfo(part)
            names = (
                _text(nvml.nvmlDeviceGetUUID(part)),
                f"MIG-{_text(nvml.nvmlDeviceGetUUID(handle))}/{numbers}",
            )
            found.append(Instance(names=names, memory_bytes=memory.total, used_bytes=memory.used))
    return tuple(found)


def _bus(pci: Any) -> tuple[int, int, int] | None:
    return None if pci is None else (int(pci.domain), int(pci.bus), int(pci.device))


def _faulty_memory(nvml: Any, ask: Callable[..., Any]) -> tuple[int | None, bool | None]:
    """Pages or rows set aside for uncorrected errors, and whether a reset is due; from Ampere on they are rows."""
    rows = ask(nvml.nvmlDeviceGetRemappedRows)
    if rows is not None:
        _correctable, uncorrectable, is_pending, _failed = rows
        return int(uncorrectable), bool(is_pending)
    pages = ask(nvml.nvmlDeviceGetRetiredPages, nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR)
    pending = ask(nvml.nvmlDeviceGetRetiredPagesPendingStatus)
    return (None if pages is None else len(pages)), (None if pending is None else bool(pending))


@contextlib.contextmanager
def _tolerating(nvml: Any) -> Iterator[None]:
    """Pass over what this card or driver does not know."""
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        yield


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def memory_of_a_card(profile: Profile, environ: Mapping[str, str], *, here: int | None) -> int | None:
    """Bytes of the smallest card of a job: of the first `here` of this machine; None: as the profile says."""
    if here is not None and (driver := query_driver()):
        return min((card.memory_bytes for card in visible(driver, environ)[:here]), default=None)
    return profile.gpu.memory
