"""What slurm/devcluster promises, and our parsers and requests against a real SLURM."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sedd.cluster.control import Requeue, RequeueRefusedError, requeue, sbatch_test_only, scancel, update_job
from sedd.cluster.identity import own_job
from sedd.cluster.jobs import JobFact
from sedd.cluster.sacct import parse_sacct, query_sacct
from sedd.cluster.scontrol import query_job
from sedd.cluster.site import query_config, query_nodes, query_partitions
from sedd.cluster.squeue import parse_squeue, query_squeue
from sedd.cluster.states import JobState
from sedd.cluster.stopping import Stopping, stopping
from sedd.errors import ClusterError
from sedd.launch.local_processes import wait_until
from tests.slurm.conftest import NODES, DevCluster, script

pytestmark = pytest.mark.slurm

WHOLE_NODE = ("--gpus-per-node=4", "--time=10")
# Leaves some seconds after SIGTERM, as a job does that writes a checkpoint.
STUBBORN = "trap 'sleep 4; exit 0' TERM\nsleep 300 & wait\nsleep 300"


def in_state(*states: JobState) -> Callable[[JobFact], bool]:
    return lambda job: job.state in states


def processes(folder: Path) -> list[str]:
    """Living processes whose command line or environment names a folder; our own environment does not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text:
            found.append(text[:200].decode(errors="replace"))
    return found


def test_partitions_for_each_flavour_of_preemption(devcluster: DevCluster) -> None:
    assert {p.name: (p.preempt_mode, p.grace_s) for p in query_partitions()} == {
        "requeue": ("REQUEUE", 20),
        "nograce": ("REQUEUE", 0),
        "cancel": ("CANCEL", 20),
        "urgent": ("OFF", 0),
    }


def test_four_nodes_with_four_v100s_each(devcluster: DevCluster) -> None:
    nodes = query_nodes()
    assert [node.name for node in nodes] == list(NODES)
    assert all(node.gpus == {"v100": 4} and node.is_usable and node.cpus == 4 for node in nodes)


def test_configuration_is_what_was_asked_for(devcluster: DevCluster) -> None:
    config = query_config()
    assert (config.kill_wait_s, config.job_requeue, config.user_signal) == (10, True, False)
    assert config.has_accounting


def test_a_job_sees_the_gpus_it_asked_for(devcluster: DevCluster, tmp_path: Path) -> None:
    job_id = devcluster.submit(
        "echo batch $CUDA_VISIBLE_DEVICES; srun printenv CUDA_VISIBLE_DEVICES", "--gpus-per-node=3"
    )
    devcluster.wait(job_id, in_state(JobState.COMPLETED))
    assert (tmp_path / f"{job_id}.out").read_text() == "batch 0,1,2\n0,1,2\n"


def test_two_nodes_with_two_ranks_each(devcluster: DevCluster, tmp_path: Path) -> None:
    job_id = devcluster.submit(
        "srun bash -c 'echo $SLURM_PROCID $SLURMD_NODENAME'", "--nodes=2", "--ntasks-per-node=2"
    )
    devcluster.wait(job_id, in_state(JobState.COMPLETED))
    lines = (tmp_path / f"{job_id}.out").read_text().split("\n")
    assert sorted(filter(None, lines)) == ["0 v100-1", "1 v100-1", "2 v100-2", "3 v100-2"]


@pytest.mark.parametrize("partition", ["requeue", "nograce"])
def test_an_urgent_job_preempts_and_slurm_requeues(devcluster: DevCluster, partition: str) -> None:
    victim = devcluster.submit("sleep 300", f"--partition={partition}", "--nodelist=v100-1", *WHOLE_NODE)
    devcluster.wait(victim, in_state(JobState.RUNNING))
    urgent = devcluster.submit("sleep 60", "--partition=urgent", "--nodelist=v100-1", *WHOLE_NODE)
    back = devcluster.wait(victim, in_state(JobState.PENDING), timeout_s=180)
    assert back.restarts == 1
    devcluster.wait(urgent, in_state(JobState.RUNNING))
    # slurmdbd hears of the second attempt later: until then its last word on a waiting job is PREEMPTED.
    assert parse_sacct(query_sacct([victim]))[0].state is JobState.PREEMPTED


def test_a_job_in_its_grace_time_is_seen_to_be_preempted_and_may_requeue_itself(
    devcluster: DevCluster,
) -> None:
    victim = devcluster.submit(STUBBORN, "--partition=cancel", "--nodelist=v100-1", *WHOLE_NODE)
    running = devcluster.wait(victim, in_state(JobState.RUNNING))
    assert stopping(running, restarts=0) is Stopping.NO
    devcluster.submit("sleep 5", "--partition=urgent", "--nodelist=v100-1", *WHOLE_NODE)
    noticed = devcluster.wait(victim, lambda job: job.preempted_at is not None)
    assert noticed.state is JobState.RUNNING
    assert stopping(noticed, restarts=0) is Stopping.PREEMPTED
    assert requeue(own_job(victim), restarts=0) is Requeue.ASKED
    assert requeue(own_job(victim), restarts=0) is Requeue.ALREADY
    assert devcluster.wait(victim, in_state(JobState.PENDING)).restarts == 1


def test_a_requeued_job_can_be_sent_to_another_node_at_once(devcluster: DevCluster) -> None:
    job_id = devcluster.submit(STUBBORN, *WHOLE_NODE)
    first = devcluster.wait(job_id, in_state(JobState.RUNNING))
    assert first.nodes is not None
    with pytest.raises(ClusterError, match="no longer pending"):
        update_job(own_job(job_id), exclude_nodes=[first.nodes])
    requeue(own_job(job_id))
    update_job(own_job(job_id), exclude_nodes=[first.nodes])
    devcluster.wait(job_id, in_state(JobState.PENDING))
    update_job(own_job(job_id), start_soon=True)
    # Far sooner than the requeue delay of the fixture allows.
    second = devcluster.wait(job_id, in_state(JobState.RUNNING), timeout_s=16)
    assert second.nodes != first.nodes


def test_a_job_that_is_being_cancelled_is_not_revived(devcluster: DevCluster) -> None:
    job_id = devcluster.submit(STUBBORN, *WHOLE_NODE)
    devcluster.wait(job_id, in_state(JobState.RUNNING))
    scancel([own_job(job_id)])
    ending = devcluster.wait(job_id, in_state(JobState.COMPLETING))
    assert stopping(ending, restarts=0) is Stopping.CANCELLED
    with pytest.raises(RequeueRefusedError, match="cancelled"):
        requeue(own_job(job_id), restarts=0)
    devcluster.wait(job_id, in_state(JobState.CANCELLED))
    with pytest.raises(RequeueRefusedError, match="cancelled"):
        requeue(own_job(job_id))


def test_where_requeueing_is_forbidden_the_request_is_refused(devcluster: DevCluster) -> None:
    devcluster.switch("requeue", "off")
    try:
        assert not query_config().job_requeue
        job_id = devcluster.submit("sleep 300")
        job = devcluster.wait(job_id, in_state(JobState.RUNNING))
        assert job.may_requeue is False
        with pytest.raises(RequeueRefusedError, match="disabled"):
            requeue(own_job(job_id))
    finally:
        devcluster.switch("requeue", "on")


def test_the_users_signal_can_come_first(devcluster: DevCluster, tmp_path: Path) -> None:
    devcluster.switch("user-signal", "on")
    try:
        assert query_config().user_signal
        body = "trap 'echo USR2; exit 0' USR2; trap 'echo TERM; exit 0' TERM\ntouch ready; sleep 300 & wait"
        victim = devcluster.submit(
            body, "--signal=B:USR2@60", "--partition=requeue", "--nodelist=v100-2", *WHOLE_NODE
        )
        devcluster.wait(victim, in_state(JobState.RUNNING))
        assert wait_until((tmp_path / "ready").exists, timeout_s=180)
        devcluster.submit("true", "--partition=urgent", "--nodelist=v100-2", *WHOLE_NODE)
        devcluster.wait(victim, in_state(JobState.COMPLETED))
        assert (tmp_path / f"{victim}.out").read_text().startswith("USR2\n")
    finally:
        devcluster.switch("user-signal", "off")


def test_one_array_task_is_requeued_and_its_siblings_go_on(devcluster: DevCluster) -> None:
    array = devcluster.submit("sleep 300", "--array=0-5%2", "--job-name=a|b Restarts=9")
    devcluster.wait(f"{array}_1", in_state(JobState.RUNNING))
    requeue(own_job(f"{array}_1"))
    devcluster.wait(f"{array}_1", in_state(JobState.PENDING))
    jobs = {
        job.job_id: job for job in parse_squeue(query_squeue(["root"])) if job.job_id.startswith(f"{array}_")
    }
    assert set(jobs) == {f"{array}_{task}" for task in range(6)}
    assert (jobs[f"{array}_0"].state, jobs[f"{array}_0"].restarts) == (JobState.RUNNING, 0)
    # Which of its two reasons to wait SLURM names depends on the moment.
    assert jobs[f"{array}_1"].reason in ("BeginTime", "JobArrayTaskLimit")
    assert jobs[f"{array}_1"].restarts == 1
    assert all(job.name == "a|b Restarts=9" for job in jobs.values())
    assert query_job(f"{array}_99") is None


def test_squeue_scontrol_and_sacct_agree(devcluster: DevCluster) -> None:
    failed = devcluster.submit("sleep 2; exit 3")
    waiting = devcluster.submit("true", "--begin=now+1hour", "--time=1-00:00:00")
    devcluster.wait(failed, in_state(JobState.FAILED))

    def accounts() -> dict[str, JobFact]:
        return {job.job_id: job for job in parse_sacct(query_sacct([failed, waiting]))}

    # slurmdbd learns of a job in pieces, and late.
    jobs = (failed, waiting)
    assert wait_until(
        lambda: (
            all(n in accounts() and accounts()[n].time_limit_s for n in jobs)
            and accounts()[failed].state is JobState.FAILED
        ),
        timeout_s=60,
    )
    queue = {job.job_id: job for job in parse_squeue(query_squeue(["root"]))}
    database = accounts()
    for job_id in (failed, waiting):
        seen = query_job(job_id)
        assert seen is not None
        assert seen.state is queue[job_id].state is database[job_id].state
        assert seen.submitted_at == queue[job_id].submitted_at == database[job_id].submitted_at
        assert seen.time_limit_s == queue[job_id].time_limit_s == database[job_id].time_limit_s
    assert database[failed].exit_code == 3
    assert queue[waiting].starts_at is not None


def test_slurms_own_judgement_of_a_script(devcluster: DevCluster) -> None:
    assert "to start at" in sbatch_test_only("#!/bin/sh\n#SBATCH --gpus-per-node=4\ntrue\n")
    with pytest.raises(ClusterError, match="invalid partition specified: nope"):
        sbatch_test_only("#!/bin/sh\n#SBATCH --partition=nope\ntrue\n")


def test_a_killed_node_comes_back(devcluster: DevCluster) -> None:
    pid_file = devcluster.folder / "run" / "slurmd-v100-3.pid"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert script("status.sh", devcluster.folder).returncode == 1
    assert script("up.sh", devcluster.folder).returncode == 0
    assert script("status.sh", devcluster.folder).returncode == 0
    assert devcluster.wait(devcluster.submit("true", "--nodelist=v100-3"), in_state(JobState.COMPLETED))


def test_an_unprivileged_user_submits_and_requeues(devcluster: DevCluster, tmp_path: Path) -> None:
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    body = f"cd /tmp && {as_nobody} sbatch --parsable --output=/dev/null --wrap 'sleep 300'"
    asking = devcluster.submit(f"job=$({body}); sleep 3; {as_nobody} scontrol requeue $job && echo $job")
    devcluster.wait(asking, in_state(JobState.COMPLETED))
    job_id = (tmp_path / f"{asking}.out").read_text().strip()
    job = query_job(job_id)
    assert job is not None
    assert (job.user, job.restarts) == ("nobody", 1)
    scancel([own_job(job_id)])


def test_down_leaves_nothing_behind(devcluster: DevCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster of its own, with a job that ignores SIGTERM and a child that left its session."""
    folder = devcluster.folder.with_name(f"{devcluster.folder.name}-2")
    start = time.monotonic()
    up = script("up.sh", "--max-array-size", "20", folder)
    assert up.returncode == 0, up.stderr
    assert time.monotonic() - start < 60  # seconds on a machine with nothing else to do
    assert up.stdout == f"export SLURM_CONF={folder}/etc/slurm.conf\n"
    monkeypatch.setenv("SLURM_CONF", f"{folder}/etc/slurm.conf")
    assert query_config().max_array_size == 20
    assert not query_config().has_accounting
    job_id = devcluster.submit("trap '' TERM\nsetsid sleep 1000 &\nsleep 1000 & wait")
    devcluster.wait(job_id, in_state(JobState.RUNNING))
    monkeypatch.delenv("SLURM_CONF")
    assert processes(folder)

    assert script("down.sh", folder).returncode == 0
    assert processes(folder) == []
    assert not folder.exists()
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert "nothing to stop" in script("down.sh", folder).stderr
    monkeypatch.setenv("SLURM_CONF", f"{devcluster.folder}/etc/slurm.conf")


def test_clusters_that_start_at_once_take_different_ports(devcluster: DevCluster) -> None:
    folders = [devcluster.folder.with_name(f"{devcluster.folder.name}-{number}") for number in (3, 4)]
    try:
        with ThreadPoolExecutor() as pool:
            ups = list(pool.map(lambda folder: script("up.sh", folder), folders))
        assert [up.returncode for up in ups] == [0, 0], [up.stderr for up in ups]
        ports = {
            line
            for folder in (devcluster.folder, *folders)
            for line in (folder / "etc" / "slurm.conf").read_text().splitlines()
            if line.startswith("SlurmctldPort=")
        }
        assert len(ports) == 3
    finally:
        for folder in folders:
            script("down.sh", folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up.sh", "/tmp/a b"], "takes no blanks"),
        (["up.sh", "--dbdd"], "unknown option --dbdd"),
        (["up.sh", "--kill-wait", "soon"], "--kill-wait needs a whole number"),
        (["up.sh", "/usr/bin"], "not a folder to throw away"),
        (["status.sh", "/tmp/sedd-none"], "Start it with"),
        (["switch.sh", "user-signal", "on", "/tmp/sedd-none"], "Start it with"),
    ],
)
def test_a_wrong_command_is_one_clear_line(arguments: list[str], said: str) -> None:
    done = script(*arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
