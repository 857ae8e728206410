"""TensorBoard files in the run folder: curves where there is no internet, without a server or a login.

tensorboard --logdir runs/NAME
"""

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sedd.rundir.layout import RunDir
from sedd.training.metrics import read_metrics

FLUSH_S = 30


class Tensorboard:
    """Event files that hold every row once, whatever the number of attempts.

    Each attempt writes the rows up to its start anew from metrics.jsonl, and then removes the files before: what a
    killed attempt had not flushed is there, and what it did past the resumed step is not.
    """

    def __init__(self, writer: Any, rows: Iterable[Mapping[str, float | int]]) -> None:
        self._writer = writer
        for row in rows:
            self.log(row)
        writer.flush()

    def log(self, row: Mapping[str, float | int]) -> None:
        """Add one row; its `step` is the x axis."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(row["step"]))

    def finish(self) -> None:
        """Write what is left."""
        self._writer.close()


def start_tensorboard(run: RunDir, notify: Callable[[str], None]) -> Tensorboard | None:
    """The files of an attempt; None, and it says why, where they cannot be written: training continues."""
    try:
        from torch.utils.tensorboard import SummaryWriter

        before = list(run.tensorboard.glob("events.out.*"))
        writer = SummaryWriter(str(run.tensorboard), flush_secs=FLUSH_S)
        tracker = Tensorboard(writer, read_metrics(run.metrics))
        for path in before:
            path.unlink(missing_ok=True)
    except Exception as e:  # not installed, a full disk, an odd version: none may end the training
        notify(f"tensorboard: {type(e).__name__}: {e}; continuing without it")
        return None
    notify(f"tensorboard --logdir {shlex.quote(str(run.path.parent))}")
    return tracker
