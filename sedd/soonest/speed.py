"""How long a step takes on a number of GPUs: one GPU's time shared out, and the sum of the gradients. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.soonest.shapes import Layout

INSIDE_BYTES_S, BETWEEN_BYTES_S = 40e9, 8e9
"""What all_reduce moves within a node over NVLink, and between nodes over one adapter of 100 Gbit/s."""
LATENCY_S = 0.002
"""Of a step's messages."""
GRADIENT_BYTES = 4
"""Of a parameter: gradients are summed in fp32."""
_LEAST_COMPUTE = 0.2
"""Share of a measured step that is computing at least, whatever the estimate of the messages says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an attempt of an earlier run did, over all its GPUs, validation and checkpoints included."""

    layout: Layout
    residues_per_s: float
    residues_per_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Seconds a step for one network on one kind of card.

    Attributes:
        residue_s: GPU-seconds of a residue, without messages.
        parameters: of the network.
        source: where `residue_s` is from, in words.
    """

    residue_s: float
    parameters: int
    source: str

    def step_s(self, residues: int, layout: Layout) -> float:
        """Seconds of a step of this many residues over all GPUs."""
        return residues * self.residue_s / layout.gpus + messages_s(self.parameters, layout)

    def efficiency(self, residues: int, layout: Layout) -> float:
        """Share of the GPUs' time that computes: 1 on one GPU."""
        return residues * self.residue_s / layout.gpus / self.step_s(residues, layout)


def messages_s(parameters: int, layout: Layout) -> float:
    """Seconds in which the GPUs sum their gradients: a ring's 2 (n - 1)/n of them pass each link once a step."""
    if layout.gpus == 1:
        return 0.0
    rate = INSIDE_BYTES_S if layout.nodes == 1 else BETWEEN_BYTES_S
    return 2 * (layout.gpus - 1) / layout.gpus * GRADIENT_BYTES * parameters / rate + LATENCY_S


def speed_of(measured: Sequence[Measured], *, parameters: int, source: str) -> Speed:
    """The speed that explains what was measured: the median of the attempts."""
    return Speed(
        residue_s=statistics.median(_residue_s(each, parameters) for each in measured),
        parameters=parameters,
        source=source,
    )


def _residue_s(measured: Measured, parameters: int) -> float:
    step_s = measured.residues_per_step / measured.residues_per_s
    computing_s = max(step_s - messages_s(parameters, measured.layout), _LEAST_COMPUTE * step_s)
    return computing_s * measured.layout.gpus / measured.residues_per_step
