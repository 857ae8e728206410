"""Speed, start-up and save time from the events of earlier runs of the same network on the same cards."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.model.size import parameter_count
from sedd.rundir.events import append_event
from sedd.rundir.layout import create_run, run_id, write_manifest
from sedd.soonest.earlier_runs import find_earlier
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved
from tests.soonest.test_shapes import training

NOW = dt.datetime(2026, 11, 29, 12, tzinfo=dt.UTC)
V100 = SlurmProfile.model_validate({"executor": "slurm", "gpu": {"type": "v100"}})
Line = tuple[str, float, dict[str, object]]
TRAINED: Sequence[Line] = (
    ("attempt_started", 0, {"gpus": 4, "nodes": 2}),
    ("resumed", 20, {"step": 100}),
    ("checkpoint", 70, {"step": 300, "seconds": 3.0}),
    ("checkpoint", 120, {"step": 500, "seconds": 2.0}),
)


def make(runs: Path, experiment: Experiment, lines: Sequence[Line] = TRAINED, card: str = "v100") -> str:
    run = create_run(runs, experiment.name, run_id(NOW, experiment.hash()), dump_resolved(experiment))
    write_manifest(
        run,
        {
            "parameters": parameter_count(experiment.model),
            "profile": {"executor": "slurm", "gpu": {"type": card}},
        },
    )
    for event, seconds, fields in lines:
        append_event(run.events, event, attempt=1, now=NOW + dt.timedelta(seconds=seconds), **fields)
    return f"{run.name}/{run.id}"


def test_speed_is_steps_over_time_between_the_first_and_the_last_save(tmp_path: Path) -> None:
    name = make(tmp_path, training())
    earlier = find_earlier(training(), V100, tmp_path)
    (measured,) = earlier.measured
    assert measured.residues_per_s == pytest.approx(400 * 8 * 1024 / 100)
    assert (measured.layout.nodes, measured.layout.gpus_per_node) == (2, 2)
    assert (earlier.runs, earlier.restart_s, earlier.save_s) == ((name,), 20, 3.0)


def test_other_cards_other_networks_and_runs_that_never_saved_twice_tell_nothing(tmp_path: Path) -> None:
    make(tmp_path, training(), card="a100")
    make(tmp_path, Experiment.model_validate(training().model_dump(mode="json") | {"model": {"hidden": 64}}))
    make(tmp_path, training(), TRAINED[:2])
    (tmp_path / "small" / "damaged").mkdir()
    (tmp_path / "small" / "damaged" / "manifest.json").write_text("{")
    assert find_earlier(training(), V100, tmp_path).measured == ()
    assert find_earlier(training(), V100, tmp_path / "nowhere").measured == ()


def test_a_training_on_cpus_is_as_fast_as_one_of_as_many_processes_and_cores(tmp_path: Path) -> None:
    def on_cpus(**resources: int) -> Experiment:
        asked = {"gpus_per_node": 0, "processes_per_node": 2, "cpus_per_process": 4} | resources
        return Experiment.model_validate(training().model_dump(mode="json") | {"resources": asked})

    make(tmp_path, on_cpus(), [("attempt_started", 0, {"gpus": 0, "nodes": 1, "ranks": 2}), *TRAINED[1:]])
    (measured,) = find_earlier(on_cpus(), V100, tmp_path).measured
    assert measured.residues_per_s == pytest.approx(400 * 8 * 1024 / 100)
    for other in (on_cpus(processes_per_node=4), on_cpus(cpus_per_process=2), training()):
        assert find_earlier(other, V100, tmp_path).measured == ()


def test_spare_nodes_do_not_train(tmp_path: Path) -> None:
    started = ("attempt_started", 0, {"gpus": 12, "nodes": 2, "ranks": 8})
    make(tmp_path, training(), [started, *TRAINED[1:]])
    (measured,) = find_earlier(training(), V100, tmp_path).measured
    assert (measured.layout.nodes, measured.layout.gpus_per_node) == (2, 4)


def test_a_job_that_is_being_ended_looks_no_longer_than_it_has_time(tmp_path: Path) -> None:
    make(tmp_path, training())
    assert find_earlier(training(), V100, tmp_path, patience_s=-1).measured == ()
