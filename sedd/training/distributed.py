"""The ranks of a job: this process's place among them, and agreement between them."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from sedd.errors import UsageError

TIMEOUT = dt.timedelta(minutes=10)
"""Longest wait for another rank: longer than a slow file system takes to load data, shorter than a walltime."""


_TEXT_BYTES = 256

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""With which torchrun, or our launcher, tells a process its place among the ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those of the job, as torchrun and our launcher say it in the environment."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Ranks":
        """RANK, WORLD_SIZE and LOCAL_RANK; absent: a single process.

        Raises:
            UsageError: they do not go together, as when some are left over from another run.
        """
        said = {name: environment[name] for name in (*VARIABLES, "LOCAL_RANK") if name in environment}
        numbers = {name: value for name, value in said.items() if name != "MASTER_ADDR"}
        if not all(value.isdecimal() for value in numbers.values()):
            raise _inconsistent(said, "numbers are needed")
        rank, size = int(numbers.get("RANK", 0)), int(numbers.get("WORLD_SIZE", 1))
        if rank >= size:
            raise _inconsistent(said, f"there is no rank {rank} among {size}")
        if size > 1 and (missing := [name for name in VARIABLES if name not in said]):
            raise _inconsistent(
                said, f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
            )
        return cls(rank=rank, size=size, local_rank=int(numbers.get("LOCAL_RANK", 0)))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def device(self) -> torch.device:
        """The GPU of this rank, else the CPU. A task to which SLURM bound a single GPU sees that one as 0."""
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            return torch.device("cpu")
        return torch.device("cuda", self.local_rank if self.local_rank < count else 0)

    def gpus_here(self) -> int:
        """How many GPUs the ranks take where one machine has them all."""
        return min(self.size, torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _inconsistent(said: Mapping[str, str], problem: str) -> UsageError:
    told = " ".join(f"{name}={value}" for name, value in said.items())
    return UsageError(
        f"{told} in the environment: {problem}",
        hint=f"start ranks with torchrun; for one process alone: unset {' '.join(said)}",
    )


def choose_device(ranks: Ranks) -> torch.device:
    """This rank's device, from now on the one that libraries take, too."""
    device = ranks.device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


class Group:
    """The ranks of a job, connected: one backend for tensors, one on the CPU for decisions."""

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        self.ranks = ranks
        self._device = device
        self._control = dist.new_group(backend="gloo", timeout=TIMEOUT) if ranks.size > 1 else None

    def any(self, flag: bool) -> bool:
        """Whether any rank says True: the same answer on all, without a look at the GPU."""
        if self._control is None:
            return flag
        vote = torch.tensor(int(flag))
        dist.all_reduce(vote, op=dist.ReduceOp.MAX, group=self._control)
        return bool(vote)

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Replace a tensor by its sum over the ranks."""
        if self.ranks.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self._control is not None:
            dist.barrier(group=self._control)

    def first_says(self, value: int) -> int:
        """Rank 0's value, on all ranks."""
        if self._control is None:
            return value
        box = torch.tensor(value)
        dist.broadcast(box, src=0, group=self._control)
        return int(box)

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """All ranks' numbers, of each as many, on all ranks; in the order of ranks."""
        if self._control is None:
            return [[*numbers]]
        own = torch.tensor(numbers, dtype=torch.float64)
        boxes = [torch.empty_like(own) for _ in range(self.ranks.size)]
        dist.all_gather(boxes, own, group=self._control)
        return [box.tolist() for box in boxes]

    def gather_text(self, text: str) -> list[str]:
        """All ranks' texts, on all ranks; in the order of ranks."""
        coded = text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES)
        return [bytes(map(int, codes)).decode(errors="replace").rstrip() for codes in self.gather([*coded])]

    def first_sends(self, content: bytes | None) -> bytes:
        """Rank 0's bytes, on all ranks; those of others do not count."""
        if self._control is None:
            return content or b""
        size = self.first_says(len(content or b""))
        box = torch.empty(size, dtype=torch.uint8)
        if self.ranks.is_first and content:
            box = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(box, src=0, group=self._control)
        return box.numpy().tobytes()


@contextlib.contextmanager
def connected(ranks: Ranks, device: torch.device) -> Iterator[Group]:
    """Connect the ranks (NCCL on GPUs, gloo on CPUs) and disconnect them at the end.

    A rank that fails does not disconnect: with NCCL it would wait for the other ranks, which wait for it in a
    collective, and its error would never be reported. The end of its process disconnects it.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if ranks.size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    yield Group(ranks, device)
    if ranks.size > 1:
        dist.destroy_process_group()
