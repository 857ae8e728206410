"""What submitit is told, and the batch script that comes of it."""

import datetime as dt
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from submitit import SlurmExecutor

from sedd import cuda_order
from sedd.cluster.jobs import JobFact
from sedd.cluster.profile import STORED, LocalProfile, SlurmProfile
from sedd.cluster.states import JobState
from sedd.complaints import inner_models
from sedd.errors import SpecError
from sedd.job.entry import worker_command
from sedd.launch.freeze import imported_package, slots_folder
from sedd.launch.make_runs import make_runs
from sedd.launch.resources import (
    changes_by_site,
    granted_walltime_s,
    local_parameters,
    render_sbatch,
    require_no_secrets,
    require_plain_path,
    signal_lead_s,
    slurm_parameters,
)
from sedd.launch.submit_local import all_cards, cards_of_slots
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from tests.launch.conftest import order_for, small_experiment

RUN = Path("/shared/my runs/small/20261122-120000-1a2b3c4d")
PLAIN = SlurmProfile(executor="slurm")
FULL = SlurmProfile.model_validate(
    {
        "executor": "slurm",
        "partition": "gpu",
        "account": "proteins",
        "qos": "normal",
        "constraint": "v100-32g",
        "exclude": "node[03,17]",
        "gpu": {"type": "v100"},
        "max_walltime": "12h",
        "mail": {"user": "me@lab.org"},
        "setup": ["module load cuda/12.8"],
        "scratch": "/scratch/$USER",
        "sbatch": {"reservation": "week 47", "exclusive": True},
    }
)
FOUR_GPUS = {"nodes": 2, "gpus_per_node": 2, "cpus_per_process": 8, "memory": "96GiB", "walltime": "24h"}


def script(experiment: Experiment, profile: SlurmProfile, *, tasks: int = 1, **wishes: Any) -> str:
    submitit = RUN / "submitit"
    parameters = slurm_parameters(experiment, profile, code=RUN / "code", submitit=submitit, **wishes)
    return render_sbatch(parameters, submitit=submitit, tasks=tasks)


@pytest.mark.parametrize(
    ("name", "resources", "profile", "tasks", "wishes"),
    [
        ("one_cpu", {}, PLAIN, 1, {}),
        ("two_nodes_full_profile", FOUR_GPUS, FULL, 1, {}),
        ("array_two_at_a_time", {"gpus_per_node": 1}, PLAIN, 12, {"parallel": 2}),
        ("after_two_others", {}, PLAIN, 1, {"dependency": "afterok:7:12_0"}),
    ],
)
def test_batch_script(
    name: str,
    resources: dict[str, object],
    profile: SlurmProfile,
    tasks: int,
    wishes: dict[str, object],
    golden: Callable[[str, str], None],
) -> None:
    experiment = small_experiment(resources={"gpus_per_node": 0} | resources)
    text = script(experiment, profile, tasks=tasks, **wishes)
    golden(f"{name}.sbatch", text.replace(shlex.quote(sys.executable), "/venv/bin/python"))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_submitit_accepts_all_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/srun")
    asked = slurm_parameters(small_experiment(), FULL, code=RUN, submitit=RUN)
    executor = SlurmExecutor(folder=tmp_path, python=asked.pop("python"))
    executor.update_parameters(**asked)


REACHES: dict[str, tuple[object, str]] = {
    "executor": ("slurm", "#SBATCH --job-name=small"),
    "partition": ("long,short", "#SBATCH --partition=long,short"),
    "account": ("proteins", "#SBATCH --account=proteins"),
    "qos": ("high", "#SBATCH --qos=high"),
    "constraint": ("v100-32g&ib", "#SBATCH --constraint='v100-32g&ib'"),
    "exclude": ("node[03,17]", "#SBATCH --exclude='node[03,17]'"),
    "gpu.type": ("v100", "#SBATCH --gres=gpu:v100:1"),
    "cpu.partition": ("cpu", "#SBATCH --partition=cpu"),
    "cpu.qos": ("low", "#SBATCH --qos=low"),
    "cpu.constraint": ("big", "#SBATCH --constraint=big"),
    "max_walltime": ("30m", "#SBATCH --time=30"),
    "mail.user": ("me@lab.org", "#SBATCH --mail-user=me@lab.org"),
    "mail.type": (["REQUEUE"], "#SBATCH --mail-type=REQUEUE"),
    "setup": (["module load cuda", 'conda activate "my env"'], 'module load cuda\nconda activate "my env"\n'),
    "python": ("python", "\nSEDD_STEP_EXIT=$? python -m sedd.job.batch_end"),
    "scratch": ("/scratch/$USER", 'export TMPDIR="/scratch/$USER"'),
    "sbatch": ({"reservation": "week 47", "exclusive": True}, "#SBATCH --exclusive\n"),
}
"""Each field of a profile that a batch script shows, a value for it, and what is then in the script."""
READ_ELSEWHERE = {
    "setup_must_succeed",
    "gpu.memory",
    "container",
    "wandb",
    "requeue",
    "stage",
    "local_checkpoints",
}

READ_FROM_MANIFEST = {"co2_grams_per_kwh", "notify_from"}
"""Of a run that is there, by rooms that know no profile."""
NOTIFY = {"notify.on", "notify.command", "notify.apprise", "notify.mail"}


def test_every_field_of_a_profile_is_read_by_something() -> None:
    anywhere = READ_FROM_MANIFEST | NOTIFY
    assert set(fields_of(SlurmProfile)) == REACHES.keys() | READ_ELSEWHERE | anywhere
    assert set(fields_of(LocalProfile)) == {
        *("executor", "gpu.type", "gpu.memory", "wandb", "stage", "local_checkpoints"),
        *anywhere,
    }
    package = "\n".join(path.read_text() for path in imported_package().rglob("*.py"))
    unread = [f for f in READ_ELSEWHERE if not re.search(rf"(profile|site)\S*\.{re.escape(f)}\b", package)]
    unread += [f for f in READ_FROM_MANIFEST if f'.get("{f}")' not in package]
    unread += [f for f in NOTIFY if f.replace("notify.", "settings.") not in package]
    assert unread == []


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of a profile's fields."""
    for name, field in model.model_fields.items():
        inner = list(inner_models(field.annotation))
        if not inner:
            yield prefix + name
        for section in inner:
            yield from fields_of(section, f"{prefix}{name}.")


@pytest.mark.parametrize("field", REACHES)
def test_a_profiles_field_reaches_the_batch_script(field: str) -> None:
    value, shown = REACHES[field]
    section, _, name = field.rpartition(".")
    required = {"mail": {"user": "me"}, "cpu": {"partition": "any"}}.get(section, {})
    given = {section: required | {name: value}} if section else {name: value}
    experiment = small_experiment(resources={"gpus_per_node": 0 if section == "cpu" else 1})
    assert shown in script(experiment, SlurmProfile.model_validate({"executor": "slurm"} | given))
    assert field == "executor" or shown not in script(experiment, PLAIN)


def test_in_a_container_the_training_runs_inside_and_the_job_entry_outside() -> None:
    experiment = small_experiment(resources={"gpus_per_node": 1})
    inside = SlurmProfile(executor="slurm", container="/images/sedd.sif")
    command = worker_command(RunDir(RUN), experiment, inside)
    assert command[:3] == ("apptainer", "exec", "--nv")
    assert command[command.index("/images/sedd.sif") + 1 :] == (
        "python3",
        "-m",
        "sedd.job.worker",
        str(RUN),
    )
    for folder in (RUN, experiment.data.store):
        assert ("--bind", str(folder)) in pairwise(command)
    assert script(experiment, inside) == script(experiment, PLAIN)


def test_a_batch_script_survives_the_signals_that_its_job_gets() -> None:
    trap = next(line for line in script(small_experiment(), PLAIN).splitlines() if line.startswith("trap"))
    survivor = (
        f'{trap}\nkill -TERM $$; kill -USR2 $$; bash -c "kill -TERM \\$\\$" ; echo child $?; echo alive'
    )
    done = subprocess.run(["bash", "-c", survivor], capture_output=True, text=True, check=True)
    assert "alive" in done.stdout
    assert "child 143" in done.stdout, "programs of the script must not inherit an ignored SIGTERM"


def test_the_site_cuts_the_walltime_down() -> None:
    asks_24h = small_experiment(resources=FOUR_GPUS)
    assert granted_walltime_s(asks_24h, FULL) == 12 * 3600
    assert granted_walltime_s(asks_24h, PLAIN) == 24 * 3600


@given(st.integers(60, 10**6), st.none() | st.floats(0, 10**5))
def test_the_warning_leaves_most_of_the_walltime_for_training(walltime_s: int, save_s: float | None) -> None:
    lead_s = signal_lead_s(walltime_s, save_s)
    assert 1 <= lead_s <= max(1, walltime_s // 4)


def test_the_warning_comes_earlier_where_saving_is_slow() -> None:
    assert signal_lead_s(86400) == 120
    assert signal_lead_s(86400, save_s=2.0) == 38
    assert signal_lead_s(86400, save_s=300.0) == 1230


def test_a_local_run_has_one_task_and_all_cards_where_none_are_named() -> None:
    parameters = local_parameters(small_experiment(resources={"gpus_per_node": 2, "memory": "1GiB"}), {})
    assert parameters["tasks_per_node"] == 1
    assert "visible_gpus" not in parameters


@pytest.mark.parametrize(
    ("named", "first_two"),
    [
        ("4,7", ("4", "7")),
        ("GPU-1f,GPU-8a", ("GPU-1f", "GPU-8a")),
        ("MIG-9c0e, MIG-GPU-1f/3/0,5", ("MIG-9c0e", "MIG-GPU-1f/3/0")),
    ],
)
def test_a_local_run_keeps_to_the_users_cards_by_the_names_they_have(
    named: str, first_two: tuple[str, str]
) -> None:
    two = small_experiment(resources={"gpus_per_node": 2, "memory": "1GiB"})
    assert local_parameters(two, {"CUDA_VISIBLE_DEVICES": named})["visible_gpus"] == first_two


@pytest.mark.parametrize("named", ["", "4", "GPU-1f", "-1", "4,-1,5"])
def test_fewer_cards_than_the_spec_asks_for_are_refused_and_never_made_up(named: str) -> None:
    two = small_experiment(resources={"gpus_per_node": 2, "memory": "1GiB"})
    with pytest.raises(SpecError, match="asks for 2 GPUs, and CUDA_VISIBLE_DEVICES"):
        local_parameters(two, {"CUDA_VISIBLE_DEVICES": named})


@pytest.mark.parametrize(
    ("first_cards", "visible", "count", "groups"),
    [
        ("0 1 2", "4,7,GPU-1f", 1, ["4", "7", "GPU-1f"]),
        ("0 2", "0,1,2,3", 2, ["0,1", "2,3"]),
        ("0 2", "0,1,2,3", 1, ["0", "2"]),  # a smaller point of a sweep of different ones
        ("0 2 4", "0,1,2", 2, ["0,1"]),  # what has too few cards is not taken
        ("0 2", "5", 2, ["5"]),  # the check `gpus` refuses it
        ("0 1", "", 0, ["", ""]),  # a point that takes none
        ("0 1 2 3", "a,b,c,d", 2, ["a,b", "b,c", "c,d"]),  # sedd requeue --gpus has made it wider
        ("0 2", "a,b,c,d,e,f", 3, ["a,b,c", "c,d,e"]),
    ],
)
def test_a_slot_of_a_local_sweep_is_a_group_of_cards(
    tmp_path: Path, first_cards: str, visible: str, count: int, groups: list[str]
) -> None:
    slots = slots_folder(RunDir(tmp_path).code)
    slots.mkdir()
    for number, first in enumerate(first_cards.split()):
        (slots / f"slot-{number}").write_text(first)
    assert [*cards_of_slots(RunDir(tmp_path), visible, count=count).values()] == groups


@pytest.mark.parametrize("firsts", ["0 1 2 3", "0 2 4", "0 3", "0", "  "])
def test_no_two_points_of_a_local_sweep_hold_slots_and_share_a_card(tmp_path: Path, firsts: str) -> None:
    """Whatever shapes they have by now: what is taken by one of two that share a card keeps the other waiting."""
    slots = slots_folder(RunDir(tmp_path).code)
    slots.mkdir()
    for number, first in enumerate(firsts.split(" ")):  # empty: of a sweep made before slots named a card
        (slots / f"slot-{number}").write_text(first)
    shapes = [
        (set(group), set(cards.split(",")))
        for count in range(1, 7)
        for group, cards in cards_of_slots(RunDir(tmp_path), "a,b,c,d,e,f", count=count).items()
    ]
    assert shapes
    for (held, cards), (others, other_cards) in itertools.combinations(shapes, 2):
        assert held & others or not cards & other_cards


def test_slots_are_as_wide_as_the_widest_point(tmp_path: Path) -> None:
    points = [
        small_experiment(seed=each, resources={"gpus_per_node": each, "memory": "1GiB"}) for each in (1, 2)
    ]
    order = order_for(*points, runs=tmp_path, parallel=2)
    for run in make_runs(order, now=dt.datetime.now(dt.UTC), made=[]).runs:
        assert [*cards_of_slots(run, "0,1,2,3", count=2).values()] == ["0,1", "2,3"]


def test_a_run_that_is_no_point_has_no_slots(tmp_path: Path) -> None:
    assert cards_of_slots(RunDir(tmp_path), "0,1", count=1) == {}


def test_the_cards_of_a_sweep_are_those_that_are_named_else_all_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["V100", "V100", "V100"]
    driver = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUUID=lambda number: f"GPU-{number}",
        nvmlDeviceGetName=names.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert all_cards({}) == ("0", "1", "2")
    names[1] = "T400"
    monkeypatch.setattr(cuda_order, "query_cuda_uuids", lambda order: ("GPU-2", "GPU-0"))
    assert all_cards({}) == ("0", "1"), "by CUDA's numbers, which a card has not that CUDA cannot use"
    assert all_cards({"CUDA_VISIBLE_DEVICES": "7, GPU-1f"}) == ("7", "GPU-1f")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert all_cards({}) == ()


def test_this_machine_is_one_node() -> None:
    with pytest.raises(SpecError, match=r"resources\.nodes is 2"):
        local_parameters(small_experiment(resources={"nodes": 2, "gpus_per_node": 1}), {})


def test_a_run_that_an_older_version_sent_to_another_cluster_is_not_sent_to_this_one() -> None:
    stored = SlurmProfile.model_validate({"executor": "slurm", "sbatch": {"clusters": "gpu"}}, context=STORED)
    with pytest.raises(SpecError, match="clusters"):
        slurm_parameters(small_experiment(), stored, code=Path("/c"), submitit=Path("/s"))


@pytest.mark.parametrize(
    "line", ["export WANDB_API_KEY=1f2e", "HF_TOKEN=abc", 'export MY_PASSWORD="x"', "ALL,API_KEY=12"]
)
def test_a_profile_with_a_key_in_it_is_refused(line: str) -> None:
    with pytest.raises(SpecError, match="every run folder"):
        require_no_secrets(SlurmProfile(executor="slurm", setup=["module load x", line]))
    with pytest.raises(SpecError):
        require_no_secrets(SlurmProfile(executor="slurm", sbatch={"extra": line}))


@pytest.mark.parametrize("line", ["module load token/1.2", "export TOKENIZERS=1", "export KEY=$MY_TOKEN"])
def test_harmless_lines_are_accepted(line: str) -> None:
    require_no_secrets(SlurmProfile(executor="slurm", setup=[line]))


def test_runs_cannot_live_where_their_path_would_be_read_as_two() -> None:
    require_plain_path(Path("/home/me/my runs"))
    for bad in ("/home/a:b", "/home/100%", "/home/a\nb"):
        with pytest.raises(SpecError, match=re.escape("SEDD_RUNS") + "|cannot live"):
            require_plain_path(Path(bad))


@pytest.mark.parametrize(
    ("on_record", "changes"),
    [
        ({"partition": "gpu", "time_limit_s": 43_200, "may_requeue": True}, []),
        ({}, []),  # nothing is shown, nothing is known
        ({"partition": "cpu"}, ["the partition is cpu, not gpu"]),
        ({"time_limit_s": 3_600}, ["the time limit is 1h, not 12h"]),
        ({"may_requeue": False, "partition": "gpu"}, ["it may not be requeued"]),
    ],
)
def test_what_a_site_changed_is_told(on_record: dict[str, Any], changes: list[str]) -> None:
    parameters = slurm_parameters(small_experiment(), FULL, code=RUN / "code", submitit=RUN / "submitit")
    parameters["time"] = 720
    found = list(changes_by_site(parameters, JobFact(job_id="7", state=JobState.PENDING, **on_record)))
    assert len(found) == len(changes)
    assert all(text.startswith(start) for text, start in zip(found, changes, strict=True))
    several = parameters | {"partition": "cpu,gpu"}
    job = JobFact(job_id="7", state=JobState.RUNNING, partition="gpu")
    assert list(changes_by_site(several, job)) == []
