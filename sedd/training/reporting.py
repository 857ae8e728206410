"""Report an attempt as metric rows, tracker updates, heartbeats and log lines; rank 0 alone does."""

import time
from collections.abc import Callable

import torch

from sedd.rundir.heartbeat_writer import HeartbeatWriter
from sedd.rundir.validation_rows import ValidationRow
from sedd.spec.training import TrainingSpec
from sedd.training.async_saver import Saver
from sedd.training.metrics import RunLogs
from sedd.training.tracking import Tracker
from sedd.training.validation import perplexity
from sedd.units import format_count, format_duration

Notify = Callable[[str], None]


class Reporter:
    """Turn steps into metric rows and heartbeats. Only rank 0 has `logs` and writes heartbeats."""

    def __init__(
        self,
        spec: TrainingSpec,
        *,
        logs: RunLogs | None,
        tracker: Tracker,
        heartbeat: HeartbeatWriter,
        saver: Saver,
        notify: Notify,
    ) -> None:
        self._spec = spec
        self._logs = logs
        self._tracker = tracker
        self._heartbeat = heartbeat
        self._saver = saver
        self._notify = notify
        self._last = (time.monotonic(), -1)

    def begin(self, step: int) -> None:
        """The loop starts after `step` steps: the clock of residues/s runs from here."""
        self._last = (time.monotonic(), step)
        self._heartbeat.update(phase="training", step=step)

    def phase(self, name: str) -> None:
        """The loop does something else than steps for a while."""
        self._heartbeat.update(phase=name)

    def step(self, step: int) -> None:
        """A step was taken."""
        newest = self._saver.newest
        self._heartbeat.update(
            phase="training",
            step=step,
            checkpoint_step=newest.step if newest else None,
            checkpoint_t=newest.t if newest else None,
        )

    def row(self, row: dict[str, float | int], validation: ValidationRow | None = None) -> None:
        """A logged step: to metrics.jsonl, validations.jsonl, the tracker, the heartbeat and the log."""
        step, now = int(row["step"]), time.monotonic()
        since, first = self._last
        rate = (step - first) * self._spec.residues_per_step / max(now - since, 1e-9)
        self._last = (now, step)
        eta = (self._spec.steps - step) * self._spec.residues_per_step / max(rate, 1e-9)
        if self._logs:
            self._logs.write(row, validation)
        self._tracker.log(row | {"residues_per_s": rate})
        known = {
            "loss": row["loss"],
            "residues_per_s": rate,
            "eta_s": eta,
            "gpu_memory_bytes": _peak_memory(),
        }
        if "validation_bound" in row:
            known["validation_bound"] = row["validation_bound"]
        self._heartbeat.update(step=step, **known)
        self._notify(_line(row, self._spec.steps, rate, eta))


def metric_row(
    step: int, *, loss: float, grad_norm: float, learning_rate: float, residues: int, bound: float | None
) -> dict[str, float | int]:
    """A row of metrics.jsonl: a function of (spec, step), without a clock."""
    row: dict[str, float | int] = {
        "step": step,
        "loss": loss,
        "grad_norm": grad_norm,
        "learning_rate": learning_rate,
        "residues": residues,
    }
    if bound is not None:
        row |= {"validation_bound": bound, "validation_perplexity": perplexity(bound)}
    return row


def _line(row: dict[str, float | int], steps: int, rate: float, eta_s: float) -> str:
    line = f"step {row['step']}/{steps}  loss {row['loss']:.4f}"
    if "validation_bound" in row:
        line += f"  validation {row['validation_bound']:.4f} (perplexity {row['validation_perplexity']:.2f})"
    return f"{line}  {format_count(rate)} residues/s  {format_duration(eta_s)} left"


def _peak_memory() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
