"""Report an attempt as metric rows, tracker updates, heartbeats and log lines; rank 0 alone does."""

import time
from collections.abc import Callable

import torch

from sedd.rundir.heartbeat_writer import HeartbeatWriter
from sedd.rundir.rank_progress import ProgressWriter
from sedd.rundir.validation_rows import ValidationRow
from sedd.spec.training import TrainingSpec
from sedd.training.async_saver import Saver
from sedd.training.metrics import RunLogs
from sedd.training.tracking import Tracker
from sedd.training.validation import perplexity
from sedd.units import format_count, format_duration

Notify = Callable[[str], None]


_COMPILING_STEPS = 100
"""With `training.compile`: new shapes of batches are compiled in the first steps."""


def warm_up_steps(spec: TrainingSpec, *, is_on_gpu: bool) -> int:
    """Steps of an attempt whose times say little of those that follow.

    On a GPU the host runs ahead of the card, and waits for it where a row is logged: after two windows of
    `log_every_steps` the slowest step holds the whole of such a wait.
    """
    waits = 2 * spec.log_every_steps if is_on_gpu else 1
    return max(waits, _COMPILING_STEPS if spec.compile else 1)


class Reporter:
    """Turn steps into metric rows, heartbeats and this rank's progress.

    Only rank 0 has `logs` and writes heartbeats; every rank has `progress`, which its job entry watches.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        *,
        logs: RunLogs | None,
        tracker: Tracker,
        heartbeat: HeartbeatWriter,
        saver: Saver,
        progress: ProgressWriter,
        warm_up: int,
        notify: Notify,
    ) -> None:
        self._spec = spec
        self._logs = logs
        self._tracker = tracker
        self._heartbeat = heartbeat
        self._saver = saver
        self._notify = notify
        self._last = (time.monotonic(), -1)
        self._progress = progress
        self._warm_up, self._warm_from = warm_up, 0

    def begin(self, step: int) -> None:
        """The loop starts after `step` steps: the clock of residues/s runs from here."""
        self._last = (time.monotonic(), step)
        self._warm_from = step + 1 + self._warm_up
        self._heartbeat.update(phase="training", step=step)
        self._progress.phase("warming up")

    def phase(self, name: str, *, why: str | None = None) -> None:
        """The loop does something else than steps for a while; `why` it waits."""
        self._heartbeat.update(phase=name, waits_for=why)
        self._progress.phase(name)

    def step(self, step: int) -> None:
        """A step was taken."""
        newest, local = self._saver.newest, self._saver.newest_local
        self._heartbeat.update(
            phase="training",
            step=step,
            checkpoint_step=newest.step if newest else None,
            checkpoint_t=newest.t if newest else None,
            local_step=local.step if local else None,
            local_t=local.t if local else None,
        )
        phase = "training" if step >= self._warm_from else "warming up"
        self._progress.step(step, phase=phase, save_since=self._saver.writing_since)

    def start_row(self, row: dict[str, float | int], validation: ValidationRow) -> None:
        """Bounds before the first step, of a network that is trained already."""
        if self._logs:
            self._logs.write(row, validation)
        self._tracker.log(row)
        self._heartbeat.update(step=0, validation_bound=row["validation_bound"])
        self._notify(f"step 0/{self._spec.steps}{_bounds(row)}")

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
    step: int,
    *,
    loss: float,
    grad_norm: float,
    learning_rate: float,
    residues: int,
    bound: float | None,
    parent_bound: float | None = None,
) -> dict[str, float | int]:
    """A row of metrics.jsonl: a function of (spec, step), without a clock."""
    row: dict[str, float | int] = {
        "step": step,
        "loss": loss,
        "grad_norm": grad_norm,
        "learning_rate": learning_rate,
        "residues": residues,
    }
    return row if bound is None else row | _bound_fields(bound, parent_bound)


def start_row(bound: float, parent_bound: float | None) -> dict[str, float | int]:
    """The row of step 0, of a network that is trained already."""
    return {"step": 0, "residues": 0, **_bound_fields(bound, parent_bound)}


def _bound_fields(bound: float, parent_bound: float | None) -> dict[str, float]:
    """The bound, and the one on the validation set of the network's parent."""
    forgetting = {} if parent_bound is None else {"parent_validation_bound": parent_bound}
    return {"validation_bound": bound, "validation_perplexity": perplexity(bound), **forgetting}


def _line(row: dict[str, float | int], steps: int, rate: float, eta_s: float) -> str:
    line = f"step {row['step']}/{steps}  loss {row['loss']:.4f}{_bounds(row)}"
    return f"{line}  {format_count(rate)} residues/s  {format_duration(eta_s)} left"


def _bounds(row: dict[str, float | int]) -> str:
    if "validation_bound" not in row:
        return ""
    text = f"  validation {row['validation_bound']:.4f} (perplexity {row['validation_perplexity']:.2f})"
    if "parent_validation_bound" in row:
        text += f"  parent's validation {row['parent_validation_bound']:.4f}"
    return text


def _peak_memory() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
