"""Open the token stores of a run where they are read fastest."""

import datetime as dt
from pathlib import Path

from sedd.data.node_cache import Staged, stage_store
from sedd.data.store import TokenStore
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir
from sedd.spec.data import DataSpec
from sedd.training.distributed import Ranks


def open_stores(
    data: DataSpec, stage: str | None, *, run: RunDir, attempt: int, ranks: Ranks
) -> list[TokenStore]:
    """The stores of `data` in their order: the node's own copies under `stage`, where there is one and they fit.

    Raises:
        DataError: a store that is missing or damaged.
    """
    if stage is None:
        return [TokenStore.open(path) for path in data.stores]
    stores = []
    for path in data.stores:
        staged = stage_store(path, stage)
        _report(path, staged, run=run, attempt=attempt, ranks=ranks)
        stores.append(staged.store)
    return stores


def _report(path: Path, staged: Staged, *, run: RunDir, attempt: int, ranks: Ranks) -> None:
    """A finding where a store is not copied; into the log what was done, once a node."""
    if staged.problem is None:
        if staged.copied_bytes or ranks.local_rank == 0:
            print(f"{path} is read from {staged.store.path}", flush=True)
        return
    if ranks.local_rank != 0:
        return
    saw = f"{path} is read where it is: {staged.problem}"
    print(f"staging: {saw}", flush=True)
    finding = {
        "check": "staging",
        "status": "WARN",
        "saw": saw,
        "hint": "batches may come slower; stage (spec or profile) must name a large disk of the node",
    }
    now = dt.datetime.now(dt.UTC)
    append_event(
        run.events,
        "preflight",
        attempt=attempt,
        now=now,
        side="node",
        ok=True,
        findings=[finding],
        rank=ranks.rank,
    )
