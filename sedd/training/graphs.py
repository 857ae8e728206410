"""The gradient of a micro-batch as a CUDA graph: one launch instead of a thousand.

Recorded once for each number of sequences, rounded up, and replayed with other contents in the same places of memory.
A host takes 30 to 50 ms to launch the kernels of a step one by one: longer than a fast card needs for a micro-batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sedd.errors import RunError, SpecError
from sedd.model.attention import PAIRS
from sedd.model.transformer import Transformer, draw_dropout_seed
from sedd.spec.experiment import Experiment
from sedd.training.distributed import Ranks
from sedd.training.network import LossInputs, Network

_FROM = (8, 0)
"""Capability from which `auto` records graphs: on a V100 the host waits for the card, and a graph only takes memory."""


class Recording(Protocol):
    """Work on the device that can be done again, on what lies in the same places then."""

    def replay(self) -> None: ...


Record = Callable[[Callable[[], None]], Recording]
"""Records what a function launches, without doing it."""


def uses_graphs(experiment: Experiment, network: Network, ranks: Ranks, device: torch.device) -> bool:
    """Whether micro-batches are replayed. Raises: SpecError where `training.cuda_graphs` is true and they cannot be."""
    asked = experiment.training.cuda_graphs
    if asked is False:
        return False
    reason = _why_not(experiment, network, ranks, device)
    if asked is True and reason is not None:
        raise SpecError(
            f"training.cuda_graphs is true, but {reason}", hint="auto records graphs where it can"
        )
    is_fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _FROM
    return reason is None and (asked is True or is_fast)


def _why_not(experiment: Experiment, network: Network, ranks: Ranks, device: torch.device) -> str | None:
    if device.type != "cuda":
        return "there is no GPU"
    if ranks.size > 1:
        return "several ranks exchange gradients while they are computed"
    if network.is_compiled or network.model.kernels != "fused" or network.model.attention not in PAIRS:
        return "the network is not computed by the fused kernels"
    if experiment.training.activation_checkpointing:
        return "activation_checkpointing recomputes with random states that a graph cannot hold"
    if experiment.diffusion.curriculum is not None:
        return "a curriculum changes the loss from step to step"
    return None


@dataclass(frozen=True, slots=True)
class _Graph:
    recording: Recording
    inputs: LossInputs
    loss: Tensor


class GradientGraphs:
    """Gradients of micro-batches, added up in the parameters' `grad`, whose memory stays the same from step to step."""

    def __init__(
        self, model: Transformer, gradient: Callable[[LossInputs], Tensor], record: Record | None = None
    ) -> None:
        """`gradient` adds that of a micro-batch's loss, which it returns; `record` defaults to CUDA graphs."""
        self._model, self._gradient = model, gradient
        self._record = record if record is not None else CudaRecorder()
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._gradients = [torch.zeros_like(p) for p in self._parameters]
        self._graphs: dict[torch.Size, _Graph] = {}
        self._seed = torch.zeros(1, dtype=torch.int64, device=self._gradients[0].device)

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Add the gradient of a micro-batch; returns its loss, to be read before the next call."""
        self._take_gradients_up()
        shape = inputs.cu_seqlens.shape
        if shape not in self._graphs:
            self._graphs[shape] = self._recorded(inputs)
        graph = self._graphs[shape]
        for place, value in zip(graph.inputs, inputs, strict=True):
            place.copy_(value)
        if self._model.dropout:
            self._seed.fill_(draw_dropout_seed())
        graph.recording.replay()
        return graph.loss

    def _take_gradients_up(self) -> None:
        """Begin a step's sum, unless it has begun: whoever begins one has set `grad` to None."""
        if self._parameters[0].grad is None:
            torch._foreach_zero_(self._gradients)
            self._attach()

    def _attach(self) -> None:
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def _recorded(self, inputs: LossInputs) -> _Graph:
        places = LossInputs(*(value.clone() for value in inputs))
        loss = torch.zeros((), dtype=torch.float64, device=self._seed.device)

        def work() -> None:
            loss.copy_(self._gradient(places))

        self._model.dropout_seed = self._seed
        try:
            for parameter in self._parameters:
                parameter.grad = None  # the rehearsal's is thrown away
            self._rehearse(work)
            self._attach()
            return _Graph(self._record(work), places, loss)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as e:
            raise RunError(
                f"the step could not be recorded as a CUDA graph: {e}", hint="training.cuda_graphs: false"
            ) from e
        finally:
            self._model.dropout_seed = None

    def _rehearse(self, work: Callable[[], None]) -> None:
        """Once by single launches: libraries make their choices and workspaces, which a recording cannot."""
        if self._seed.device.type != "cuda":
            return
        stream = torch.cuda.Stream(self._seed.device)  # type: ignore[no-untyped-call] # torch
        stream.wait_stream(torch.cuda.current_stream(self._seed.device))
        with torch.cuda.stream(stream):
            for _ in range(2):
                work()
                for parameter in self._parameters:
                    parameter.grad = None
        torch.cuda.current_stream(self._seed.device).wait_stream(stream)
        torch.cuda.synchronize(self._seed.device)
        torch.cuda.empty_cache()  # a graph has memory of its own


class CudaRecorder:
    """Records CUDA graphs, all in the same memory: they are replayed one after the other."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that loads batches may pin memory meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        return graph
