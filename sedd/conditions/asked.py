"""Under which condition a network is asked, how strongly, and which guide steers it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sedd.conditions.guides import guided_by, load_guide
from sedd.conditions.known import KnownField, condition_row
from sedd.diffusion.bound import LogScore
from sedd.diffusion.guidance import Classifier
from sedd.errors import UsageError
from sedd.spec.conditions import Condition, GuidanceOptions


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A condition; without any, that none is given."""

    labels: Tensor | None = None
    """float32 [fields], as the network takes them: NaN where a field is left open; None: all are."""
    weight: float = 1.0
    """Of classifier-free guidance: 0 is the distribution without the condition, 1 the one given it."""
    classifier: Classifier | None = None
    guide: GuidanceOptions | None = None
    """How the classifier is asked, if there is one."""
    text: str = ""
    """All of it as KEY=VALUE, for the header of a sample."""
    condition: Condition = field(default_factory=dict)
    """The labels as the user names them."""
    guidance: GuidanceOptions = field(default_factory=GuidanceOptions)
    """Weight and guide as the user gives them."""

    @property
    def unguided(self) -> "Asked":
        """The same labels at weight 1 and without a guide: a distribution whose likelihoods mean something."""
        return Asked(labels=self.labels, text=self.text, condition=self.condition)

    def steered(self, score: LogScore, cu_seqlens: Tensor, n: int) -> LogScore:
        """The score tilted by the guide; itself where there is none."""
        if self.classifier is None or self.guide is None:
            return score
        weight, changes = self.guide.guide_weight, self.guide.guide_changes
        return guided_by(score, self.classifier, cu_seqlens, n=n, weight=weight, changes=changes)


WITHOUT = Asked()
"""No condition."""
HEADER_KEYS = (
    *("run", "step", "seed", "steps", "predictor", "omit", "temperature", "top_p", "remask", "order"),
    *("guidance", "guide", "guide_weight"),
    *("length", "mutations", "identity", "score"),
)
"""Keys in the header of a sample that are not labels."""


def _header_key(field: str) -> str:
    """A field's name; `label.length` where a header has another `length`, which no field can be called."""
    return f"label.{field}" if field in HEADER_KEYS else field


def _header_word(value: str | int | float) -> str:
    """A label as one word: in quotes, as a shell takes them, where it holds spaces."""
    text = str(value)
    return shlex.quote(text) if re.search(r"[\s'\"]", text) else text


def ask(
    fields: Sequence[KnownField],
    condition: Mapping[str, str | int | float],
    guidance: GuidanceOptions | None,
    device: torch.device,
) -> Asked:
    """A condition of a network that knows `fields`. Raises: UsageError, as `condition_row` and `load_guide`."""
    how = guidance or GuidanceOptions()
    if not condition and how.guidance != 1:
        raise UsageError("guidance weights a condition, and there is none", hint="--condition FIELD=VALUE")
    labels = torch.from_numpy(condition_row(fields, condition)).to(device) if condition else None
    words = [f"{_header_key(name)}={_header_word(value)}" for name, value in condition.items()]
    words += [f"guidance={how.guidance:g}"] if condition and how.guidance != 1 else []
    words += [f"guide={how.guide} guide_weight={how.guide_weight:g}"] if how.guide else []
    return Asked(
        labels=labels,
        weight=how.guidance,
        classifier=load_guide(how.guide) if how.guide else None,
        guide=how if how.guide else None,
        text=" ".join(words),
        condition=dict(condition),
        guidance=how,
    )
