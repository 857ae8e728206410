"""Render one run as one HTML page that needs no network."""

import functools
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sedd.charts import line_chart
from sedd.monitor.decide.inspection import Inspection, result_text
from sedd.monitor.decide.state import cause_words
from sedd.monitor.read.curves import means
from sedd.monitor.show.cells import (
    count_cell,
    duration_cell,
    lost_text,
    percent_cell,
    place_text,
    point_text,
    span_text,
    wait_cell,
)
from sedd.monitor.show.sentences import sentence
from sedd.page import page, section, table
from sedd.rundir.layout import RunDir
from sedd.rundir.usage import usage_words
from sedd.units import format_bytes

_SAMPLES = 10
_GZIP = b"\x1f\x8b"
_LINE = 60
_COLUMNS = 300
_EVENTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocuments:
    """What of a run folder a report quotes.

    Attributes:
        spec: the resolved spec, YAML.
        manifest: versions, commit, hashes.
        samples: (name, sequence) of generated proteins.
    """

    spec: str
    manifest: Mapping[str, Any]
    samples: tuple[tuple[str, str], ...]


def read_documents(run: RunDir) -> RunDocuments:
    """The documents of a run; what is missing or may not be read is empty."""
    manifest: Mapping[str, Any] = {}
    try:
        manifest = json.loads(run.manifest.read_bytes())
        spec = run.spec.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        spec = ""
    return RunDocuments(spec=spec, manifest=manifest, samples=_newest_samples(run))


def read_samples(path: Path) -> tuple[tuple[str, str], ...]:
    """(name, sequence) of the first proteins in a FASTA file, plain or gzip. Raises: OSError."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
    found: list[tuple[str, str]] = []
    with (gzip.open if is_gzip else open)(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith(">") and len(found) == _SAMPLES:
                break
            if line.startswith(">"):
                found.append((line[1:].strip(), ""))
            elif found:
                name, sequence = found[-1]
                found[-1] = name, sequence + "".join(line.split())
    return tuple(found)


def render_report(seen: Inspection, documents: RunDocuments) -> str:
    """The page."""
    view = seen.view
    title = f"{view.name} {view.id}"
    body = [
        f"<h1>{escape(view.name)}</h1><p class=id>{escape(view.id)} · "
        f'<b class="state {view.state.name.lower()}">{escape(view.state)}</b> · '
        f"{seen.taken:%Y-%m-%d %H:%M} UTC</p>",
        _trouble(seen),
        _tiles(seen),
        _result(seen),
        _charts(seen),
        section("Fine-tuned from", _lineage(seen)),
        section("Attempts", _timeline(seen)),
        section("Samples", _samples(documents.samples)),
        section("Preflight findings that were not OK", _findings(seen)),
        section("Events", _events(seen)),
        section("Configuration", f"<pre>{escape(documents.spec)}</pre>" if documents.spec else ""),
        section("Made from", _made_from(documents.manifest)),
    ]
    return page(title, body)


def _trouble(seen: Inspection) -> str:
    lines = seen.log_end or tuple((seen.view.error or "").splitlines())
    if not seen.view.why and not lines:
        return ""
    log = f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""
    return f'<div class="trouble"><b>{escape(seen.view.why)}</b>{log}</div>'


def _tiles(seen: Inspection) -> str:
    view = seen.view
    perplexity, trains = view.validation_perplexity, view.unit == "steps"
    tiles = [
        (view.unit, f"{view.step:,} / {view.steps:,}" if view.steps else f"{view.step:,}"),
        ("training loss, nats", f"{view.loss:.4f}" if view.loss is not None else ""),
        (
            "validation bound, nats",
            f"{view.validation_bound:.4f}" if view.validation_bound is not None else "",
        ),
        ("validation perplexity", f"{perplexity:.2f}" if perplexity is not None else ""),
        ("residues/s", count_cell(view.residues_per_s)),
        ("on", place_text(view)),
        ("GPU memory, at most", format_bytes(view.gpu_memory_bytes) if view.gpu_memory_bytes else ""),
        ("saved at step", f"{view.checkpoint_step:,}" if trains and view.checkpoint_step is not None else ""),
        ("time spent training" if trains else "time spent working", percent_cell(view.ettr)),
        ("time left", duration_cell(view.eta_s)),
        ("point", point_text(view.point)),
        ("used", usage_words(seen.usage) if seen.usage.run_s else ""),
    ]
    cells = [f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in tiles if v]
    return f"<dl>{''.join(cells)}</dl>"


def _result(seen: Inspection) -> str:
    if (result := seen.view.result) is None:
        return ""
    numbers = f"<b>{escape(text)}</b><br>" if (text := result_text(result)) else ""
    return section("Result", f"<p>{numbers}{escape(str(result.file))}</p>")


def _charts(seen: Inspection) -> str:
    c = seen.curves
    # Single batches would hide the curve under their noise.
    losses = [("training loss", means(c.loss, _COLUMNS)), ("validation bound", c.validation_bound)]
    if c.parent_validation_bound:
        losses.append(("parent's validation set", c.parent_validation_bound))
    return line_chart("Loss", losses, unit="nats per residue") + line_chart(
        "Learning rate", [("learning rate", c.learning_rate)]
    )


def _lineage(seen: Inspection) -> str:
    rows, each, forgotten = [], seen.lineage or {}, seen.curves.parent_validation_bound
    while each:
        rows.append(tuple(str(each.get(key)) for key in ("run", "step", "weights", "data_hash", "sha256")))
        each = each.get("parent") or {}
    text = ""
    if forgotten:
        (_, was), (step, now) = forgotten[0], forgotten[-1]
        text = (
            f"<p>On its validation set: {was:.4f} nats per residue at the start, "
            f"{now:.4f} at step {step:,.0f}.</p>"
        )
    return table(("run", "step", "weights", "data", "SHA-256"), rows) + text


def _timeline(seen: Inspection) -> str:
    rows = [
        (
            str(s.number),
            f"{s.started:%Y-%m-%d %H:%M}",
            s.host,
            wait_cell(s.queued_s, in_job=s.in_job),
            duration_cell(s.lasted_s),
            span_text(s, "{:,}".format),
            lost_text(s, "{:,}".format),
            cause_words(s.cause) or ("runs" if seen.view.is_live else "–"),
        )
        for s in seen.timeline
    ]
    names = ("#", "started (UTC)", "node", "queued", "ran", seen.view.unit, "lost", "ended by")
    return table(names, rows, kind="lines")


def _samples(samples: Sequence[tuple[str, str]]) -> str:
    blocks = []
    for name, sequence in samples[:_SAMPLES]:
        lines = [sequence[k : k + _LINE] for k in range(0, len(sequence), _LINE)]
        blocks.append(f"<b>&gt;{escape(name)}</b> <span class=id>{len(sequence)} residues</span>\n")
        blocks.append(escape("\n".join(lines)) + "\n")
    return f"<pre>{''.join(blocks)}</pre>" if blocks else ""


def _findings(seen: Inspection) -> str:
    keys = ("side", "check", "status", "saw", "hint")
    rows = [tuple(str(f.get(key) or "") for key in keys) for f in seen.findings]
    return table(keys, rows)


def _events(seen: Inspection) -> str:
    events = [e for e in seen.events if e.event not in ("checkpoint", "ready")][-_EVENTS:]
    said = functools.partial(sentence, unit=seen.view.unit)
    return table(("time (UTC)", "what"), [(f"{e.t:%Y-%m-%d %H:%M:%S}", said(e)) for e in events])


def _made_from(manifest: Mapping[str, Any]) -> str:
    known = {
        k: v for k, v in manifest.items() if k in ("git", "code_hash", "spec_hash", "parameters", "versions")
    }
    return f"<pre>{escape(json.dumps(known, indent=1, sort_keys=True))}</pre>" if known else ""


def _newest_samples(run: RunDir) -> tuple[tuple[str, str], ...]:
    """Of the newest FASTA file in samples/."""
    try:
        files = sorted(run.samples.glob("*.fasta"), key=lambda path: path.stat().st_mtime)
        return read_samples(files[-1]) if files else ()
    except OSError:
        return ()
