"""heartbeat.json: what a running attempt is doing now, replaced whole at least every 10 s."""

import dataclasses
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.rundir.atomic import replace_text

INTERVAL_S = 5.0
"""Seconds between beats of a healthy run; readers call one stale after `STALE_S`."""
STALE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """One beat, written by rank 0."""

    t: str
    """When it was written; UTC, ISO 8601."""
    progress_t: str
    """When the training loop last moved on: a step, a validation batch, a checkpoint; UTC, ISO 8601."""
    attempt: int
    phase: str
    """starting, preflight, training, building, evaluating, sampling, validating, checkpointing, stopping, done,
    or waiting: a checkpoint cannot be written yet."""
    step: int
    steps: int
    """How many there are in all; 0: not known yet."""
    unit: str = "steps"
    """What `step` counts: steps of training or sampling, bytes of input read, proteins evaluated."""
    loss: float | None = None
    """Training loss of the last logged step, nats per residue."""
    validation_bound: float | None = None
    """Last validation's likelihood bound, nats per residue."""
    residues_per_s: float | None = None
    """Over all ranks, validation and checkpoints included, since the last logged step."""
    eta_s: float | None = None
    """Seconds to the last step at this rate."""
    checkpoint_step: int | None = None
    """Step of the newest whole checkpoint."""
    checkpoint_t: str | None = None
    """When it was written; UTC, ISO 8601."""
    host: str = ""
    pid: int = 0
    gpu: str | None = None
    """Name of rank 0's GPU, or None on a CPU."""
    gpu_memory_bytes: int | None = None
    """Peak memory allocated on rank 0's GPU in this attempt."""
    gpu_utilization: float | None = None
    """Share of the last sample's time in which rank 0's GPU had work, percent, as `nvidia-smi` shows it."""
    local_step: int | None = None
    """Step of the newest copy of the state on rank 0's node."""
    local_t: str | None = None
    """When it was written; UTC, ISO 8601."""
    waits_for: str | None = None
    """Why a checkpoint cannot be written yet, as the system says it: `no space left on device`."""
    ranks: Sequence[Mapping[str, Any]] | None = None
    """Of each rank `rank`, `host`, and its own seconds of a step, without waits for other ranks, as medians of the
    last 25 steps: `step_s` in all; of it `data_s`, waiting for data, and computing: `host_s`, `device_s` of a GPU."""
    slow: Sequence[Mapping[str, Any]] | None = None
    """Ranks that were slower than the median by more than 15 % for the last 100 steps: `rank`, `host`, `over`: the
    excess, 0.2 for 20 %; `since_step`."""


_KNOWN = frozenset(field.name for field in dataclasses.fields(Heartbeat))


def write_heartbeat(path: Path, beat: Heartbeat) -> None:
    """Replace the heartbeat. Raises: OSError, for instance on a full disk; the caller decides whether that matters."""
    replace_text(path, json.dumps(dataclasses.asdict(beat)) + "\n")


def parse_heartbeat(content: bytes) -> Heartbeat | None:
    """A beat, or None for anything that is not one; fields of a newer version are ignored."""
    try:
        record = json.loads(content.decode())
        if dt.datetime.fromisoformat(record["t"]).tzinfo is None:
            return None
        if not record.keys() <= _KNOWN:
            record = {key: value for key, value in record.items() if key in _KNOWN}
        return Heartbeat(**record)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_heartbeat(path: Path) -> Heartbeat | None:
    """The newest beat, or None before the first."""
    try:
        return parse_heartbeat(path.read_bytes())
    except OSError:
        return None


def age_s(beat: Heartbeat, *, now: dt.datetime) -> float:
    """Seconds since the beat was written."""
    return (now - dt.datetime.fromisoformat(beat.t)).total_seconds()
