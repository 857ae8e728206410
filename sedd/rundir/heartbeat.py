"""heartbeat.json: what a running attempt is doing now, replaced whole at least every 10 s."""

import dataclasses
import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

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
    or waiting: for space on the disk, or for the permission to write."""
    step: int
    steps: int
    """How many there are in all."""
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
