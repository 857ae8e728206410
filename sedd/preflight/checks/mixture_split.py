"""Whether a mixture trains on proteins that it is validated on: its stores may have been split in different ways."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sedd.errors import DataError
from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECE = 1 << 22
"""Hashes that are compared at a time."""
_LOW = (1 << 24) - 1
"""Bits by which most hashes are seen to be none of those that are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    validation: int
    """Proteins that the run is validated on."""
    trained_on: int
    """Those of them that another store of the mixture has among its training proteins, to the letter."""
    store: str = ""
    """The first such store."""


def gather(context: CheckContext) -> Facts | None:
    data = context.training_run.data
    if data.mixture is None:
        return None
    import numpy as np

    from sedd.data.store import TokenStore

    try:
        first, *others = (TokenStore.open(path) for path in data.stores)
    except (DataError, OSError):
        return None  # the check data_store says what is wrong with it
    trains = {store.path: store.split("train").hashes for store in others}
    wanted = np.unique(first.split("validation").hashes)
    shared = {path: _shared(wanted, hashes) for path, hashes in trains.items()}
    return Facts(
        validation=len(wanted),
        trained_on=len(set().union(*shared.values())),
        store=next((str(path) for path, places in shared.items() if places), ""),
    )


def _shared(wanted: "NDArray[np.uint64]", hashes: "NDArray[np.uint64]") -> set[int]:
    """Places in `wanted` of those that occur among `hashes`."""
    import numpy as np

    places: set[int] = set()
    may_be = np.zeros(_LOW + 1, np.bool_)
    may_be[wanted & np.uint64(_LOW)] = True
    for start in range(0, len(hashes), _PIECE):
        piece = hashes[start : start + _PIECE]
        piece = piece[may_be[piece & np.uint64(_LOW)]]
        places.update(np.flatnonzero(np.isin(wanted, piece)).tolist())
    return places


def judge(facts: Facts) -> Verdict:
    if facts.trained_on:
        return warn(
            f"{facts.trained_on:,} of {facts.validation:,} proteins for validation are among those to train on in "
            f"{facts.store}: the validation bound is not that of unseen proteins",
            "build the stores with the same cluster table and the same --validation-fraction",
        )
    return ok(f"none of {facts.validation:,} proteins for validation is among those to train on")


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN,),
    catches="a mixture of stores that were split in different ways, so that it trains on what it is validated on; "
    "copies alone are seen, not relatives",
    takes="1 s",
    passing=Facts(validation=7_500, trained_on=0),
    failing=Facts(validation=7_500, trained_on=120, store="/data/other.store"),
)
