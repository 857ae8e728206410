"""From a file, `--set` and a sweep to experiments."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from scipy import stats

from sedd.errors import SpecError
from sedd.spec.diffusion import GeometricSpec, SigmaCurriculumSpec
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request, dump_resolved, load_request, load_resolved
from sedd.spec.sweep import SweepSpec

Load = Callable[..., Request]

SPEC = """\
name: probe
data:
  store: proteins.store
training:
  steps: 10
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write a spec (SPEC and more lines) in a folder with a space, and load it."""
    path = tmp_path / "my jobs" / "probe.yaml"
    path.parent.mkdir()

    def load(more: str = "", *overrides: str, spec: str = SPEC) -> Request:
        path.write_text(spec + more)
        return load_request(path, overrides)

    return load


def told(load: Load, *arguments: str) -> list[str]:
    """The problems, without the folder of the file."""
    with pytest.raises(SpecError) as caught:
        load(*arguments)
    lines = caught.value.message.splitlines()
    return [line.split("my jobs/")[-1] for line in lines]


def test_problems_of_all_points_are_told_in_the_order_of_the_lines(load: Load):
    sweep = "sweep:\n  grid:\n    seed: [1, x]\n    training.steps: [2, 0]\n"
    places = [line.split(": ")[0] for line in told(load, sweep)]
    first = SPEC.count("\n") + 3
    assert places == [f"probe.yaml:{first}", f"probe.yaml:{first + 1}"]


def test_problems_of_options_are_told_after_those_of_the_file(load: Load):
    places = [line.split(": ")[0] for line in told(load, "diffusion: 3\n", "training.steps=0", "seed=x")]
    assert places == [f"probe.yaml:{SPEC.count(chr(10)) + 1}", "--set seed=x", "--set training.steps=0"]


def test_a_path_that_begins_above_the_specs_folder_is_that_of_the_file_whichever_spec_names_it(
    load: Load, tmp_path: Path
):
    (experiment,) = load(spec=SPEC.replace("proteins.store", "../data/x/../proteins.store")).experiments
    assert str(experiment.data.store) == f"{tmp_path}/data/x/../proteins.store", "x may be a link"


def test_a_spec_without_a_sweep_is_one_experiment(load: Load):
    request = load()
    assert request.points == ({},)
    assert request.parallel is None
    assert [e.training.steps for e in request.experiments] == [10]


def test_a_cluster_profile_is_told_to_be_one(load: Load):
    with pytest.raises(SpecError, match=r":1: this is a cluster profile, not the spec of a job$") as caught:
        load(spec="executor: local\n")
    assert "give it as --cluster" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("training.learning_rate=3e-4", lambda e: e.training.learning_rate == 3e-4),
        ("training.steps=7", lambda e: e.training.steps == 7),
        ("training.checkpoint.keep=9", lambda e: e.training.checkpoint.keep == 9),
        ("model.hidden=128", lambda e: e.model.hidden == 128),
        ("training.compile=true", lambda e: e.training.compile is True),
        ("resources.walltime=90m", lambda e: e.resources.walltime == 5400),
        ("resources.memory=1.5GiB", lambda e: e.resources.memory == 3 * 2**29),
        ("tracking.tags=[a, b]", lambda e: e.tracking.tags == ("a", "b")),
        ("tracking.entity=null", lambda e: e.tracking.entity is None),
        ("name='010'", lambda e: e.name == "010"),
        (
            "diffusion.noise={kind: geometric, sigma_max: 3}",
            lambda e: e.diffusion.noise == GeometricSpec(sigma_max=3.0),
        ),
        (
            "diffusion.curriculum={kind: sigma_scale, preschool_steps: 5}",
            lambda e: e.diffusion.curriculum == SigmaCurriculumSpec(preschool_steps=5),
        ),
    ],
)
def test_an_override_becomes_the_fields_value(load: Load, override: str, read: Callable[[Experiment], bool]):
    assert read(load("", override).experiments[0])


def test_of_two_overrides_the_last_wins(load: Load):
    assert load("", "seed=1", "seed=2").experiments[0].seed == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.stepz=5", "unknown field 'training.stepz' (did you mean 'steps'?)"),
        ("model.hiden=64", "unknown field 'model.hiden' (did you mean 'hidden'?)"),
        ("training.lr=1", "unknown field 'training.lr' (did you mean 'learning_rate'?)"),
        ("resources.time=1h", "unknown field 'resources.time' (did you mean 'walltime'?)"),
        ("model.hidden_size=64", "unknown field 'model.hidden_size' (did you mean 'hidden'?)"),
        ("steps=64", "unknown field 'steps' (did you mean 'training.steps'?)"),
        ("training.steps=many", "training.steps is 'many'; it must be a whole number"),
        ("training.steps=", "training.steps is empty; it must be a whole number"),
        ("training=5", "training is 5; it must be a section: 'key: value' lines"),
        ("training.steps.x=1", "'training.steps' is a value, not a section"),
        ("diffusion.curriculum.kind=time_bias", "'diffusion.curriculum.preschool_steps' is missing"),
        ("seed=010", "010 is octal in YAML 1.1 and decimal in 1.2: write 10, or quote it"),
    ],
)
def test_a_wrong_override_is_told_as_it_was_typed(load: Load, override: str, problem: str):
    assert told(load, "", override) == [f"--set {override}: {problem}"]


def test_problems_of_the_file_and_of_overrides_come_together(load: Load):
    assert set(told(load, "seed: -1\n", "training.steps=0")) == {
        "probe.yaml:6: seed is -1; it must be greater than or equal to 0",
        "--set training.steps=0: training.steps is 0; it must be greater than or equal to 1",
    }


def test_rules_over_several_fields_name_the_fields(load: Load):
    (shares,) = told(load, "resources: {gpus_per_node: 3}\n")
    assert "training.residues_per_step / residues_per_gpu = 4" in shares
    (heads,) = told(load, "", "model.heads=7")
    assert heads.startswith("--set model.heads=7: model: hidden 512 is not a multiple of 8 x heads = 56")
    (noise,) = told(load, "diffusion: {noise: {kind: geometric, sigma_min: 20.0, sigma_max: 1.0}}\n")
    assert noise.startswith("probe.yaml:6: diffusion.noise")
    assert "sigma_min 20 is not below sigma_max 1" in noise


@pytest.mark.parametrize(
    ("more", "at_fault"),
    [
        ("model:\n  blocks: 2\n  heads: 2\n  hidden: 100", "hidden: 100"),
        ("model:\n  blocks: 2\n  heads: 7", "heads: 7"),  # hidden is not given
        ("model:\n  blocks: 2\n  token_shift: 900", "token_shift: 900"),
        (
            "diffusion:\n  noise:\n    kind: geometric\n    sigma_max: 1.0\n    sigma_min: 20.0",
            "sigma_min: 20.0",
        ),
        ("diffusion:\n  graph: uniform\n  estimator: counts", "estimator: counts"),
        ("resources:\n  nodes: 1\n  repick: true", "repick: true"),
        ("resources:\n  gpus: 2\n  spare_nodes: 1", "gpus: 2"),
        ("sweep:\n  parallel: 2\n  grid:\n    seed: [1]\n    model.blocks: []", "model.blocks: []"),
        ("sweep:\n  parallel: 2\n  model.blocks: [2]", "model.blocks: [2]"),
        ("sweep:\n  parallel: 2\n  zip:\n    seed: [1]\n    model.blocks: [2, 3]", "zip:"),
        ("sweep:\n  halving:\n    rungs: [3]\n    keep: 4/3\n  grid:\n    seed: [1, 2]", "keep: 4/3"),
    ],
)
def test_a_rule_over_several_fields_has_the_line_of_the_first_that_is_given(
    load: Load, more: str, at_fault: str
):
    lines = (SPEC + more).splitlines()
    (number,) = [n for n, line in enumerate(lines, start=1) if line.strip() == at_fault]
    (problem,) = told(load, more + "\n")
    assert problem.startswith(f"probe.yaml:{number}: "), problem


def test_a_rule_over_sections_has_the_line_of_a_field(load: Load):
    steps = SPEC.replace(
        "  steps: 10\n", "  steps: 10\n  residues_per_step: 4096\n  residues_per_gpu: 1024\n"
    )
    with pytest.raises(SpecError, match=r"probe.yaml:6: training.residues_per_step / residues_per_gpu = 4"):
        load("resources:\n  gpus_per_node: 3\n", spec=steps)
    with pytest.raises(SpecError, match=r"probe.yaml:6: training.residues_per_step / residues_per_gpu"):
        load("resources:\n  gpus_per_node: 3\n", spec=SPEC + "  residues_per_gpu: 1024\n")


def test_of_several_fields_one_that_an_option_changes_is_named(load: Load):
    (problem,) = told(load, "model: {hidden: 512}\n", "model.heads=7")
    assert problem.startswith("--set model.heads=7: model: hidden 512 is not a multiple")


def test_a_store_is_taken_from_the_specs_own_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir("/")
    assert load().experiments[0].data.store == tmp_path / "my jobs" / "proteins.store"


def test_a_store_given_by_set_is_taken_from_the_working_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert load("", "data.store=here.store").experiments[0].data.store == tmp_path / "here.store"


@pytest.mark.parametrize("written", ["$SCRATCH/p.store", "${SCRATCH}/p.store"])
def test_variables_and_home_in_a_store_are_expanded(
    load: Load, monkeypatch: pytest.MonkeyPatch, written: str
):
    monkeypatch.setenv("SCRATCH", "/fast disk")
    monkeypatch.setenv("HOME", "/home/me")
    assert load("", f"data.store={written}").experiments[0].data.store == Path("/fast disk/p.store")
    assert load("", "data.store=~/p.store").experiments[0].data.store == Path("/home/me/p.store")


def test_an_unset_variable_is_told_with_its_place(load: Load, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(
        SpecError, match=r"probe.yaml:3: data.store is '\$NOWHERE/p': .* no variable NOWHERE"
    ) as caught:
        load(spec=SPEC.replace("proteins.store", "$NOWHERE/p"))
    assert caught.value.hint == "export NOWHERE=…"


def test_a_grid_is_every_combination(load: Load):
    request = load("sweep: {grid: {training.learning_rate: [1.0e-4, 3.0e-4], seed: [0, 1]}, parallel: 3}\n")
    assert [(e.training.learning_rate, e.seed) for e in request.experiments] == [
        (1e-4, 0),
        (1e-4, 1),
        (3e-4, 0),
        (3e-4, 1),
    ]
    assert request.points[1] == {"training.learning_rate": 1e-4, "seed": 1}
    assert request.parallel == 3
    assert len({e.hash() for e in request.experiments}) == 4


def test_a_zip_takes_values_together(load: Load):
    request = load("sweep: {zip: {training.learning_rate: [1.0e-4, 3.0e-4], seed: [5, 6]}}\n")
    assert [(e.training.learning_rate, e.seed) for e in request.experiments] == [(1e-4, 5), (3e-4, 6)]


def test_a_list_is_points_written_out(load: Load):
    request = load("sweep: {list: [{seed: 3}, {model.blocks: 2, seed: 4}, {}]}\n")
    assert [(e.model.blocks, e.seed) for e in request.experiments] == [(6, 3), (2, 4), (6, 0)]


RANDOM = """sweep:
  random:
    points: {points}
    seed: {seed}
    over:
      training.learning_rate: {{log_uniform: [1.0e-4, 1.0e-2]}}
      model.dropout: {{uniform: [0.0, 0.3]}}
      training.warmup_steps: {{int: [100, 102]}}
      model.blocks: {{choice: [6, 8]}}
"""


def test_points_drawn_at_random_are_within_their_ranges_and_as_likely_as_they_say():
    drawn = list(
        SweepSpec.model_validate(yaml.safe_load(RANDOM.format(points=1200, seed=3))["sweep"]).points()
    )
    rates = [math.log10(point["training.learning_rate"]) for point in drawn]
    assert stats.kstest(rates, "uniform", args=(-4, 2)).pvalue > 0.001
    dropouts = [point["model.dropout"] for point in drawn]
    assert stats.kstest(dropouts, "uniform", args=(0, 0.3)).pvalue > 0.001
    for key, values in {"training.warmup_steps": (100, 101, 102), "model.blocks": (6, 8)}.items():
        seen = Counter(point[key] for point in drawn)
        assert sorted(seen) == list(values)
        assert stats.chisquare(list(seen.values())).pvalue > 0.001
    assert abs(stats.spearmanr(rates, dropouts).statistic) < 0.1


def test_more_random_points_keep_the_first_ones(load: Load):
    few, many = (load(RANDOM.format(points=count, seed=0)).points for count in (5, 9))
    assert many[:5] == few
    assert load(RANDOM.format(points=5, seed=1)).points != few
    assert len({e.hash() for e in load(RANDOM.format(points=9, seed=0)).experiments}) == 9


def test_a_wrong_key_of_a_random_search_has_its_own_line(load: Load):
    problem = told(
        load, "sweep:\n  random:\n    points: 2\n    over:\n      training.warmup: {choice: [1, 2]}\n"
    )
    assert [line.startswith("probe.yaml:10: unknown field 'training.warmup'") for line in problem] == [True]


def test_a_point_replaces_a_whole_noise_schedule(load: Load):
    request = load("sweep: {grid: {diffusion.noise: [{kind: geometric}, {kind: loglinear}]}}\n")
    assert [e.diffusion.noise.kind for e in request.experiments] == ["geometric", "loglinear"]


def test_a_point_builds_on_overrides_and_on_the_specs_folder(load: Load, tmp_path: Path):
    request = load("sweep: {grid: {data.store: [a.store, /b.store]}}\n", "training.steps=3")
    assert [e.training.steps for e in request.experiments] == [3, 3]
    assert [e.data.store for e in request.experiments] == [tmp_path / "my jobs" / "a.store", Path("/b.store")]


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        ("{}", "sweep: a sweep takes exactly one of grid, zip, random, list; given: none"),
        ("{grid: {seed: [0]}, list: [{seed: 1}]}", "given: grid, list"),
        ("{grid: {seed: []}}", "sweep: seed has no values"),
        (
            "{zip: {seed: [0, 1], model.blocks: [1]}}",
            "zip needs lists of equal length; seen seed: 2, model.blocks: 1",
        ),
        ("{list: [{training: {steps: 5}}]}", "sweep: write dotted keys, such as training.steps"),
        ("{grid: {seed: 5}}", "sweep.grid.seed is 5; it must be a list"),
        ("{seed: [5], model.blocks: [1]}", "sweep: put seed, model.blocks below 'grid:'"),
        ("{gird: {seed: [5]}}", "unknown field 'sweep.gird' (did you mean 'grid'?)"),
        ("{parallel: 0, grid: {seed: [5]}}", "sweep.parallel is 0"),
        ("5", "sweep is 5; it must be a section"),
        ("{random: {points: 3, over: {}}}", "sweep.random.over"),
        ("{random: {points: 3, over: {seed: {}}}}", "takes exactly one of uniform, log_uniform, choice, int"),
        ("{random: {points: 3, over: {seed: {int: [5, 5]}}}}", "the range [5, 5] does not rise"),
        (
            "{random: {points: 3, over: {seed: {int: [0, 1]}}}}",
            "3 different points are wanted, and 2 were found",
        ),
        ("{random: {points: 20000, over: {seed: {int: [0, 1]}}}}", "a sweep of 20,000 runs"),
        ("{random: {points: 3, over: {seed: {log_uniform: [0, 1]}}}}", "it must be above 0"),
        ("{random: {points: 3, over: {seed: {log_unifrom: [1, 2]}}}}", "log_uniform'?"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_told(load: Load, sweep: str, problem: str):
    (line,) = told(load, f"sweep: {sweep}\n")
    assert line.startswith("probe.yaml:6: ")
    assert problem in line


def test_every_wrong_point_is_told_once_with_its_line_and_first_point(load: Load):
    sweep = "sweep:\n  grid:\n    training.learning_rate: [1.0e-4, -1]\n    training.warmup: [1]\n    seed: [0, 1]\n"
    unknown = "probe.yaml:9: unknown field 'training.warmup' (did you mean 'warmup_steps'?)"
    negative = "probe.yaml:8: training.learning_rate is -1; it must be greater than 0"
    assert set(told(load, sweep)) == {
        f"{unknown} (in the sweep at training.learning_rate=0.0001, training.warmup=1, seed=0)",
        f"{negative} (in the sweep at training.learning_rate=-1, training.warmup=1, seed=0)",
    }


def test_a_resolved_spec_holds_every_default_and_is_read_back_equal(load: Load, tmp_path: Path):
    more = "diffusion: {noise: {kind: cosine, sigma_max: 9}, curriculum: {kind: time_bias, preschool_steps: 3}}\n"
    more += "resources: {walltime: 100m, memory: 1000MB}\ntracking: {tags: ['on', '010', é]}\n"
    (experiment,) = load(more, "training.learning_rate=1e-5", "name='3e-4'").experiments
    path = tmp_path / "spec.yaml"
    path.write_text(dump_resolved(experiment), encoding="utf-8")
    again = load_resolved(path)
    assert again == experiment
    assert again.hash() == experiment.hash()
    assert "keep_every_steps: null" in path.read_text()
    assert "walltime: 100m" in path.read_text()


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        (
            f"grid: {{seed: {list(range(200))}, training.steps: {list(range(1, 101))}}}",
            "a sweep of 20,000 runs",
        ),
        (f"zip: {{seed: {list(range(10_001))}}}", "a sweep of 10,001 runs"),
        ("grid: {seed: [1, 2, 1]}", "two runs of the sweep are the same: seed=1"),
        ("grid: {training.learning_rate: [1.0e-3, 0.001]}", "are the same: training.learning_rate=0.001"),
        ("zip: {seed: [1, 1], training.steps: [2, 2]}", "are the same: seed=1, training.steps=2"),
        ("list: [{seed: 1}, {seed: 2}, {seed: 1}]", "are the same: seed=1"),
    ],
)
def test_a_sweep_of_too_many_or_equal_runs_is_one_line(sweep: str, told: str, tmp_path: Path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ndata: {store: x.store}\ntraining: {steps: 9}\nresources: {gpus_per_node: 0}\n"
        f"sweep: {{{sweep}}}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_request(path)
    (line,) = caught.value.message.splitlines()
    assert told in line


def test_a_sweep_over_what_only_looks_equal_is_taken(tmp_path: Path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ndata: {store: x.store}\ntraining: {steps: 9}\nresources: {gpus_per_node: 0}\n"
        "sweep: {list: [{seed: 1}, {training.steps: 1}, {seed: 1, training.steps: 1}]}\n"
    )
    assert len(load_request(path).points) == 3
