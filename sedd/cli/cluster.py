"""`sedd cluster`: the profile of this site: written from what SLURM says, and checked."""

import datetime as dt
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sedd.cli.console import out, print_json, show, tell
from sedd.cli.options import FILE, Force, Json
from sedd.cluster.profile import Profile, SlurmProfile, load_profile, read_profile
from sedd.rundir.atomic import is_stdout, require_output, write_output
from sedd.rundir.find import runs_root
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request

if TYPE_CHECKING:
    from rich.text import Text

    from sedd.preflight.context import Answers
    from sedd.preflight.finding import Finding
    from sedd.rundir.layout import RunDir

app = typer.Typer(no_args_is_help=True)

TEST_NAME = "cluster-check"
_SITE_CHECKS = (
    *("account", "environment", "node_resources", "notify_means", "partition", "run_folder"),
    *("sbatch_test", "shared_folders", "signal_plan", "submit_limits"),
)
"""Login checks that are about the site and the profile, whatever is trained."""
_PYTHON_CHECKS = ("packages", "torch_wheel")
"""Further checks for the test job: it trains, so it needs a working Python and torch."""
_PROTEINS, _LENGTH, _STORE = 200, 60, "made-up.store"


@app.command("init")
def init(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write; left out, or -, it is printed.",
            metavar=FILE,
            readable=False,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Ask SLURM what this site has and write a commented profile: a reason beside each line.

    Example: sedd cluster init -o slurm/here.yaml
    """
    from sedd.cluster_init.profile_text import profile_text
    from sedd.cluster_init.propose import propose
    from sedd.cluster_init.site_facts import query_site
    from sedd.yaml import parse_document

    require_output(output, force=force, endings=(".yaml", ".yml", ""), to_stdout=True)
    facts = query_site()
    text = profile_text(propose(facts), cluster=facts.config.cluster, now=dt.datetime.now(dt.UTC))
    read_profile(parse_document(text, name="the proposed profile"))
    if output is None or is_stdout(output):
        out().print(text, markup=False, highlight=False, soft_wrap=True, end="")
        return
    write_output(output, text)
    tell(f"{output}: read it, then: sedd cluster check {output}")


@app.command("check")
def check(
    profile: Annotated[
        Path | None,
        typer.Argument(
            metavar="PROFILE", help="Cluster profile; default $SEDD_CLUSTER, else slurm/local.yaml."
        ),
    ] = None,
    test_job: Annotated[
        bool,
        typer.Option("--test-job", help="Also submit a job of a minute, and wait for what its node says."),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=0, help="GPUs of the small job that is looked at; left out: 1 where the partition has any."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Test a profile against the SLURM at hand; exit code 1 when its jobs would not run, or SLURM does not answer.

    --test-job trains a tiny network for 20 steps: setup lines, Python, the node's own preflight, a checkpoint. The
    command waits as long as the queue does; Ctrl-C leaves the job.

    Example: sedd cluster check slurm/here.yaml --test-job
    """
    from sedd.preflight.context import Answers
    from sedd.preflight.finding import Finding, has_failures
    from sedd.preflight.show.render import findings_table
    from sedd.rundir.layout import RunDir

    site = load_profile(profile)
    answers = Answers()
    has_gpus = isinstance(site, SlurmProfile) and _may_have_gpus(site, answers)
    asked = (gpus if gpus is not None else int(has_gpus)) if isinstance(site, SlurmProfile) else 0
    only = (*_SITE_CHECKS, *(_PYTHON_CHECKS if test_job else ()))
    findings = _check_login(site, asked, answers=answers, only=only)
    has_answered = not isinstance(site, SlurmProfile) or _has_answered(answers)
    is_ready = has_answered and not has_failures(findings)
    run: RunDir | None = None
    found, outcome = tuple[Finding, ...](), None
    if not as_json:
        out().print(findings_table(findings))
    if is_ready and test_job:
        run, outcome = _run_test_job(site, asked)
        found = _findings_of(run)
        is_ready = outcome == "completed" and not has_failures(found)
        if not as_json:
            if found:
                out().print(findings_table(found))
            show(f"test job: {outcome}   sedd logs {run.id}")
    if not as_json:
        for line in _remarks(site, asked, has_gpus=has_gpus, asks_job=test_job, outcome=outcome):
            show(line)
        out().print(_closing((*findings, *found), has_answered=has_answered, outcome=outcome))
    else:
        print_json(
            {
                "ready": is_ready,
                "findings": [finding.as_json() for finding in findings],
                "test_job": _document(run, outcome, found),
            }
        )
    if not is_ready:
        raise typer.Exit(1)


def _document(run: "RunDir | None", outcome: str | None, found: "Sequence[Finding]") -> dict[str, Any] | None:
    if run is None:
        return None
    return {"run": str(run.path), "outcome": outcome, "findings": [finding.as_json() for finding in found]}


def _closing(findings: "Sequence[Finding]", *, has_answered: bool, outcome: str | None) -> "Text":
    """The last line: whether jobs of this profile would run here, as far as it could be tested.

    That they train is known only where one has trained.
    """
    from rich.text import Text

    from sedd.preflight.finding import has_failures
    from sedd.preflight.show.render import conclusion, counted

    if not has_answered:
        return Text(f"NOT TESTED: SLURM does not answer here ({counted(findings)})", style="bold red")
    if outcome not in (None, "completed"):
        return Text(f"NOT READY: the test job did not complete ({counted(findings)})", style="bold red")
    if outcome is None and not has_failures(findings):
        return Text(f"PROFILE FITS THIS SITE ({counted(findings)})", style="bold green")
    return conclusion(findings)


def _may_have_gpus(profile: SlurmProfile, answers: "Answers") -> bool:
    """False where SLURM shows nodes of the profile's partition, and none of them has a GPU."""
    from sedd.errors import ClusterError
    from sedd.preflight.context import CheckContext, Side, real_slurm

    context = CheckContext(
        side=Side.LOGIN,
        experiment=_experiment(Path(_STORE), gpus=0),
        profile=profile,
        folder=Path(),
        environ={},
        slurm=real_slurm(answers),
    )
    try:
        nodes = context.query_own_nodes()
    except ClusterError:
        return True  # that it does not answer, the checks tell
    return not nodes or any(sum(node.gpus.values()) for node in nodes)


def _remarks(
    profile: Profile, gpus: int, *, has_gpus: bool, asks_job: bool, outcome: str | None
) -> list[str]:
    """What was not looked at, in a line each. `outcome` is that of the test job, if one was run."""
    lines = []
    if asks_job and outcome is None:
        lines.append("test job: not run, since what is above would stop it")
    if asks_job and outcome != "completed" and gpus:
        lines.append("if only the GPU is missing: --gpus 0 tests a job without one")
    if isinstance(profile, SlurmProfile) and not has_gpus:
        lines.append("the partition's nodes have no GPUs: specs need resources.gpus_per_node: 0 here")
    elif isinstance(profile, SlurmProfile) and profile.gpu.memory is None:
        lines.append(
            "gpu.memory is not set: preflight cannot say whether a network fits a card (gpu: {memory: 32GiB})"
        )
    if not asks_job:
        lines.append("no spec was checked (sedd preflight SPEC), and no job has run here (--test-job)")
    return lines


def _has_answered(answers: "Answers") -> bool:
    """Whether SLURM has answered any of the questions about the site."""
    from sedd.cluster.site import SiteConfig

    kinds = {"config": SiteConfig, "partitions": list, "nodes": list}
    return any(answers.known(question, kind) is not None for question, kind in kinds.items())


def _check_login(
    profile: Profile, gpus: int, *, answers: "Answers", only: Collection[str]
) -> "tuple[Finding, ...]":
    """What the login checks say of a small job; of one without GPUs, too, where the profile sends those elsewhere."""
    from sedd.preflight.finding import Finding
    from sedd.preflight.run_checks import check_login

    found, runs = dict[str, Finding](), runs_root().absolute()
    store = _test_folder(runs) / _STORE
    for count in dict.fromkeys((gpus, *([0] if isinstance(profile, SlurmProfile) and profile.cpu else []))):
        request = Request(experiments=(_experiment(store, gpus=count),), points=({},), parallel=None)
        findings = check_login(request, profile, runs=runs, answers=answers, only=only)
        for finding in findings:
            found.setdefault(f"{finding.check} {finding.status} {finding.saw}", finding)
    return tuple(found.values())


def _experiment(store: Path, *, gpus: int) -> Experiment:
    """The smallest training that uses all that a real one does."""
    return Experiment.model_validate(
        {
            "name": TEST_NAME,
            "data": {"store": str(store)},
            "model": {"hidden": 64, "cond": 32, "blocks": 2, "heads": 2},
            "training": {
                "steps": 20,
                "residues_per_step": 2048,
                "residues_per_gpu": 2048,
                "warmup_steps": 5,
                "log_every_steps": 5,
                "validation": {"every_steps": 20, "residues": 512},
            },
            "resources": {"gpus_per_node": gpus, "cpus_per_process": 1, "memory": "4GiB", "walltime": "10m"},
            "tracking": {"wandb": "disabled"},
        }
    )


def _run_test_job(profile: Profile, gpus: int) -> "tuple[RunDir, str]":
    """Submit the test job and wait for its end: its run, and the state that it ended in."""
    from sedd.launch.make_runs import Order
    from sedd.launch.submit import submit
    from sedd.monitor.show.follow import wait

    runs = runs_root()
    experiment = _experiment(_build_store(_test_folder(runs)), gpus=gpus)
    order = Order(
        request=Request(experiments=(experiment,), points=({},), parallel=None),
        profile=profile,
        runs=runs,
        parameters=[None],
    )
    submission = submit(order, now=dt.datetime.now(dt.UTC))
    run = submission.runs[0]
    tell(f"test job: {run.name}/{run.id} is in the queue")
    (view,) = wait([run], notify=tell)
    return run, view.state.value


def _test_folder(runs: Path) -> Path:
    return runs / f".{TEST_NAME}"


def _build_store(folder: Path) -> Path:
    """A token store of made-up proteins; they teach nothing, and need no file of the user's."""
    import random

    from sedd.data.build import build_store

    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    proteins = ("".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=_LENGTH)) for _ in range(_PROTEINS))
    fasta = folder / "made-up.fasta"
    fasta.write_text("".join(f">{number}\n{protein}\n" for number, protein in enumerate(proteins)))
    return build_store([fasta], folder / _STORE, force=True, workers=1).path


def _findings_of(run: "RunDir") -> "tuple[Finding, ...]":
    """What the newest attempt's node preflight found that was not OK."""
    from sedd.preflight.finding import Finding, Status
    from sedd.rundir.events import read_events

    looks = [e for e in read_events(run.events) if e.event == "preflight" and e.get("side") == "node"]
    listed = looks[-1].get("findings", []) if looks else []
    return tuple(
        Finding(check=f["check"], status=Status(f["status"]), saw=f["saw"], hint=f.get("hint"))
        for f in listed
    )
