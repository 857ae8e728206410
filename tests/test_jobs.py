"""The specs and profiles that the project ships: they resolve, and their comments hold."""

import math
import re
from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile, load_profile
from sedd.errors import SpecError
from sedd.experiments.plan_graph import build_graph
from sedd.launch.resources import local_parameters, render_sbatch, slurm_parameters
from sedd.model.size import parameter_count
from sedd.spec.build import DataTask
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_request
from sedd.spec.plan import is_plan, load_plan

PROJECT = Path(__file__).parents[1]
PLANS = [path for path in sorted((PROJECT / "jobs").glob("*.yaml")) if is_plan(path)]
SPECS = [path for path in sorted((PROJECT / "jobs").glob("*.yaml")) if path not in PLANS]
TRAININGS = [spec for spec in SPECS if isinstance(load_request(spec).experiments[0], Experiment)]
PROFILES = sorted((PROJECT / "slurm").glob("*.yaml"))


def header(spec: Path) -> str:
    """The comment lines with which a spec opens."""
    lines = spec.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    assert lines[first].startswith("name: "), "the first line after the comments is the name"
    return "\n".join(line.removeprefix("#").strip() for line in lines[:first])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.stem)
@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_every_spec_resolves_with_every_profile(spec: Path, profile: Path, tmp_path: Path):
    where, request = load_profile(profile), load_request(spec)
    for experiment in request.experiments:
        if isinstance(where, SlurmProfile):
            asked = slurm_parameters(
                experiment, where, code=tmp_path / "code", submitit=tmp_path, parallel=request.parallel
            )
            script = render_sbatch(asked, submitit=tmp_path, tasks=len(request.experiments))
            assert f"#SBATCH --nodes={experiment.resources.nodes}\n" in script
            assert f"#SBATCH --ntasks-per-node={experiment.resources.ranks_per_node}\n" in script
        elif experiment.resources.nodes > 1:
            with pytest.raises(SpecError, match="this machine is one node"):
                local_parameters(experiment, {})
        else:
            assert local_parameters(experiment, {})["gpus_per_node"] == experiment.resources.gpus_per_node


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: p.stem)
def test_every_plan_holds_together_and_its_specs_fit_every_profile(plan: Path, tmp_path: Path):
    graph = build_graph(load_plan(plan))
    for stage in graph.stages.values():
        (first, *_) = stage.source.resolve(lambda other, what: f"/{other}/{what}").experiments
        for profile in map(load_profile, PROFILES):
            if isinstance(profile, SlurmProfile):
                slurm_parameters(first, profile, code=tmp_path / "code", submitit=tmp_path)


@pytest.mark.parametrize("spec", [*SPECS, *PLANS], ids=lambda p: p.stem)
def test_a_spec_opens_with_its_command_hours_and_result(spec: Path):
    opening = header(spec)
    command = re.search(r"^command: +(.+)", opening, re.M)
    assert command
    assert f"sedd submit jobs/{spec.name}" in command[1]
    named = re.findall(r"(?:slurm|tools|jobs)/[\w.-]+", command[1])
    assert [path for path in named if not (PROJECT / path).exists()] == []
    assert re.search(r"^expected hours: +[\d.]+", opening, re.M)
    assert re.search(r"^expected result: +\w+", opening, re.M)


def training_of(spec: Path) -> Experiment:
    experiment = load_request(spec).experiments[0]
    assert isinstance(experiment, Experiment)
    return experiment


@pytest.mark.parametrize("spec", TRAININGS, ids=lambda p: p.stem)
def test_parameter_counts_in_comments_are_true(spec: Path):
    parameters = parameter_count(training_of(spec).model)
    for claim in re.findall(r"([\d,]{6,}) parameters", spec.read_text()):
        assert int(claim.replace(",", "")) == parameters
    for claim in re.findall(r"([\d.]+) million parameters", spec.read_text()):
        assert float(claim) == round(parameters / 1e6, 1)


def test_the_designs_two_sizes_are_there():
    sizes = {spec.stem: parameter_count(training_of(spec).model) for spec in TRAININGS}
    assert sizes["uniref50_small"] == 23_930_880
    assert sizes["uniref50_base"] == 66_521_344
    assert set(re.findall(r"([\d,]{6,}) parameters", (PROJECT / "jobs" / "README.md").read_text())) == {
        f"{sizes['uniref50_small']:,}",
        f"{sizes['uniref50_base']:,}",
    }


@pytest.mark.parametrize("spec", TRAININGS, ids=lambda p: p.stem)
def test_arithmetic_in_comments_is_true(spec: Path):
    """`x 131,072 = 26 billion residues` and `26 billion residues at 90,000 a second and card` → the hours."""
    experiment = training_of(spec)
    training, cards = experiment.training, experiment.resources.nodes * experiment.resources.gpus_per_node
    residues = training.steps * training.residues_per_step
    text = spec.read_text()
    for factor, billions in re.findall(r"x ([\d,]+) = (\d+) billion residues", text):
        assert int(factor.replace(",", "")) == training.residues_per_step
        assert round(residues / 1e9) == int(billions)
    if speed := re.search(r"hours: +([\d.]+)\b[^.]*? at ([\d,]+) a second and\s+#?\s*card", text):
        hours = residues / (int(speed[2].replace(",", "")) * cards) / 3600
        assert math.isclose(hours, float(speed[1]), rel_tol=0.05)


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_a_spec_is_listed_in_the_readme(spec: Path):
    assert f"`{spec.name}`" in (PROJECT / "jobs" / "README.md").read_text()


@pytest.mark.parametrize("path", SPECS + PROFILES, ids=lambda p: p.name)
def test_numbers_read_alike_in_both_versions_of_yaml(path: Path):
    """Editors read YAML 1.2, where 131_072 is text."""
    values = (line.split("#")[0] for line in path.read_text().splitlines())
    assert [line for line in values if re.search(r":\s*\d+_\d", line)] == []


def test_the_trainings_on_uniref50_read_the_store_that_its_data_job_makes():
    (made,) = load_request(PROJECT / "jobs" / "uniref50_data.yaml").experiments
    assert isinstance(made, DataTask)
    readers = [spec for spec in TRAININGS if spec.stem.startswith("uniref50")]
    assert {training_of(spec).data.store for spec in readers} == {made.build.store}


def test_the_quickstart_fits_a_laptop():
    (experiment,) = load_request(PROJECT / "jobs" / "quickstart.yaml").experiments
    asked = experiment.resources
    assert (asked.gpus_per_node, asked.nodes, asked.ranks) == (0, 1, 1)
    assert asked.cpus_per_process <= 2
    assert asked.memory <= 4 * 2**30
    assert asked.walltime <= 3600
