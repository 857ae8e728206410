"""`task:` chooses what a spec may hold."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from sedd.data.alphabet import RESIDUES, TOKENS
from sedd.errors import SpecError
from sedd.spec.build import DataTask
from sedd.spec.experiment import Experiment
from sedd.spec.inference import _LETTERS, EvaluateTask, SampleOptions, SampleTask
from sedd.spec.load import dump_resolved, load_request, load_resolved

BUILD = "name: a\ntask: data\nbuild: {inputs: [x.fasta, /y.fasta.gz], store: out/s, min_length: 20}\n"


def spec(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def test_without_a_task_a_spec_is_a_training(tmp_path: Path):
    path = spec(tmp_path, "name: a\ndata: {store: s}\ntraining: {steps: 1}\n")
    (experiment,) = load_request(path).experiments
    assert isinstance(experiment, Experiment)
    assert (experiment.task, experiment.steps) == ("train", 1)


def test_a_data_task_has_absolute_paths_and_no_gpu(tmp_path: Path):
    (task,) = load_request(spec(tmp_path, BUILD)).experiments
    assert isinstance(task, DataTask)
    assert task.build.inputs == (tmp_path / "x.fasta", Path("/y.fasta.gz"))
    assert task.build.store == tmp_path / "out" / "s"
    assert (task.resources.gpus_per_node, task.resources.ranks, task.steps) == (0, 1, None)
    assert task.folders() == (tmp_path, Path("/"), tmp_path / "out")


def test_a_resolved_data_task_reads_back_equal(tmp_path: Path):
    (task,) = load_request(spec(tmp_path, BUILD)).experiments
    assert load_resolved(spec(tmp_path, dump_resolved(task))) == task


def test_overrides_and_sweeps_reach_a_data_task(tmp_path: Path):
    swept = BUILD + "sweep: {grid: {build.max_unknown: [0.1, 0.2]}}\n"
    request = load_request(spec(tmp_path, swept), ["build.min_length=7"])
    built = [task.build for task in request.experiments if isinstance(task, DataTask)]
    assert [(build.max_unknown, build.min_length) for build in built] == [(0.1, 7), (0.2, 7)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BUILD.replace("task: data", "task: dta"), "spec.yaml:2: task is 'dta'"),
        (BUILD + "training: {steps: 1}\n", "unknown field 'training'"),
        (
            "name: a\ntask: score\nscore: {network: n, fasta: x.fasta}\n",
            "unknown field 'score.fasta' (its section has ",
        ),
        (BUILD + "resources: {gpus_per_node: 4}\n", "resources.gpus_per_node"),
        (BUILD.replace("[x.fasta, /y.fasta.gz]", "[]"), "build.inputs"),
        (BUILD.replace("20}", "20, max_length: 9}"), "max_length 9 is less than min_length 20"),
        (
            BUILD.replace("20}", "20, sample: 9, onto: old}"),
            "not added to a store: leave sample or onto out",
        ),
        (BUILD.replace("x.fasta", "$NO_SUCH_VARIABLE/x"), "no variable NO_SUCH_VARIABLE"),
    ],
)
def test_what_is_wrong_with_a_data_task_is_said(text: str, told: str, tmp_path: Path):
    with pytest.raises(SpecError) as caught:
        load_request(spec(tmp_path, text))
    assert told in str(caught.value)


SAMPLE = "name: a\ntask: sample\nsample: {network: ../runs/a, infill: t.fasta}\n"


def test_tasks_of_a_trained_network_have_absolute_paths_and_one_process(tmp_path: Path):
    (task,) = load_request(spec(tmp_path, SAMPLE)).experiments
    assert isinstance(task, SampleTask)
    assert (task.network, task.inputs) == (tmp_path.parent / "runs/a", (tmp_path / "t.fasta",))
    assert load_resolved(spec(tmp_path, dump_resolved(task))) == task
    text = "name: a\ntask: evaluate\nevaluate: {network: n.pt, fasta: [/x/f.fasta]}\n"
    (task,) = load_request(spec(tmp_path, text)).experiments
    assert isinstance(task, EvaluateTask)
    assert task.folders() == (tmp_path, Path("/x"))
    assert (task.resources.ranks, task.resources.gpus_per_node) == (1, 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("infill: t.fasta", "length: [80, 20]"), "first number must not be larger"),
        (("infill: t.fasta", "length: 0"), "invalid length '0'"),
        (("infill: t.fasta", "infill: t.fasta, length: 9"), "leave length out"),
        (("infill: t.fasta", "predictor: analytik"), "analytic"),
    ],
)
def test_what_is_wrong_with_a_sample_task_is_said(change: tuple[str, str], told: str, tmp_path: Path):
    with pytest.raises(SpecError) as caught:
        load_request(spec(tmp_path, SAMPLE.replace(*change)))
    assert told in str(caught.value)


def test_tasks_of_a_trained_network_take_several_gpus(tmp_path: Path):
    text = SAMPLE.replace("sample: {", "resources: {nodes: 2, gpus_per_node: 2}\nsample: {")
    (task,) = load_request(spec(tmp_path, text)).experiments
    assert task.resources.ranks == 4


def test_letters_to_omit_are_those_that_a_protein_may_hold():
    assert sorted(_LETTERS) == sorted(TOKENS[number] for number in RESIDUES)


def test_an_amino_acid_must_be_left_to_draw():
    """X alone would be drawn otherwise."""
    with pytest.raises(ValidationError, match="omit names every amino acid"):
        SampleOptions(omit="acdefghiklmnpqrstvwy")
    assert SampleOptions(omit="ACDEFGHIKLMNPQRSTVW").omit.endswith("W")


def test_a_command_takes_no_gpu_that_nobody_asked_for(tmp_path: Path):
    """Most programs use none, and an idle one costs others theirs."""
    fold = 'name: a\ntask: command\ncommand: {run: [fold, "{fasta}", "{out}"], fasta: p.fasta, column: x}\n'
    (task,) = load_request(spec(tmp_path, fold)).experiments
    assert (task.resources.gpus_per_node, task.resources.ranks) == (0, 1)
    (task,) = load_request(spec(tmp_path, fold), ["resources.gpus_per_node=1"]).experiments
    assert task.resources.gpus_per_node == 1
    with pytest.raises(SpecError, match=r"resources\.gpus_per_node"):
        load_request(spec(tmp_path, fold), ["resources.gpus_per_node=2"])
