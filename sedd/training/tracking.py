"""Report to trackers; to W&B as one run per run folder. Training never fails because of one."""

import netrc
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sedd.rundir.atomic import replace_text, write_text
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.metrics import read_metrics
from sedd.training.tensorboard_files import start_tensorboard

Notify = Callable[[str], None]


class Tracker(Protocol):
    """Where metric rows go besides metrics.jsonl."""

    def log(self, row: Mapping[str, float | int]) -> None:
        """Send one row; its `step` is the x axis."""

    def finish(self) -> None:
        """Flush; the run stays open for the next attempt."""


class Silent:
    """Tracks nothing."""

    def log(self, row: Mapping[str, float | int]) -> None:
        return

    def finish(self) -> None:
        return


class Several:
    """Tells them all."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, row: Mapping[str, float | int]) -> None:
        for tracker in self._trackers:
            tracker.log(row)

    def finish(self) -> None:
        for tracker in self._trackers:
            tracker.finish()


class Wandb:
    """A W&B run that later attempts continue: same id, own step metric.

    wandb holds rows back in memory, and a SIGKILL takes them along. So only what was logged when `finish` returned
    counts as sent; the next attempt sends the rest again from metrics.jsonl. A row that did arrive is then there
    twice, with the same step and the same numbers: the curve has no gap and stays one.
    """

    def __init__(self, run: Any, sent: Path, rows: Iterable[Mapping[str, float | int]]) -> None:
        self._run = run
        self._sent = sent
        self._newest = int(sent.read_text()) if sent.exists() else -1
        for row in rows:
            if row["step"] > self._newest:
                self.log(row)

    def log(self, row: Mapping[str, float | int]) -> None:
        self._run.log(dict(row))
        self._newest = int(row["step"])

    def finish(self) -> None:
        self._run.finish()
        replace_text(self._sent, f"{self._newest}\n")


FILE_TRACKERS: dict[str, Callable[[RunDir, Notify], Tracker | None]] = {"tensorboard": start_tensorboard}
"""Those whose files lie in the run folder, by the names of `tracking.files`."""


def start_tracker(run: RunDir, experiment: Experiment, *, is_first: bool, notify: Notify) -> Tracker:
    """The trackers of an attempt, as one; rank 0 alone has any.

    Call it when metrics.jsonl holds the rows up to the step that the attempt starts from, and no others.
    """
    if not is_first:
        return Silent()
    files = [FILE_TRACKERS[name](run, notify) for name in experiment.tracking.files]
    found = [_start_wandb(run, experiment, notify), *(tracker for tracker in files if tracker is not None)]
    speaking = [tracker for tracker in found if not isinstance(tracker, Silent)]
    if len(speaking) > 1:
        return Several(speaking)
    return speaking[0] if speaking else Silent()


def _start_wandb(run: RunDir, experiment: Experiment, notify: Notify) -> Tracker:
    """W&B; says project, run and URL, or the command that syncs an offline run.

    Without a login, internet or a working wandb the run continues offline or untracked, and says so.
    """
    mode = experiment.tracking.wandb
    if mode == "disabled":
        return Silent()
    if mode == "online" and not has_login():
        notify("wandb: no login found on this machine; continuing offline (run `wandb login` once)")
        mode = "offline"
    try:
        started = _start(run, experiment, mode)
        if started is None:
            notify("wandb: no answer from the server; continuing offline")
            started = _start(run, experiment, "offline")
    except Exception as e:  # whatever is wrong with tracking, training continues; the log says what it was
        notify(f"wandb: {type(e).__name__}: {e}; continuing without it")
        return Silent()
    where = (
        started.url
        if mode == "online" and started.url
        else f"offline; wandb sync {run.wandb}/wandb/offline-run-*"
    )
    notify(f"wandb: project {experiment.tracking.project}, run {run.name}/{run.id}: {where}")
    return Wandb(started, run.wandb / "sent_step", read_metrics(run.metrics))


def wandb_id(run: RunDir) -> str:
    """The run's W&B id, made once and kept in the run folder."""
    path = run.wandb / "id"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text().strip()


def has_login(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a W&B key is in the environment or in the home folder's netrc."""
    if environment.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(environment.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    server = environment.get("WANDB_BASE_URL", "https://api.wandb.ai")
    return any(host in server for host in hosts)


def _start(run: RunDir, experiment: Experiment, mode: str) -> Any:
    """A started W&B run, or None when the server did not answer."""
    import wandb

    identity = wandb_id(run)
    settings = wandb.Settings(silent=True, init_timeout=60, save_code=False, disable_git=True)
    try:
        started = wandb.init(
            id=identity,
            resume="allow",
            mode="online" if mode == "online" else "offline",
            dir=str(run.wandb),
            project=experiment.tracking.project,
            entity=experiment.tracking.entity,
            name=f"{run.name}/{run.id}",
            group=run.name,
            tags=list(experiment.tracking.tags),
            settings=settings,
        )
    except wandb.errors.CommError:
        return None
    # Not init's `config`: a run that was extended or reshaped says otherwise than its first attempt, which W&B minds.
    started.config.update(experiment.model_dump(mode="json"), allow_val_change=True)
    started.define_metric("step")
    started.define_metric("*", step_metric="step")
    return started
