"""`sedd train`: train in the foreground, without a scheduler."""

import datetime as dt
import json
import os
import shlex
import signal
import socket
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.amend.spec_change import require_training
from sedd.cli.changed_run import require_ready
from sedd.cli.console import note, tell
from sedd.cli.main import INTERRUPTED
from sedd.cli.options import Overrides
from sedd.cluster.profile import LocalProfile
from sedd.errors import ClusterError, RunError, SeddError, SpecError, UsageError
from sedd.home import expand_home
from sedd.preflight.read.cards import query_driver, visible
from sedd.rundir.attempts import Cause, is_completed, parse_attempts
from sedd.rundir.energy_meter import energy_written, open_meter
from sedd.rundir.events import append_event, read_events
from sedd.rundir.find import find_run, runs_root, typed_name
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.lock import one_action
from sedd.rundir.owner import require_own
from sedd.rundir.presence import exit_without_folder
from sedd.rundir.read_usage import signs_of_use
from sedd.spec.experiment import Experiment

if TYPE_CHECKING:
    from sedd.launch.make_runs import Order
    from sedd.training.distributed import Ranks
    from sedd.training.stop import StopFlag

_REFUSAL = "Nothing was started: {name} would not run to its end. --no-preflight starts it all the same."


def command(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC|RUN", help="A spec; or a run's folder, id or name to resume.")
    ],
    set_: Overrides = None,
    preflight: Annotated[
        bool,
        typer.Option("--preflight/--no-preflight", help="Check first that the run can come to its end here."),
    ] = True,
) -> None:
    """Train in the foreground. Ctrl-C, SIGTERM or a terminal that is closed saves and ends; `sedd train RUN` resumes.

    Under torchrun every process is a rank: torchrun --nproc-per-node 4 -m sedd train jobs/mine.yaml

    Example: sedd train jobs/quickstart.yaml --set training.steps=20
    """
    asked = _Asked(spec, tuple(set_ or ()), preflight)
    if "RANK" not in os.environ:  # else the first rank tells the others
        asked = asked.checked(ranks=1)  # before torch is imported
    from sedd.training.distributed import Ranks
    from sedd.training.loop import Outcome, train
    from sedd.training.rendezvous import StoppedError
    from sedd.training.stop import StopFlag

    ranks = Ranks.from_environment(os.environ)
    stop = StopFlag()
    stop.install()
    stop.install_hangup()
    try:
        run, attempt = _run_and_attempt(asked, ranks, stop)
    except StoppedError as e:
        tell(e.message)
        raise typer.Exit(INTERRUPTED if stop.signal is signal.SIGINT else 1) from e
    if ranks.is_first:
        _begin(run, attempt, ranks)
        tell(f"run {run.name}/{run.id} in {run.path}")
    exit_without_folder(run)
    try:
        with energy_written(run.energy, rank=ranks.rank, attempt=attempt, meter=open_meter(os.environ)):
            outcome = train(run, attempt=attempt, ranks=ranks, stop=stop)
    except Exception as error:  # the run folder must say why; the command line prints it
        if ranks.is_first:
            _record_failed(run, attempt, error)
        raise
    if not ranks.is_first:
        return
    if outcome is Outcome.COMPLETED:
        _record(run, "completed", attempt, step=_last_step(run))
        tell(f"completed: {run.path}")
        return
    by, step = _interruption(stop.signal), _last_step(run)
    _record(run, "gave_up", attempt, cause=Cause.INTERRUPTED, step=step, detail=f"by {by}")
    message = (
        f"interrupted by {by}, saved at step {step}; resume with: sedd train {shlex.quote(str(run.path))}"
    )
    tell(message)
    raise typer.Exit(INTERRUPTED if stop.signal is signal.SIGINT else 1)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line asks for, and what became of it so far."""

    spec: Path
    overrides: tuple[str, ...]
    is_check_wanted: bool
    run: RunDir | None = None
    """The run to continue, if one was named."""
    order: "Order | None" = None
    """What the new run is made of, once it has been checked."""

    def checked(self, ranks: int) -> "_Asked":
        """The same after spec and preflight checks, with `run` or `order` filled in.

        Raises:
            UsageError, SpecError, DataError, RunError: nothing can be trained; or preflight ends the command.
        """
        run = _given_run(self.spec)
        if run is None:
            return replace(self, order=_new_order(self, ranks))
        if self.overrides:
            raise UsageError(
                "--set changes a spec, and a run's spec is fixed", hint="start a new run from the spec"
            )
        experiment = require_training(run)
        _next_attempt(run)
        if self.is_check_wanted:
            require_ready(run, _as_here(experiment, ranks), LocalProfile(executor="local"))
        return replace(self, run=run)


def _as_here(experiment: Experiment, ranks: int) -> Experiment:
    """The experiment for checks: with as many processes and cards of this machine as will train, whatever it asks."""
    driver = query_driver()
    cards = len(visible(driver, os.environ)) if driver else 0
    is_known = driver is not None or not Path("/proc/driver/nvidia").exists()
    gpus = min(ranks, cards) if is_known else experiment.resources.gpus_per_node
    asked = {"nodes": 1, "spare_nodes": 0, "gpus_per_node": gpus, "processes_per_node": ranks}
    return experiment.model_copy(update={"resources": experiment.resources.model_copy(update=asked)})


def _interruption(number: signal.Signals | None) -> str:
    """Who stopped us, in a user's words; under torchrun perhaps another rank was told."""
    if number is None:
        return "a signal to another rank"
    return "Ctrl-C" if number is signal.SIGINT else number.name


def _run_and_attempt(asked: _Asked, ranks: "Ranks", stop: "StopFlag") -> tuple[RunDir, int]:
    """The folder to train in, given or new, and the attempt's number: rank 0 tells both to the others.

    Raises:
        StoppedError: a stop signal came before all ranks did. RunError: the run is complete or under way.
    """
    from sedd.training.rendezvous import share

    def make() -> str:
        ready = asked if asked.run or asked.order else asked.checked(ranks.size)
        run = ready.run if ready.order is None else _new_run(ready.order)
        assert run is not None, "a run or an order"
        return json.dumps([str(run.path), _next_attempt(run)])

    said = make() if ranks.size == 1 else share(make, ranks, os.environ, stop=stop, notify=note)
    path, attempt = json.loads(said)
    return RunDir(Path(path)), int(attempt)


def _given_run(spec: Path) -> RunDir | None:
    """The run to go on with; None for a spec, or a path that is none.

    Raises: UsageError for an unknown name; RunError for the run of another user.
    """
    if expand_home(spec).is_file():
        return None
    try:
        found = find_run(str(spec), runs_root())
    except UsageError as e:
        if len(spec.parts) > 1 or spec.suffix:
            return None
        raise UsageError(f"{spec} is not a spec, and there is {e.message}", hint=e.hint) from e
    return require_own(found)


def _new_order(asked: _Asked, ranks: int) -> "Order":
    """What a new run is made of, checked. Raises: as `_Asked.checked`."""
    from sedd.cli.submit_checks import LoginChecks, resolved
    from sedd.data.manifest import read_manifest
    from sedd.launch.make_runs import Order
    from sedd.model.size import parameter_count
    from sedd.spec.load import load_request

    spec = asked.spec
    overrides = [*asked.overrides, "resources.nodes=1", f"resources.processes_per_node={ranks}"]
    profile = LocalProfile(executor="local")
    request = resolved(load_request(spec, overrides), profile)
    if len(request.experiments) > 1:
        raise UsageError(f"{spec} is a sweep of {len(request.experiments)} runs", hint="sedd submit takes it")
    (experiment,) = request.experiments
    if not isinstance(experiment, Experiment):
        raise UsageError(
            f"{spec} asks for no training but for task: {experiment.task}",
            hint=f"run it with: sedd submit {shlex.quote(str(spec))} --follow",
        )
    for store in experiment.data.stores:
        read_manifest(store)  # a folder of a run that cannot begin would be left behind
    parameters = [parameter_count(experiment.model)]
    order = Order(
        request=request,
        profile=profile,
        runs=runs_root(),
        parameters=parameters,
        hashes=[_hash_as_asked(asked, experiment)],
    )
    if not asked.is_check_wanted:
        return order
    here = replace(order, request=replace(request, experiments=(_as_here(experiment, ranks),)))
    found = LoginChecks(as_json=False, refusal=_REFUSAL)(here)
    return replace(order, findings=found.findings, first_batches=found.first_batches)


def _hash_as_asked(asked: _Asked, experiment: Experiment) -> str:
    """The hash by which `sedd submit` knows the spec: with the shape that it asks for, not that of our processes."""
    from sedd.spec.load import load_request

    try:
        (submitted,) = load_request(asked.spec, asked.overrides).experiments
    except SpecError:  # only in our shape it is a spec
        return experiment.hash()
    return experiment.model_copy(update={"resources": submitted.resources}).hash()


def _new_run(order: "Order") -> RunDir:
    """A folder for the run."""
    from sedd.launch.make_runs import make_runs, remove_runs

    made: list[Path] = []
    try:
        run = make_runs(order, now=_now(), made=made).runs[0]
    except BaseException:
        remove_runs(made)
        raise
    _record(run, "submitted", 0, job_id="", executor="foreground", host=socket.gethostname())
    return run


def _next_attempt(run: RunDir) -> int:
    """The number of the attempt that starts now. Raises: RunError when the run is complete or under way."""
    events = read_events(run.events)
    if read_manifest(run).get("halving"):
        raise RunError(
            f"{run.name}/{run.id} is a point of a halving sweep: its fellows decide at each rung",
            hint=f"sedd requeue {typed_name(run)} lets it go on, where it may",
        )
    if is_completed(events):
        raise RunError(
            f"{run.name}/{run.id} is completed",
            hint="sedd extend RUN --steps N gives it more steps; or start a new run from its spec",
        )
    attempts = parse_attempts(events)
    _require_idle(run, is_open=bool(attempts) and attempts[-1].cause is None)
    return 1 + len(attempts)


def _begin(run: RunDir, attempt: int, ranks: "Ranks") -> None:
    """Count this start as an attempt.

    Raises:
        RunError: the run is under way by now: all ranks had to come first, and somebody else was faster.
    """
    where = {"job_id": "", "host": socket.gethostname(), "pid": os.getpid(), "executor": "foreground"}
    signs = signs_of_use(run, os.environ, executor="foreground")
    gpus = ranks.gpus_here()
    with one_action(run):
        if _next_attempt(run) != attempt:
            raise RunError(
                f"run {run.id} was continued by another command meanwhile",
                hint=f"sedd status {typed_name(run)}",
            )
        _record(run, "attempt_started", attempt, **where, **signs, nodes=1, ranks=ranks.size, gpus=gpus)


def _require_idle(run: RunDir, *, is_open: bool) -> None:
    """Refuse a run that trains elsewhere, or waits for it; `is_open`: its last attempt has not recorded its end.

    Raises:
        RunError: it is under way; or its attempt is open, and of another machine.
    """
    from sedd.launch.liveness import RunStatus, query_run_status

    try:
        standing = query_run_status(run).status
    except ClusterError as e:
        note(f"{e.message}; whether a job of this run still trains is not known")
        return
    except RunError:
        if is_open:
            raise
        return
    if standing in (RunStatus.RUNNING, RunStatus.WAITING):
        raise RunError(
            f"run {run.id} is {standing}, in the background or as a job",
            hint=f"sedd cancel {typed_name(run)} ends that first",
        )


def _record_failed(run: RunDir, attempt: int, error: Exception) -> None:
    line = traceback.format_exception_only(error)[-1].strip()
    line = error.message if isinstance(error, SeddError) else line
    _record(run, "failed", attempt, cause="crashed", error=line, rank=0)
    _record(run, "gave_up", attempt, cause="crashed", detail=line)


def _last_step(run: RunDir) -> int:
    return max((int(e.get("step", 0)) for e in read_events(run.events) if e.event == "checkpoint"), default=0)


def _record(run: RunDir, event: str, attempt: int, **fields: Any) -> None:
    append_event(run.events, event, attempt=attempt, now=_now(), **fields)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
