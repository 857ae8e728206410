"""Guides: classifiers of a user's that steer sampling, without retraining; by an entry point or from a module.

A guide is made by a function of its target, `make(target: str) -> Guide`, which a package offers as an entry point of
the group `sedd.guides`, or which any importable module holds (`module:make`).
"""

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sedd.conditions.guide_names import GROUP, parse_guide
from sedd.diffusion.bound import LogScore
from sedd.diffusion.guidance import CHANGES, Classifier, tilted
from sedd.errors import UsageError


def load_guide(text: str) -> Classifier:
    """The classifier that `NAME=TARGET` or `module:make=TARGET` names; a target is text, `""` where none is given.

    Raises:
        UsageError: no such guide, or one that cannot be made.
    """
    name, target = parse_guide(text)
    make = _find(name)
    try:
        guide = make(target)
    except Exception as e:  # the user's own code
        raise UsageError(f"the guide '{name}' cannot be made for '{target}': {type(e).__name__}: {e}") from e
    if not callable(getattr(guide, "log_probability", None)):
        raise UsageError(
            f"the guide '{name}' has no method log_probability(rows, cu_seqlens, sigma_bar)",
            hint="sedd/conditions/README.md",
        )

    def classifier(rows: Tensor, cu_seqlens: Tensor, sigma_bar: Tensor) -> Tensor:
        found: Tensor = guide.log_probability(rows, cu_seqlens, sigma_bar)
        if rows.requires_grad and not found.requires_grad:
            raise UsageError(
                f"what the guide '{name}' returns does not come from its rows by operations that have a gradient",
                hint="guide_changes: exact asks it about every single change instead",
            )
        if found.shape != sigma_bar.shape:
            raise UsageError(
                f"the guide '{name}' returns {list(found.shape)}, not one number for each of the "
                f"{sigma_bar.numel()} sequences"
            )
        return found

    return classifier


def guided_by(
    score: LogScore, classifier: Classifier, cu_seqlens: Tensor, *, n: int, weight: float, changes: str
) -> LogScore:
    """The score tilted by a classifier of sequences packed as `cu_seqlens`; `changes` names a function of CHANGES."""

    def log_changes(x: Tensor, sigma_bar: Tensor) -> Tensor:
        found: Tensor = CHANGES[changes](classifier, x, cu_seqlens, sigma_bar, n)
        if not bool(torch.isfinite(found).all()):
            raise UsageError("the guide gives a probability of zero, or none", hint="bound its logarithm")
        return found

    return tilted(score, log_changes, weight)


def _find(name: str) -> Callable[[str], Any]:
    offered = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
    module, colon, attribute = name.partition(":")
    try:
        if name in offered:
            found = offered[name].load()
        elif colon:
            found = getattr(importlib.import_module(module), attribute)
        else:
            known = ", ".join(offered) or "none is installed"
            raise UsageError(f"there is no guide '{name}': {known}", hint="or name a function as module:make")
    except (ImportError, AttributeError) as e:
        raise UsageError(
            f"the guide '{name}' cannot be loaded: {e}", hint="PYTHONPATH=. where the module is a file here"
        ) from e
    if not callable(found):
        raise UsageError(f"the guide '{name}' is no function of a target")
    make: Callable[[str], Any] = found
    return make
