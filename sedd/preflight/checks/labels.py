"""Labels that the network is told: in the stores, of the kind and with no more values than the spec has room for."""

from dataclasses import dataclass

from sedd.errors import DataError
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.spec.experiment import Experiment

FEW = 0.05
"""Share of labelled training sequences below which a condition is hardly learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    fields: tuple[str, ...]
    """What is known of each field, in words."""
    shares: dict[str, float]
    """Labelled share of the first store's training sequences, by field."""
    problem: str | None = None
    """Why spec and labels do not fit."""
    hint: str | None = None


def gather(context: CheckContext) -> Facts | None:
    spec = context.training_run.model.conditions
    if spec is None or not context.is_first_here:
        return None
    from sedd.conditions.known import known_fields  # numpy: a tenth of a second
    from sedd.conditions.label_fields import describe
    from sedd.data.store import TokenStore

    try:
        stores = [TokenStore.open(path) for path in context.training_run.data.stores]
        known_fields(spec, stores)
    except DataError as e:
        return Facts(fields=(), shares={}, problem=e.message, hint=e.hint)
    told = [f for store in stores for f in store.manifest.labels if f.name in spec.fields][: len(spec.fields)]
    return Facts(
        fields=tuple(f"{field.name}: {describe(field)}" for field in told),
        shares={field.name: 1 - field.missing_share["train"] for field in told},
    )


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        return fail(facts.problem, facts.hint or "look: sedd data info STORE")
    saw = "; ".join(facts.fields)
    if rare := [f"{name} {share:.1%}" for name, share in facts.shares.items() if share < FEW]:
        return warn(
            f"{saw}; few proteins have a label: {', '.join(rare)}", "more labels, or fewer conditions"
        )
    return ok(saw)


CHECK = Check(
    tasks=(Experiment,),
    reads=(("data",),),
    only_with=("model", "conditions"),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.FILES,
    catches="conditions that the store has no labels for, of another kind, or with more values than rows",
    takes="0.2 s",
    passing=Facts(fields=("ec: 120 values, most often 3.2.1 (900)",), shares={"ec": 0.4}),
    failing=Facts(
        fields=(),
        shares={},
        problem="model.conditions.fields.ec.values is 100; /data/proteins has 120 values",
        hint="model.conditions.fields.ec.values: 120 or more",
    ),
)
