"""Read what a run has used from its events, its heartbeat and its ranks' energy."""

import contextlib
import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sedd.errors import RunError
from sedd.rundir.attempts import LAST_WORDS, events_by_attempt, starts_in_foreground
from sedd.rundir.energy_meter import read_rank
from sedd.rundir.events import Event, read_events
from sedd.rundir.fence import newest_attempt
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.usage import ALWAYS, NEVER, AttemptUse, Energy, RunUse

_AWAITED = ("after", "after_any", "on_failure")
"""Fields of a manifest that name the runs for which a run waits."""
_ENDS = ("completed", "gave_up", "cancelled", "stopped")
"""Events that let a run start which waited for them."""


def read_usage(run: RunDir) -> RunUse:
    """What a run has used until its last sign of life. Raises: RunError where it cannot be read."""
    manifest = read_manifest(run)
    profile = manifest.get("profile") or {}
    beat = read_heartbeat(run.heartbeat)
    events = read_events(run.events)
    sign = (beat.attempt, dt.datetime.fromisoformat(beat.t)) if beat else (0, ALWAYS)
    return RunUse(
        attempts=attempt_uses(
            events,
            gpus=int(manifest.get("gpus") or 0),
            sign=sign,
            energies=read_energies(run.energy),
            job_ends=read_job_ends(run.job_ends),
        ),
        waits=waits_of(events, ready=_ready(manifest, events)),
        grams_per_kwh=profile.get("co2_grams_per_kwh"),
    )


def signs_of_use(run: RunDir, environment: Mapping[str, str], *, executor: str) -> dict[str, str]:
    """What a new attempt's first event keeps for this: the job's start by SLURM, the last attempt's last heartbeat."""
    beat = read_heartbeat(run.heartbeat)
    started = environment.get("SLURM_JOB_START_TIME") or environment.get("SEDD_JOB_START")
    if executor != "slurm":
        started = None  # of a job around it, which may be hours older
    signs = {"last_beat": beat.t if beat else None, "job_started": started}
    return {name: value for name, value in signs.items() if value}


def note_job_end(run: RunDir, *, now: dt.datetime) -> None:
    """The batch script of the newest attempt's job has come to its last line. Without space it is not noted."""
    with contextlib.suppress(OSError, RunError):
        line = json.dumps({"attempt": newest_attempt(read_events(run.events)), "t": now.isoformat()})
        with run.job_ends.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def read_job_ends(path: Path) -> dict[int, dt.datetime]:
    """When the jobs of attempts ended, as far as their batch scripts noted it."""
    ends: dict[int, dt.datetime] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return ends
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            ends[int(record["attempt"])] = dt.datetime.fromisoformat(record["t"])
    return ends


def attempt_uses(
    events: Sequence[Event],
    *,
    gpus: int,
    sign: tuple[int, dt.datetime] = (0, ALWAYS),
    energies: Mapping[int, Energy] | None = None,
    job_ends: Mapping[int, dt.datetime] | None = None,
) -> tuple[AttemptUse, ...]:
    """The attempts. `gpus`: of those that do not say; `sign`: an attempt, and when its heartbeat was written."""
    groups, uses = events_by_attempt(events), []
    for number, group in enumerate(groups):
        later = groups[number + 1 :]
        use = _use(
            group,
            is_fresh=_is_fresh(groups[:number]),
            is_newest=not later,
            next_step=next((step for g in later if (step := _first_step(g)) is not None), None),
            sign=_last_beat(group, later[0] if later else None, sign),
            gpus=gpus,
        )
        # A job that is cancelled or goes back to the queue is over for SLURM while its script still cleans up.
        by_itself = any(e.event in ("completed", "gave_up", "paused") for e in group)
        end = max(use.end, (job_ends or {}).get(use.number, use.end)) if by_itself else use.end
        kept = end if use.kept_until == use.end else use.kept_until
        energy = (energies or {}).get(use.number)
        uses.append(dataclasses.replace(use, end=end, kept_until=kept, energy=energy))
    return tuple(uses)


def waits_of(
    events: Iterable[Event], *, ready: dt.datetime = ALWAYS
) -> tuple[tuple[dt.datetime, dt.datetime], ...]:
    """From submission or requeue to the start that followed; what comes before `ready` is not the queue's doing."""
    waits, since = [], None
    for event in events:
        if event.event in ("submitted", "requeued"):
            since = since or event.t
        elif event.event == "attempt_started":
            start = _job_start(event)
            if since is not None and start > max(since, ready) and not starts_in_foreground(event):
                waits.append((max(since, ready), start))
            since = None
        elif event.event in LAST_WORDS:
            since = None
    return tuple(waits)


def read_energies(folder: Path) -> dict[int, Energy]:
    """The energy of each attempt, summed over the ranks that wrote it down; none where none did."""
    found: dict[int, Energy] = {}
    for path in sorted(folder.glob("rank-*.json")):
        for attempt, energy in read_rank(path).items():
            known = found.get(attempt)
            found[attempt] = energy if known is None else _joined(known, energy)
    return found


def _joined(one: Energy, other: Energy) -> Energy:
    source = one.source if one.source == other.source else "counter and power"
    return Energy(joules=one.joules + other.joules, gpu_s=one.gpu_s + other.gpu_s, source=source)


def _use(
    group: Sequence[Event],
    *,
    is_fresh: bool,
    is_newest: bool,
    next_step: int | None,
    sign: dt.datetime,
    gpus: int,
) -> AttemptUse:
    """`is_fresh`: no interrupted training is taken up; `next_step`: where the next attempt that trained began."""
    start, word = group[0], next((e for e in reversed(group) if e.event in LAST_WORDS), None)
    word = word or next((e for e in reversed(group) if e.event == "failed"), None)
    saved = [e for e in group if e.event == "checkpoint"]
    end = max(start.t, word.t if word else max(group[-1].t, sign))  # clocks of two nodes differ
    resumed = next((e.t for e in group if e.event == "resumed"), start.t if is_fresh else end)
    kept = [e.t for e in saved if next_step is None or int(e.get("step", 0)) <= next_step]
    # Of an attempt that runs nobody knows yet what will be kept.
    is_whole = word.event in ("completed", "paused") if word else is_newest
    return AttemptUse(
        number=start.attempt,
        gpus=int(start.get("gpus", gpus)),
        start=_job_start(start),
        trains_from=min(resumed, end),
        kept_until=end if is_whole else max(kept, default=min(resumed, end)),
        end=end,
        cause=_cause(word, is_newest=is_newest),
        energy=None,
    )


def _is_fresh(before: Sequence[Sequence[Event]]) -> bool:
    """Whether an attempt is the first with something to keep: nothing was saved before it, or all was completed."""
    if before and any(e.event == "completed" for e in before[-1]):
        return True
    return not any(e.event == "checkpoint" for group in before for e in group)


def _job_start(event: Event) -> dt.datetime:
    """SLURM's start of the job, where the event has it and it is the earlier; else the event's own time."""
    try:
        return min(event.t, dt.datetime.fromtimestamp(float(event.get("job_started")), dt.UTC))
    except (TypeError, ValueError, OverflowError):
        return event.t


def _first_step(group: Sequence[Event]) -> int | None:
    """Where an attempt began to train; None of one that never came to that, as far as events say."""
    has_saved = any(e.event == "checkpoint" for e in group)
    return next((int(e.get("step", 0)) for e in group if e.event == "resumed"), 0 if has_saved else None)


def _last_beat(
    group: Sequence[Event], after: Sequence[Event] | None, sign: tuple[int, dt.datetime]
) -> dt.datetime:
    """When an attempt was last heard of: by the heartbeat that is there, or that the next attempt found."""
    if sign[0] == group[0].attempt:
        return sign[1]
    found = after[0].get("last_beat") if after else None
    try:
        return dt.datetime.fromisoformat(found) if found else group[-1].t
    except (TypeError, ValueError):
        return group[-1].t


def _cause(end: Event | None, *, is_newest: bool) -> str:
    if end is None:
        return "" if is_newest else "killed"
    return (
        end.event if end.event in ("completed", "cancelled", "paused") else str(end.get("cause", "crashed"))
    )


def _ready(manifest: Mapping[str, Any], events: Iterable[Event]) -> dt.datetime:
    """When the runs had ended that this one waited for, as far as their folders say: as it first started they had."""
    began = next((e.t for e in events if e.event == "attempt_started"), NEVER)
    moments = []
    for folder in (folder for field in _AWAITED for folder in manifest.get(field) or ()):
        try:
            told = read_events(RunDir(Path(str(folder))).events)
        except RunError:
            continue
        moments += [e.t for e in told if e.event in _ENDS and e.t <= began]
    return max(moments, default=ALWAYS)
