"""The training process: fit node, own code, and an exit code that says how it ended."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.errors import DiskFullError, MisfitError
from sedd.job.node_preflight import blame
from sedd.job.standby import STAND_BY
from sedd.launch.make_runs import make_runs
from sedd.preflight.finding import Fault, Finding, Status
from sedd.rundir.events import read_events
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.rundir.rank_progress import VARIABLE, open_progress, parse_progress
from sedd.training.faults import NodeFaultError, PeerAbsentError, exit_of, is_node_fault
from tests.launch.conftest import order_for, small_experiment
from tests.launch.test_submit import NOW
from tests.tiny import TORCH, tiny_spec


def work(
    run: RunDir, *options: str, keep_open: Sequence[int] = (), python: Sequence[str] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    environment = (
        os.environ | {"SEDD_ATTEMPT": "1", "SEDD_HOST": "v100-2", "PYTHONPATH": str(run.code)} | more
    )
    command = [sys.executable, *python, "-m", "sedd.job.worker", *options, str(run.path)]
    return subprocess.run(
        command,
        env=environment | {"PYTHONSAFEPATH": "1"},
        pass_fds=tuple(keep_open),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_node_without_the_data_is_a_node_fault_that_names_the_node(tmp_path: Path) -> None:
    profile = SlurmProfile(executor="slurm")
    order = order_for(small_experiment(), runs=tmp_path / "my runs", profile=profile)
    run = make_runs(order, now=NOW, made=[]).runs[0]
    done = work(run)
    assert done.returncode == Exit.NODE_FAULT, done.stderr
    preflight, failed = read_events(run.events)
    assert (preflight.event, preflight.get("side"), preflight.get("ok")) == ("preflight", "node", False)
    assert (failed.event, failed.get("cause"), failed.get("host")) == ("failed", "node_fault", "v100-2")
    assert "/data/proteins.store" in failed.get("error")
    assert failed.get("error").startswith("node preflight failed: "), "no Python names"
    assert "Traceback" not in done.stderr, "a traceback is for our own mistakes"
    assert done.stderr.splitlines()[-1] == f"error: {failed.get('error')}"


def test_data_that_no_node_has_are_the_jobs_fault_and_it_is_given_up(tmp_path: Path) -> None:
    """The folder that should hold them is there, in the file system of the run."""
    spec = small_experiment(data={"store": str(tmp_path / "proteins.store")})
    order = order_for(spec, runs=tmp_path / "my runs", profile=SlurmProfile(executor="slurm"))
    run = make_runs(order, now=NOW, made=[]).runs[0]
    done = work(run)
    assert done.returncode == Exit.MISFIT, done.stderr
    preflight, failed = read_events(run.events)
    (finding,) = (f for f in preflight.get("findings") if f["check"] == "data_store")
    assert (finding["status"], finding["fault"]) == ("FAIL", "job")
    assert (failed.event, failed.get("cause"), failed.get("misfit")) == ("failed", "crashed", True)


@pytest.mark.skipif(TORCH < (2, 8), reason="there einops imports the compiler")
def test_a_training_takes_its_steps_without_torchs_compiler(tmp_path: Path, store: Path) -> None:
    """The compiler, and sympy with it, take a second to import, which every restart would cost."""
    order = order_for(tiny_spec(store, steps=6), runs=tmp_path / "my runs")
    run = make_runs(order, now=NOW, made=[]).runs[0]
    done = work(run, python=["-X", "importtime"])
    assert done.returncode == Exit.COMPLETED, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"torch", "sedd.training.session", "sedd.preflight.read.device"} <= imported
    assert not {"torch._dynamo", "sympy", "torch.distributed.fsdp"} & imported


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_process_that_stands_by_has_imported_what_its_training_will(tmp_path: Path, ranks: int) -> None:
    """Several ranks exchange by DDP, whose constructor imports torch's compiler."""
    run = make_runs(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW, made=[]).runs[0]
    done = work(run, STAND_BY, python=["-X", "importtime"], WORLD_SIZE=str(ranks))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"torch", "sedd.training.session", "sedd.preflight.read.device"} <= imported
    assert ("sympy" in imported) == (ranks == 2)


def test_a_worker_ends_after_what_libraries_do_then_and_takes_nothing_apart(tmp_path: Path) -> None:
    """To take torch apart costs a core 0.7 s, for which the next attempt would wait."""
    run = make_runs(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW, made=[]).runs[0]
    stand_in, done_at_exit, taken_apart = (tmp_path / name for name in ("stand-in", "exit", "apart"))
    stand_in.mkdir()
    (stand_in / "torch.py").write_text(
        "import atexit, errno, os\n"
        "class Heavy:\n"
        "    def __del__(self, make=os.mkdir):\n"
        f"        make({str(taken_apart)!r})\n"
        "errno.heavy = Heavy()  # in a module that stays imported\n"
        f"atexit.register(os.mkdir, {str(done_at_exit)!r})\n"
        "raise ValueError('on purpose')\n"
    )
    done = work(run, PYTHONPATH=f"{stand_in}{os.pathsep}{run.code}")
    assert done.returncode == Exit.CRASHED
    assert done_at_exit.exists()
    assert not taken_apart.exists()


@pytest.mark.parametrize(("module", "options"), [("pynvml", ()), ("torch", ()), ("torch", (STAND_BY,))])
def test_a_driver_or_an_import_that_hangs_is_watched(
    tmp_path: Path, module: str, options: tuple[str, ...]
) -> None:
    """The entry judges what has reported a phase: the training has, before it asks the driver or imports torch."""
    run = make_runs(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW, made=[]).runs[0]
    folder, seen = tmp_path / "stand-in", tmp_path / "seen"
    folder.mkdir()
    (folder / f"{module}.py").write_text(
        f"import os\nwith open({str(seen)!r}, 'wb') as file:\n"
        f"    file.write(os.pread(int(os.environ[{VARIABLE!r}]), 100, 0))\n"
        "os._exit(9)\n"
    )
    descriptor = open_progress()
    work(
        run,
        *options,
        keep_open=[descriptor],
        PYTHONPATH=f"{folder}{os.pathsep}{run.code}",
        CUDA_VISIBLE_DEVICES="0" if module == "pynvml" else "",
        **{VARIABLE: str(descriptor)},
    )
    os.close(descriptor)
    progress = parse_progress(seen.read_bytes())
    assert progress is not None
    assert progress.phase == "starting"


def test_changed_code_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = make_runs(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW, made=[]).runs[0]
    with (run.code / "sedd" / "units.py").open("a") as source:
        source.write("\n# edited\n")
    done = work(run)
    assert done.returncode == Exit.CRASHED
    (failed,) = read_events(run.events)
    assert "changed after submission" in failed.get("error")
    assert "Traceback" not in done.stderr


def test_a_mistake_of_the_program_has_its_traceback_in_the_log_and_its_type_in_the_event(
    tmp_path: Path,
) -> None:
    run = make_runs(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW, made=[]).runs[0]
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise ValueError('on purpose')\n")
    done = work(run, PYTHONPATH=f"{broken}{os.pathsep}{run.code}")
    assert done.returncode == Exit.CRASHED
    (failed,) = read_events(run.events)
    assert failed.get("error").startswith("ValueError: ")
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"known_answer": Fault.NODE}, NodeFaultError),
        ({"disk_space": Fault.DISK, "gpus": Fault.NODE}, NodeFaultError),
        ({"precision": Fault.JOB, "gpus": Fault.NODE}, NodeFaultError),  # it may follow from that
        ({"disk_space": Fault.DISK}, DiskFullError),
        ({"labels": Fault.JOB, "disk_space": Fault.DISK}, DiskFullError),
        ({"precision": Fault.JOB, "gpu_memory": Fault.JOB}, MisfitError),
        ({"all_reduce": Fault.PEER}, PeerAbsentError),
        ({"all_reduce": Fault.PEER, "known_answer": Fault.NODE}, NodeFaultError),
        ({"all_reduce": Fault.PEER, "precision": Fault.JOB}, MisfitError),
        ({"all_reduce": Fault.PEER, "disk_space": Fault.DISK}, DiskFullError),
    ],
)
def test_only_a_fault_of_the_node_sends_the_job_elsewhere(
    faults: dict[str, Fault], error: type[Exception]
) -> None:
    checks = list(faults)
    failed = [
        Finding(check=name, status=Status.FAIL, saw="broken", fault=fault) for name, fault in faults.items()
    ]
    blamed = blame(failed)
    assert type(blamed) is error
    assert (exit_of(blamed, folder=Path("/runs/x")) is Exit.PEER_LOST) == (error is PeerAbsentError)
    assert is_node_fault(blamed) == (error is NodeFaultError)
    assert all(name in str(blamed) for name in checks)


def test_whom_a_rank_has_waited_for_in_vain_is_said_with_its_error() -> None:
    missing = Finding(check="all_reduce", status=Status.FAIL, saw="2 ranks", fault=Fault.PEER, absent=(1, 3))
    assert getattr(blame([missing]), "absent", None) == (1, 3)
    broken = Finding(check="gpus", status=Status.FAIL, saw="busy", fault=Fault.NODE)
    assert getattr(blame([broken, missing]), "absent", None) == (1, 3)


def test_where_no_word_can_be_written_the_exit_code_says_that_the_disk_is_full(tmp_path: Path) -> None:
    run = make_runs(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW, made=[]).runs[0]
    run.events.symlink_to("/dev/full")
    environment = os.environ | {"SEDD_ATTEMPT": "1", "PYTHONPATH": str(run.code), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sedd.job.worker", str(run.path)]
    with open("/dev/full", "w") as log:
        done = subprocess.run(
            command, env=environment | {"PYTHONSAFEPATH": "1"}, stdout=log, stderr=log, check=False
        )
    assert done.returncode == Exit.DISK_FULL


def test_a_check_that_could_not_write_waits_for_room() -> None:
    def failed(saw: str) -> list[Finding]:
        return [Finding(check="labels", status=Status.FAIL, saw=f"cannot write: {saw}", fault=Fault.JOB)]

    assert type(blame(failed("no space left on device"))) is DiskFullError
    assert type(blame(failed("Disk quota exceeded"))) is DiskFullError
    assert type(blame(failed("no labels"))) is MisfitError
