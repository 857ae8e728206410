"""Ranks of a training without a scheduler meet before anything is made: rank 0 says in which run folder they train.

Nothing here blocks for long: variables of another distributed run, left over in a shell, make a process wait for ranks
that do not exist. It says so within seconds, and a stop signal ends the wait.
"""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sedd.errors import RunError
from sedd.training.distributed import VARIABLES, Ranks
from sedd.training.stop import StopFlag

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # documented, but not in its __all__

NOTICE_S = 3.0
"""Until a process says for whom it waits: ranks that torchrun starts come within seconds of each other."""
PATIENCE_S = 300.0
_TRY_S = 2.0
_POLL_S = 0.1


class StoppedError(RunError):
    """A stop signal came before all ranks did."""


class _Waiting:
    """A wait that says for whom, that has an end, and that a stop signal ends."""

    def __init__(
        self, ranks: Ranks, environ: Mapping[str, str], stop: StopFlag, notify: Callable[[str], None]
    ) -> None:
        self._stop, self._notify = stop, notify
        self._began = time.monotonic()
        self._is_told = False
        said = " ".join(f"{name}={environ[name]}" for name in VARIABLES if name in environ)
        self._whom = f"the other {ranks.size - 1} ranks of {ranks.size}, because of {said}"

    def look(self) -> None:
        """Take note of the time. Raises: StoppedError; RunError when it is too long."""
        if self._stop.signal is not None:
            raise StoppedError(f"{self._stop.signal.name} while waiting for {self._whom}")
        waited_s = time.monotonic() - self._began
        if waited_s > PATIENCE_S:
            raise RunError(f"waited {PATIENCE_S:g} s for {self._whom}", hint=_HINT)
        if waited_s > NOTICE_S and not self._is_told:
            self._is_told = True
            self._notify(f"waiting for {self._whom}; {_HINT}")


_HINT = f"to train in this process alone: unset {' '.join(VARIABLES)}"


def share(
    make: Callable[[], str],
    ranks: Ranks,
    environ: Mapping[str, str],
    *,
    stop: StopFlag,
    notify: Callable[[str], None],
) -> str:
    """What `make` gives on rank 0, on all ranks; called when all are there.

    Raises:
        StoppedError: a stop signal came first. RunError: not all ranks came, or rank 0 ended.
    """
    from torch.distributed import DistError

    waiting = _Waiting(ranks, environ, stop, notify)
    store = _connect(ranks, environ, waiting)
    try:
        store.add("arrived", 1)
        if ranks.is_first:
            _until(lambda: store.add("arrived", 0) >= ranks.size, waiting)
            store.set("said", make())
        _until(lambda: store.check(["said"]), waiting)
        said = str(store.get("said").decode())
        store.add("readers", 1)
        if ranks.is_first:  # the store lives here: everybody has to read before it goes
            _until(lambda: store.add("readers", 0) >= ranks.size, waiting)
    except DistError as e:
        raise RunError("rank 0 ended before it made the run folder", hint="its own error says why") from e
    return said


def _connect(ranks: Ranks, environ: Mapping[str, str], waiting: _Waiting) -> "TCPStore":
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined] # documented, but not in its __all__

    # Not MASTER_PORT: init_process_group will listen there.
    port = int(environ["MASTER_PORT"]) + 1
    host = "localhost" if ranks.is_first else environ["MASTER_ADDR"]
    while True:
        waiting.look()
        try:
            return TCPStore(
                host,
                port,
                ranks.size,
                is_master=ranks.is_first,
                timeout=dt.timedelta(seconds=_TRY_S),
                wait_for_workers=False,
            )
        except DistError as e:
            if ranks.is_first:
                raise RunError(f"cannot listen on port {port} (MASTER_PORT + 1): {e}", hint=_HINT) from e
            time.sleep(_POLL_S)


def _until(is_done: Callable[[], bool], waiting: _Waiting) -> None:
    while not is_done():
        waiting.look()
        time.sleep(_POLL_S)
