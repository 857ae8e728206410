"""Report about samples and the network that drew them."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sedd.complaints import clip
from sedd.data.alphabet import encode
from sedd.data.store import TokenStore
from sedd.design.redesigns import Redesign
from sedd.errors import DataError
from sedd.inference.generation import Sample
from sedd.inference.load_network import Trained
from sedd.page import table
from sedd.quality.assess import Assessment, assess
from sedd.quality.sample_page import sample_page
from sedd.rundir.atomic import write_output
from sedd.spec.inference import SampleOptions
from sedd.units import counted

_LISTED = 20
"""Redesigns in the page's table, at most."""


def open_training_data(trained: Trained, given: Path | None = None) -> TokenStore | None:
    """The given store, or the one that the network was trained on (the first of a mixture); None where it is gone.

    Raises:
        DataError: the given one is no store.
    """
    if given is not None:
        return TokenStore.open(given)
    store = trained.experiment.data.store
    if not store.is_absolute():  # of an export, which does not say where it lay
        return None
    try:
        return TokenStore.open(store)
    except (DataError, OSError):
        return None


def assess_samples(trained: Trained, samples: Sequence[Sample], store: TokenStore | None) -> Assessment:
    """Measure samples beside the data that the network was trained on."""
    proteins = [encode(sample.sequence) for sample in samples]
    return assess(proteins, trained.composition.numpy(), trained.length_quantiles.tolist(), store)


def write_report(
    path: Path, trained: Trained, how: SampleOptions, samples: Sequence[Sample], found: Assessment
) -> None:
    """A page, or numbers alone if the name ends in .json; of redesigns also what they are beside their parents."""
    redesigns = [sample.redesign for sample in samples if sample.redesign is not None]
    if path.suffix == ".json":
        document = {"run": trained.run, "step": trained.step, "sampling": how.model_dump(mode="json")}
        document |= {"redesigns": _medians(redesigns)} if redesigns else {}
        write_output(path, json.dumps(document | found.document(), indent=1) + "\n")
        return
    title = f"{trained.run} at step {trained.step}: {settings_text(how)}"
    write_output(path, sample_page(title, found, _redesigns_section(redesigns) if redesigns else ()))


def _medians(redesigns: Sequence[Redesign]) -> dict[str, float]:
    return {
        name: median(getattr(redesign, name) for redesign in redesigns)
        for name in ("count", "identity", "score")
    }


def _redesigns_section(redesigns: Sequence[Redesign]) -> list[str]:
    """The redesigns that the network prefers most, and what is usual among all."""
    usual, best = _medians(redesigns), sorted(redesigns, key=lambda one: -one.score)[:_LISTED]
    rows = [
        (
            one.name,
            one.parent,
            str(one.count),
            f"{100 * one.identity:.1f} %",
            f"{one.score:.2f} ± {one.standard_error:.2f}",
            clip(one.mutations, 60),
        )
        for one in best
    ]
    heads = ("redesign", "parent", "mutations", "identity", "score, nats", "what changed")
    note = (
        f"Of {counted(len(redesigns), 'redesign')} the median has {usual['count']:g} mutations, "
        f"{100 * usual['identity']:.1f} % of its parent's residues and a score of {usual['score']:.2f}. Score: "
        "ln p(redesign) - ln p(parent), an estimate and its standard error; above 0 the network prefers the redesign. "
        "The highest scores come first."
    )
    return ["<h2>Redesigns</h2>", table(heads, rows), f'<p class="note">{note}</p>']


def settings_text(how: SampleOptions) -> str:
    """What was asked of the sampler, where it is not what everybody gets."""
    settings: dict[str, Any] = {"temperature": how.temperature, "top-p": how.top_p, "seed": how.seed}
    length = how.length if isinstance(how.length, int) else "-".join(map(str, how.length or ()))
    settings |= {"length": length} if how.length is not None else {}
    settings |= {"remask": how.remask} if how.remask else {}
    settings |= {"order": how.order} if how.order != "random" else {}
    if how.condition:
        settings |= {"condition": " ".join(f"{name}={value}" for name, value in how.condition.items())}
        settings |= {"guidance": how.guidance}
    if how.redesign is not None:
        settings |= {"redesigns of": how.redesign.parent.name, "noise": how.redesign.noise}
    options = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{how.steps} {how.predictor} steps, {options}"
