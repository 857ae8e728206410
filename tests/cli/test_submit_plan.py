"""`sedd submit plan.yaml` and the commands that take a plan's name."""

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sedd.cli.main import build_app
from sedd.experiments import submit_plan
from sedd.rundir.events import append_event
from sedd.rundir.plan_record import find_plan
from sedd.soonest.choose import Choice, Wish
from sedd.soonest.forecast import Forecast
from sedd.soonest.shapes import JobShape, Layout
from sedd.soonest.speed import Speed
from sedd.spec.load import load_resolved
from tests.experiments.tiny_plan import PLAN, write_plan_file


def sedd(*arguments: str) -> Result:
    return CliRunner().invoke(build_app(list(arguments)), list(arguments))


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan's file in the current folder; nothing that is submitted starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(
        submit_plan, "submit_unsubmitted", lambda runs: dict.fromkeys(runs, "the site is full")
    )
    return write_plan_file(tmp_path)


def test_a_dry_run_shows_the_graph_and_touches_nothing(plan: Path) -> None:
    done = sedd("submit", str(plan), "--dry-run")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "plan tiny-plan: 5 stages, 7 runs to be made",
        "  data      1 run   to be made",
        "  train     2 runs  to be made  after data",
        "  evaluate  2 runs  to be made  after each of train",
        "  sample    1 run   to be made  after train",
        "  rescue    1 run   to be made  after train (if it fails)",
    ]
    assert not (plan.parent / "runs").exists()
    stages = json.loads(sedd("submit", str(plan), "--dry-run", "--json").stdout)["stages"]
    assert [(s["name"], s["missing"], s["waits"], s["by_point"]) for s in stages] == [
        ("data", 1, {}, []),
        ("train", 2, {"data": "afterok"}, []),
        ("evaluate", 2, {"train": "afterok"}, ["train"]),
        ("sample", 1, {"train": "afterok"}, []),
        ("rescue", 1, {"train": "on_failure"}, []),
    ]


def test_a_plan_is_known_by_its_name_from_then_on(plan: Path) -> None:
    sedd("submit", str(plan), "--no-preflight")
    record = find_plan("tiny-plan", plan.parent / "runs")
    assert record is not None
    ids = [run.id for run in record.runs]
    seen = sedd("status", "tiny-plan")
    assert seen.exit_code == 0, seen.output
    lines = seen.stdout.splitlines()
    assert lines[0].startswith("tiny-plan  0 of 5 stages done")
    assert [line.split()[-3] for line in lines[1:3]] == ["data", "2"]
    assert sedd("status").stdout.splitlines() == [
        "tiny-plan  plan of 5 stages: 7 not submitted; sedd status tiny-plan"
    ]
    (listed,) = json.loads(sedd("status", "--json").stdout)["plans"]
    assert [i for stage in listed["stages"].values() for i in stage] == ids
    plan.write_text(PLAN.replace("length: 20", "length: 30"))
    assert "sample    1 run   to be made: spec changed" in sedd("submit", str(plan), "--dry-run").stdout
    ended = json.loads(sedd("cancel", "tiny-plan", "--json").stdout)["runs"]
    assert [(one["id"], one["cancelled"]) for one in ended] == [(i, True) for i in ids]


def test_preflight_passes_over_what_another_stage_makes(plan: Path) -> None:
    done = sedd("submit", str(plan))
    assert "wait for a place: the site is full" in done.stdout, done.output


def test_what_nobody_makes_is_refused_before_anything_is_made(plan: Path) -> None:
    plan.write_text(PLAN.replace("inputs: [p.fasta]", "inputs: [q.fasta]"))
    done = sedd("submit", str(plan))
    assert done.exit_code == 1
    assert "q.fasta" in done.output
    assert find_plan("tiny-plan", plan.parent / "runs") is None


def test_preflight_says_what_another_stage_makes_and_fails_for_nothing_else(plan: Path) -> None:
    done = sedd("preflight", str(plan), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["ready"], document["plan"]) == (True, "tiny-plan")
    later = {
        stage["name"]: {f["check"]: f["saw"] for f in stage["findings"] if f["status"] == "LATER"}
        for stage in document["stages"]
    }
    assert {name: set(found) for name, found in later.items()} == {
        "data": set(),
        "train": {"data_store", "first_batch"},  # labels: of trainings with conditions
        "evaluate": {"trained_network"},
        "sample": {"trained_network"},
        "rescue": {"trained_network"},
    }
    assert "made by stage train" in later["sample"]["trained_network"]
    assert not (plan.parent / "runs").exists()


def test_preflight_prints_what_several_stages_share_once(plan: Path) -> None:
    document = json.loads(sedd("preflight", str(plan), "--json").stdout)
    first, *others = [stage["findings"] for stage in document["stages"]]
    shared = next(f["check"] for f in first if all(f in other for other in others))
    shown = sedd("preflight", str(plan)).output
    assert len(re.findall(rf"\b{shared}\b", shown)) == 1
    assert "and as above: " in shown


@pytest.mark.parametrize(
    ("old", "new", "stage"),
    [
        ("inputs: [p.fasta]", "inputs: [q.fasta]", "data"),
        ('{train.run}", fasta: [p.fasta]', '{train.run}", fasta: [q.fasta]', "evaluate"),
        ('store: "${data.store}"', "store: q.fasta", "train"),
    ],
)
def test_preflight_misses_what_no_stage_makes(plan: Path, old: str, new: str, stage: str) -> None:
    """Also of a stage that waits for something else."""
    assert PLAN.count(old) == 1
    plan.write_text(PLAN.replace(old, new))
    done = sedd("preflight", str(plan))
    assert done.exit_code == 1
    assert "q.fastadoesnotexist" in "".join(done.stdout.split())  # wrapped anywhere
    assert done.stdout.splitlines()[-1].startswith("NOT READY")
    assert done.stdout.splitlines()[-1].endswith(f": {stage}")


def test_soonest_picks_a_shape_for_the_stages_that_have_ranges(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shape is in the specs of the runs; asked again, and without the option, they are the same runs."""
    ranged = "resources: {gpus: 1-4, cpus_per_process: 1, walltime: 10m-1h}"
    head, _, tail = PLAN.partition("checkpoint: {every_steps: 2}\n")
    own = tail.replace(
        "resources: {gpus_per_node: 0, cpus_per_process: 1, memory: 1GiB, walltime: 10m}", ranged, 1
    )
    text = f"{head}checkpoint: {{every_steps: 2}}\n{own}".replace(
        "residues_per_gpu: 256", "residues_per_gpu: 64"
    )
    plan.write_text(text)
    site = plan.parent / "site.yaml"
    site.write_text("executor: slurm\npartition: gpu\n")
    picked = Forecast(shape=JobShape(layout=Layout(nodes=1, gpus_per_node=2), walltime_s=1800))
    choice = Choice(
        picked=picked,
        forecasts=(picked,),
        fixed=picked,
        speed=Speed(residue_s=1e-6, parameters=1000, source="measured"),
    )
    asked: list[str] = []

    def choose(wish: Wish, *_: object, **__: object) -> Choice:
        asked.append(wish.experiment.name)
        return choice

    monkeypatch.setattr("sedd.cli.soonest.choose", choose)
    submit = ("submit", str(plan), "--cluster", str(site), "--no-preflight", "--json")
    foreseen = json.loads(sedd(*submit, "--soonest", "--dry-run").stdout)
    assert [each["name"] for each in foreseen["soonest"]] == ["tiny-plan-train"]
    asked.clear()
    done = sedd(*submit, "--soonest")
    assert asked == ["tiny-plan-train"]
    assert "stage train waits for data" in done.stderr
    record = find_plan("tiny-plan", plan.parent / "runs")
    assert record is not None
    shapes = {
        stage.name: [
            (asked.resources.gpus_per_node, asked.resources.walltime)
            for asked in map(load_resolved, (run.spec for run in stage.runs))
        ]
        for stage in record.stages
    }
    assert shapes["train"] == [(2, 1800)] * 2
    assert shapes["evaluate"] == [(0, 600)] * 2
    for options in (("--soonest",), ()):
        sedd(*submit, *options)
        assert find_plan("tiny-plan", plan.parent / "runs") == record
    assert asked == ["tiny-plan-train"]


def test_preflight_of_a_plan_that_is_made_checks_nothing_again(plan: Path) -> None:
    sedd("submit", str(plan), "--no-preflight")
    stages = json.loads(sedd("preflight", str(plan), "--json").stdout)["stages"]
    assert [(stage["missing"], stage["findings"]) for stage in stages] == [(0, [])] * 5
    shown = sedd("preflight", str(plan)).stdout
    assert shown.splitlines()[-1].startswith("NOTHING TO CHECK: all runs of this plan are there already")


def test_a_plan_that_is_done_is_submitted_again_without_an_offer_to_end_it(plan: Path) -> None:
    sedd("submit", str(plan), "--no-preflight")
    record = find_plan("tiny-plan", plan.parent / "runs")
    assert record is not None
    now = dt.datetime.now(dt.UTC)
    for run in record.runs:
        for event in ("submitted", "completed"):
            append_event(run.events, event, attempt=0, now=now)
    (plan.parent / "p.store").mkdir()
    lines = sedd("submit", str(plan)).stdout.splitlines()
    assert lines[0] == "Plan tiny-plan: 5 stages, 7 runs; nothing to submit: all runs are there already"
    assert lines[-1] == "  status  sedd status tiny-plan"


@pytest.mark.parametrize("option", ["--set=seed=1", "--node"])
def test_preflight_of_a_plan_takes_no_options_of_one_job(plan: Path, option: str) -> None:
    assert "is a plan" in str(sedd("preflight", str(plan), option).exception)


@pytest.mark.parametrize("option", ["--set=seed=1", "--after=other"])
def test_options_of_one_job_are_refused(plan: Path, option: str) -> None:
    done = sedd("submit", str(plan), option)
    assert done.exit_code != 0
    assert find_plan("tiny-plan", plan.parent / "runs") is None
