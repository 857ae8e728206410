"""What a training process finds in its environment."""

import os
import socket
from pathlib import Path

import pytest

from sedd.job import supervisor
from sedd.job.attempt import Meeting, Task, find_meeting, own_ranks, rank_environment
from sedd.job.environment import TaskEnvironment
from sedd.job.processes import SignalBox
from sedd.launch.freeze import slots_folder
from sedd.launch.make_runs import make_runs
from sedd.launch.submit_local import all_cards
from sedd.rundir import lock
from sedd.rundir.layout import RunDir
from tests.launch.conftest import order_for, small_experiment
from tests.launch.test_submit import NOW

MEETING = Meeting(attempt=3, address="v100-1", port=4711)


def environment_of(rank: int, environ: dict[str, str], **resources: object) -> dict[str, str]:
    """The environment of one rank of a SLURM job whose entry has `environ`."""
    node = TaskEnvironment(executor="slurm", job_id="7", log_name="7", host="v100-2", rank=rank, cpus=4)
    asked = {"memory": "1GiB"} | resources
    task = Task(
        run=RunDir(Path("/runs/x")),
        experiment=small_experiment(resources=asked),
        environment=node,
        command=("true",),
    )
    return rank_environment(environ, task, MEETING, rank=rank, local_rank=0)


def test_a_ranks_place_is_what_we_say_whatever_was_there() -> None:
    left_over = {"SEDD_ATTEMPT": "1"} | {
        "RANK": "9",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "nowhere",
        "TORCHELASTIC_RUN_ID": "x",
        "SEDD_ATTEMPT": "1",
    }
    seen = environment_of(1, left_over, nodes=2, gpus_per_node=1)
    assert (seen["RANK"], seen["WORLD_SIZE"], seen["MASTER_ADDR"], seen["MASTER_PORT"]) == (
        "1",
        "2",
        "v100-1",
        "4711",
    )
    assert seen["SEDD_ATTEMPT"] == "3"
    assert "TORCHELASTIC_RUN_ID" not in seen


def test_what_a_user_sets_for_threads_and_names_stays() -> None:
    assert environment_of(0, {}, gpus_per_node=1)["OMP_NUM_THREADS"] == "4"
    seen = environment_of(0, {"OMP_NUM_THREADS": "2", "USER": "ada"}, gpus_per_node=1)
    assert (seen["OMP_NUM_THREADS"], seen["USER"]) == ("2", "ada")


def test_a_job_without_gpus_sees_none_and_one_with_gpus_those_that_slurm_gave_it() -> None:
    assert environment_of(0, {"CUDA_VISIBLE_DEVICES": "0,1"}, gpus_per_node=0)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment_of(0, {"CUDA_VISIBLE_DEVICES": "2"}, gpus_per_node=1)["CUDA_VISIBLE_DEVICES"] == "2"


def test_the_numbers_that_slurm_gives_are_counted_as_slurm_counts() -> None:
    """On a node with cards of several kinds CUDA would take others: somebody else's, where nothing confines a job."""
    given = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "2"}
    assert environment_of(0, given, gpus_per_node=1)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    chosen = given | {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert environment_of(0, chosen, gpus_per_node=1)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@pytest.mark.parametrize(
    ("node", "local_rank", "left_out", "rank"),
    [
        (0, 1, {}, 1),
        (1, 0, {}, 2),
        (2, 0, {}, None),
        (3, 1, {}, None),
        (1, 0, {"v100-2": 1}, None),
        (2, 0, {"v100-2": 1}, 2),
        (3, 1, {"v100-2": 1}, None),
        (3, 1, {"v100-2": 1, "v100-3": 2}, 3),
    ],
)
def test_a_spare_node_takes_the_place_of_one_that_is_left_out(
    node: int, local_rank: int, left_out: dict[str, int], rank: int | None
) -> None:
    """Two nodes with two ranks each train, of four."""
    resources = {"nodes": 2, "processes_per_node": 2, "spare_nodes": 2, "gpus_per_node": 2, "memory": "1GiB"}
    here = TaskEnvironment(
        executor="slurm",
        job_id="7",
        log_name="7",
        host=f"v100-{node + 1}",
        rank=2 * node + local_rank,
        local_rank=local_rank,
        node=node,
    )
    task = Task(
        run=RunDir(Path("/runs/x")),
        experiment=small_experiment(resources=resources),
        environment=here,
        command=("true",),
    )
    meeting = Meeting(attempt=1, address="v100-1", port=4711, left_out=left_out)
    assert own_ranks(task, meeting) == ({} if rank is None else {rank: local_rank})


def test_nobody_takes_the_port_of_a_meeting_before_rank_0_listens_there() -> None:
    """Between the choice of a port and rank 0's store lie the seconds in which that process imports torch."""
    from torch.distributed import TCPStore

    meeting = find_meeting(attempt=1, left_out={})
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("", meeting.port))
    store = TCPStore("127.0.0.1", meeting.port, 1, is_master=True)
    store.set("met", "yes")
    assert TCPStore("127.0.0.1", meeting.port, 1, is_master=False).get("met") == b"yes"


def test_a_point_of_a_local_sweep_trains_on_its_slots_card_and_starts_others_with_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a halving sweep that passes its rung starts those that wait; they take other slots, and so other cards."""
    points = [small_experiment(seed=n, resources={"gpus_per_node": 1, "memory": "1GiB"}) for n in (1, 2)]
    run = make_runs(order_for(*points, runs=tmp_path, parallel=2), now=NOW, made=[]).runs[1]
    node = TaskEnvironment(executor="local", job_id="v100-2:7:0", log_name="7", host="v100-2")
    task = Task(run=run, experiment=points[1], environment=node, command=("true",))
    seen = []

    def lead(task: Task, *_: object) -> int:
        own = rank_environment(os.environ, task, MEETING, rank=0, local_rank=0)
        seen.append((own["CUDA_VISIBLE_DEVICES"], all_cards(os.environ)))
        return 0

    monkeypatch.setattr(supervisor, "_lead", lead)
    monkeypatch.setattr(supervisor, "adopt_orphans", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with lock.held(slots_folder(run.code) / "slot-0", patience_s=0):
        assert supervisor.supervise(task, SignalBox()) == 0
    assert seen == [("7", ("4", "7"))]
    assert all_cards(os.environ) == ("4", "7"), "at its end it starts others, too"
