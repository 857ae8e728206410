"""Report about samples and the network that drew them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sedd.data.alphabet import encode
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.inference.generation import Sample
from sedd.inference.load_network import Trained
from sedd.quality.assess import Assessment, assess
from sedd.quality.sample_page import sample_page
from sedd.rundir.atomic import write_output
from sedd.spec.inference import SampleOptions


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


def write_report(path: Path, trained: Trained, how: SampleOptions, found: Assessment) -> None:
    """A page, or numbers alone if the name ends in .json."""
    if path.suffix == ".json":
        document = {"run": trained.run, "step": trained.step, "sampling": how.model_dump(mode="json")}
        write_output(path, json.dumps(document | found.document(), indent=1) + "\n")
        return
    write_output(path, sample_page(f"{trained.run} at step {trained.step}: {settings_text(how)}", found))


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
