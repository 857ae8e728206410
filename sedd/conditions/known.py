"""What a network knows of its conditions: the values of each field, and how numbers are standardised."""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.conditions.label_fields import LabelField, is_missing
from sedd.data.batches import ReadLabels
from sedd.data.store import Split, TokenStore
from sedd.errors import CheckpointError, DataError, UsageError, did_you_mean
from sedd.spec.conditions import CategorySpec, ConditionsSpec, LabelSpec

Rows = NDArray[np.float32]
"""[sequences, fields]: a category's number, or a standardised number; NaN where there is no label."""


_BESIDE = "name a store that has labels as data.store and this one in data.mixture.stores"
"""How a network that knows labels is trained on proteins that have none, such as a family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownField:
    """One field, as the training data had it: a checkpoint carries it."""

    name: str
    kind: str
    values: tuple[str, ...] = ()
    """Of a category: the network's row of values[k] is k."""
    mean: float = 0.0
    std: float = 1.0
    """Of a number, over the labelled training sequences: the network sees (number - mean) / std."""
    low: float | None = dataclasses.field(default=None, compare=False)
    high: float | None = dataclasses.field(default=None, compare=False)
    """Ends of the numbers in the training data; None: a category, or a checkpoint that does not tell them."""

    def standardised(self, column: NDArray[Any]) -> Rows:
        """A column of a store as the network takes it."""
        if self.kind == "number":
            return ((column.astype(np.float64) - self.mean) / self.std).astype(np.float32)
        return np.where(is_missing(column), np.float32(np.nan), column.astype(np.float32))


def known_fields(spec: ConditionsSpec | None, stores: Sequence[TokenStore]) -> tuple[KnownField, ...]:
    """The fields of a spec as the stores have them, in the order of the spec.

    Numbers are standardised by the first store. A store without labels is one whose labels are all missing; one with
    other values than the first is refused, since numbers of categories would mean different things.

    Raises:
        DataError: a field that the stores lack, of another kind, or with more values than the spec has rows for.
    """
    if spec is None:
        return ()
    labelled = [store for store in stores if store.manifest.labels]
    if not labelled:
        raise DataError(
            f"model.conditions names {', '.join(spec.fields)}, and {stores[0].path} has no labels",
            hint=f"build it with: sedd data build … --labels labels.tsv; or, {_BESIDE}",
        )
    fields = tuple(_known(name, wanted, labelled[0]) for name, wanted in spec.fields.items())
    for other in labelled[1:]:
        for known in fields:
            _require_same_values(known, labelled[0], other)
    return tuple(_with_range(known, labelled) for known in fields)


def _known(name: str, wanted: LabelSpec, store: TokenStore) -> KnownField:
    field, key = _field_of(store, name), f"model.conditions.fields.{name}"
    if field.kind != wanted.kind:
        raise DataError(
            f"{key}.kind is {wanted.kind}; in {store.path} it is a {field.kind}",
            hint="--label-number names the columns of numbers when a store is built",
        )
    if field.missing["train"] == store.split("train").sequences:
        raise DataError(
            f"no training sequence of {store.path} has a label '{name}'",
            hint=f"to train on such proteins, {_BESIDE}",
        )
    if isinstance(wanted, CategorySpec):
        if len(field.values) > wanted.values:
            raise DataError(
                f"{key}.values is {wanted.values:,}; {store.path} has {len(field.values):,} values",
                hint=f"{key}.values: {len(field.values)} or more",
            )
        return KnownField(name=name, kind=field.kind, values=field.values)
    std = field.statistics["std"]
    return KnownField(name=name, kind=field.kind, mean=field.statistics["mean"], std=std if std > 0 else 1.0)


def _field_of(store: TokenStore, name: str) -> LabelField:
    here = {field.name: field for field in store.manifest.labels}
    if name not in here:
        raise DataError(
            f"model.conditions.fields names '{name}'; the labels of {store.path} are {', '.join(here)}",
            hint=did_you_mean(name, here),
        )
    return here[name]


def _require_same_values(known: KnownField, first: TokenStore, other: TokenStore) -> None:
    field = _field_of(other, known.name)
    if field.kind != known.kind or field.values != known.values[: len(field.values)]:
        raise DataError(
            f"'{known.name}' has other values in {other.path} than in {first.path}",
            hint="build the stores of a mixture with --onto one store of a few proteins that have all values",
        )


def _with_range(known: KnownField, stores: Sequence[TokenStore]) -> KnownField:
    statistics = [found for store in stores if (found := _field_of(store, known.name).statistics)]
    if known.kind != "number" or not statistics:
        return known
    return dataclasses.replace(
        known,
        low=min(each["min"] for each in statistics),
        high=max(each["max"] for each in statistics),
    )


def label_mismatch(theirs: Sequence[KnownField], ours: Sequence[KnownField]) -> tuple[str, str] | None:
    """Which label of a network means something else in a store, and what to do; None where all mean the same.

    A store may have more values than the network has seen, behind those: their rows are there, and untrained.
    """
    here = {field.name: field for field in ours}
    for known in theirs:
        own = here.get(known.name)
        if own is None or (own.kind, own.values[: len(known.values)]) != (known.kind, known.values):
            return (
                f"it was trained with other values of '{known.name}' than this spec's store has",
                "build the store --onto the parent's, which keeps its values",
            )
        if (own.mean, own.std) != (known.mean, known.std):
            return (
                f"'{known.name}' is {own.mean:.4g} ± {own.std:.3g} in this spec's store, and was standardised by "
                f"{known.mean:.4g} ± {known.std:.3g}",
                "numbers are standardised by the first store: name the parent's as data.store, others as data.mixture",
            )
    return None


def label_reader(fields: Sequence[KnownField]) -> ReadLabels | None:
    """A function that reads the labels of a store's sequences; None for a network without conditions."""
    if not fields:
        return None

    def read(split: Split, sequences: NDArray[np.int64]) -> Rows:
        if not split.labels:
            return np.full((len(sequences), len(fields)), np.nan, np.float32)
        columns = [field.standardised(split.label(field.name)[sequences]) for field in fields]
        return np.stack(columns, axis=1)

    return read


def condition_row(fields: Sequence[KnownField], condition: Mapping[str, str | int | float]) -> Rows:
    """[fields]: the labels that a user asks for, as the network takes them; a field that is not named is open.

    Raises:
        UsageError: a network without conditions, a field or a value that it has not seen.
    """
    names = [field.name for field in fields]
    for name in condition:
        if name not in names:
            what = f"it has {', '.join(names)}" if names else "it was trained without conditions"
            problem = f"the network has no condition '{name}': {what}"
            raise UsageError(problem, hint=did_you_mean(name, names))
    absent = np.float32(np.nan)
    return np.array(
        [_number(f, condition[f.name]) if f.name in condition else absent for f in fields], np.float32
    )


def beyond_training(
    fields: Sequence[KnownField], condition: Mapping[str, str | int | float]
) -> Iterator[str]:
    """A line for each number of a condition that the training data does not reach: there a network extrapolates.

    The condition is one that `condition_row` takes.
    """
    for known in fields:
        if known.low is None or known.high is None or known.name not in condition:
            continue
        number = float(condition[known.name])
        nearest = min(max(number, known.low), known.high)
        if not math.isclose(number, nearest, rel_tol=1e-6):  # a store keeps float32
            yield (
                f"condition {known.name} is {number:g}, and the network has seen {known.low:g} to {known.high:g}: "
                "it extrapolates"
            )


def _number(field: KnownField, asked: str | int | float) -> float:
    if field.kind == "number":
        try:
            number = float(asked)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"condition {field.name} is {asked!r}; it must be a number")
        return (number - field.mean) / field.std
    if isinstance(asked, float):
        raise UsageError(
            f"condition {field.name} is {asked!r}, a number, not one of its values", hint="put it in quotes"
        )
    if str(asked) not in field.values:
        near = difflib.get_close_matches(str(asked), field.values, n=3)
        raise UsageError(
            f"condition {field.name} is '{asked}', which is none of the {len(field.values):,} values that the "
            "network has seen",
            hint=f"similar: {', '.join(near)}" if near else f"such as {', '.join(field.values[:3])}",
        )
    return float(field.values.index(str(asked)))


def describe_known(fields: Sequence[KnownField]) -> list[dict[str, Any]]:
    """Fields as a checkpoint keeps them."""
    return [{**asdict(field), "values": list(field.values)} for field in fields]


def parse_known(entries: Sequence[Mapping[str, Any]], source: str) -> tuple[KnownField, ...]:
    """Fields from a checkpoint or an export. Raises: CheckpointError."""
    try:
        return tuple(KnownField(**{**entry, "values": tuple(entry["values"])}) for entry in entries)
    except (TypeError, KeyError) as e:
        raise CheckpointError(f"{source}: what it says of its conditions cannot be read: {e}") from e
