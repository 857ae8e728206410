"""The gradient of a micro-batch as a CUDA graph: one launch instead of a thousand.

Recorded once for each number of sequences, rounded up, and replayed with other contents in the same places of memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sedd.errors import RunError, SpecError
from sedd.model.attention import PAIRS
from sedd.model.cuda_graph import CudaRecorder, Record, Recording, is_worth_recording
from sedd.model.transformer import Transformer, draw_dropout_seed
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    from sedd.training.network import LossInputs


def uses_graphs(
    experiment: Experiment, model: Transformer, device: torch.device, *, is_compiled: bool, is_cut: bool
) -> bool:
    """Whether micro-batches are replayed.

    `is_cut`: each rank has a part of the weights alone. Raises: SpecError where `training.cuda_graphs` is true and they
    cannot be.
    """
    asked = experiment.training.cuda_graphs
    if asked is False:
        return False
    reason = _why_not(experiment, model, device, is_compiled=is_compiled, is_cut=is_cut)
    if asked is True and reason is not None:
        raise SpecError(
            f"training.cuda_graphs is true, but {reason}", hint="auto records graphs where it can"
        )
    return reason is None and (asked is True or is_worth_recording(device))


def _why_not(
    experiment: Experiment, model: Transformer, device: torch.device, *, is_compiled: bool, is_cut: bool
) -> str | None:
    if device.type != "cuda":
        return "there is no GPU"
    if obstacle := experiment.graph_obstacle:
        return obstacle
    if is_cut:
        return "each rank has a part of the weights alone"
    if is_compiled or model.kernels != "fused" or model.attention not in PAIRS:
        return "the network is not computed by the fused kernels"
    return None


@dataclass(frozen=True, slots=True)
class _Graph:
    recording: Recording
    inputs: "LossInputs"
    loss: Tensor
    gradients: list[Tensor]


class GradientGraphs:
    """Gradients of micro-batches, added up in the parameters' `grad`."""

    def __init__(
        self, model: Transformer, gradient: Callable[["LossInputs"], Tensor], record: Record | None = None
    ) -> None:
        """`gradient` adds that of a micro-batch's loss, which it returns; `record` defaults to CUDA graphs."""
        self._model, self._gradient = model, gradient
        self._record = record if record is not None else CudaRecorder()
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._device = self._parameters[0].device
        self._graphs: dict[torch.Size, _Graph] = {}
        self._sums: list[Tensor] = []
        self._seed = torch.zeros(1, dtype=torch.int64, device=self._device)

    def __call__(self, inputs: "LossInputs", *, is_alone: bool) -> Tensor:
        """Add the gradient of a micro-batch; returns its loss, to be read before the next call.

        `is_alone`: no other is added to it, so that it may stay where the graph writes it.
        """
        shape, begins = inputs.cu_seqlens.shape, self._parameters[0].grad is None
        if shape not in self._graphs:
            self._graphs[shape] = self._recorded(inputs)
        graph = self._graphs[shape]
        for place, value in zip(graph.inputs, inputs, strict=True):
            place.copy_(value)
        if self._model.dropout:
            self._seed.fill_(draw_dropout_seed())
        graph.recording.replay()
        self._attach(graph.gradients if begins and is_alone else self._summed(graph.gradients, begins))
        return graph.loss

    def _summed(self, gradients: list[Tensor], begins: bool) -> list[Tensor]:
        if not self._sums:
            self._sums = [torch.empty_like(gradient) for gradient in gradients]
        if begins:
            torch._foreach_copy_(self._sums, gradients)
        else:
            torch._foreach_add_(self._sums, gradients)
        return self._sums

    def _attach(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def _recorded(self, inputs: "LossInputs") -> _Graph:
        before = [parameter.grad for parameter in self._parameters]
        places = type(inputs)(*(value.clone() for value in inputs))
        loss = torch.zeros((), dtype=torch.float64, device=self._device)

        def work() -> None:
            self._attach([None] * len(self._parameters))
            loss.copy_(self._gradient(places))

        self._model.dropout_seed = self._seed
        try:
            recording = self._record(work)
            gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as e:
            raise RunError(
                f"the step could not be recorded as a CUDA graph: {e}", hint="training.cuda_graphs: false"
            ) from e
        finally:
            self._model.dropout_seed = None
        self._attach(before)
        return _Graph(recording, places, loss, gradients)
