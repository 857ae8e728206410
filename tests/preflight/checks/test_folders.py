"""Full disks, read-only folders, slow disks, wrong clocks, disks that nodes do not see."""

import dataclasses
import errno
import os

import pytest

from sedd.preflight.checks import clock, disk_space, run_folder, shared_folders
from sedd.preflight.context import Side
from sedd.preflight.finding import Fault, Status
from sedd.preflight.read.filesystem import Mount, Space, Writing
from sedd.preflight.read.quota import Quota
from tests.preflight.slurm_facts import partition, profile, silence, slurm

GIB = 1 << 30


def disk(monkeypatch, make_context, *, free_bytes=90 * GIB, free_inodes=10**6, quota=None, spec=None):
    space = Space(free_bytes=free_bytes, free_inodes=free_inodes, is_read_only=False)
    monkeypatch.setattr(disk_space, "query_space", lambda path: space)
    monkeypatch.setattr(disk_space, "query_quota", lambda mount: quota)
    return disk_space.judge(disk_space.gather(make_context(spec)))


def writing(monkeypatch, make_context, *, seconds=0.1, spec=None, **context):
    written = Writing(seconds=seconds, written_bytes=8 << 20, clock_ahead_s=0.0)
    monkeypatch.setattr(run_folder, "measure_writing", lambda folder, size_bytes: written)
    return run_folder.judge(run_folder.gather(make_context(spec, **context)))


def test_full_disk_fails_and_says_what_is_needed(monkeypatch, make_context):
    verdict = disk(monkeypatch, make_context, free_bytes=1 << 20)
    assert verdict.status is Status.FAIL
    assert verdict.saw.startswith("1.0 MiB free")
    assert "checkpoints of" in verdict.hint


def test_room_for_some_checkpoints_but_not_all_is_a_warning(monkeypatch, make_context):
    many = {"training.steps": 10**6, "training.checkpoint": {"keep_every_steps": 1000}}
    assert disk(monkeypatch, make_context, free_bytes=GIB, spec=many).status is Status.WARN
    assert disk(monkeypatch, make_context, free_bytes=GIB).status is Status.OK


@pytest.mark.parametrize(("inodes", "status"), [(10, Status.FAIL), (None, Status.OK)])
def test_inodes(monkeypatch, make_context, inodes, status):
    assert disk(monkeypatch, make_context, free_inodes=inodes).status is status


@pytest.mark.parametrize(
    ("left_bytes", "left_files", "status"),
    [
        (1 << 20, None, Status.FAIL),
        (None, 10, Status.FAIL),
        (900 * GIB, 10**6, Status.OK),
        (None, None, Status.OK),
    ],
)
def test_a_quota_counts_as_the_disk_does(monkeypatch, make_context, left_bytes, left_files, status):
    verdict = disk(monkeypatch, make_context, quota=Quota(left_bytes=left_bytes, left_files=left_files))
    assert verdict.status is status
    assert ("left by your quota" in verdict.saw) is (left_bytes == 1 << 20)


def test_this_disk_is_looked_at_also_when_the_folder_does_not_exist_yet(make_context, tmp_path):
    facts = disk_space.gather(make_context(folder=tmp_path / "not" / "yet"))
    assert facts.folder == tmp_path
    assert facts.space.free_bytes > 0


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (errno.EROFS, Fault.NODE),
        (errno.EIO, Fault.NODE),
        (errno.EACCES, Fault.JOB),
        (errno.ENOSPC, Fault.DISK),
        (errno.EDQUOT, Fault.DISK),
    ],
)
def test_folder_that_cannot_be_written_fails_with_the_systems_reason(monkeypatch, make_context, code, fault):
    def refuse(folder, size_bytes):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(run_folder, "measure_writing", refuse)
    verdict = run_folder.judge(run_folder.gather(make_context()))
    assert verdict.status is Status.FAIL
    assert os.strerror(code).lower() in verdict.saw
    assert verdict.fault is fault
    assert "SEDD_RUNS" in verdict.hint


def test_probe_leaves_nothing_behind(make_context, tmp_path):
    verdict = run_folder.judge(run_folder.gather(make_context()))
    assert verdict.status is Status.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("save_s", "window_s", "status"),
    [
        (1, 20, Status.OK),
        (12, 20, Status.WARN),
        (25, 20, Status.FAIL),
        (25, 60, Status.OK),
        (25, None, Status.OK),
    ],
)
def test_a_checkpoint_must_fit_the_notice(save_s, window_s, status):
    written = Writing(seconds=save_s / 10, written_bytes=GIB // 10, clock_ahead_s=0.0)
    passing = run_folder.CHECK.passing
    facts = dataclasses.replace(passing, writing=written, checkpoint_bytes=GIB, window_s=window_s)
    verdict = run_folder.judge(facts)
    assert verdict.status is status
    assert verdict.fault is (Fault.NODE if status is Status.FAIL else None), (
        "it was fast enough at the submission"
    )


@pytest.mark.parametrize(
    ("changes", "window_s"), [({}, 20), ({"grace_s": 0}, 30), ({"preempt_mode": "OFF"}, None)]
)
def test_notice_is_read_from_slurm(make_context, changes, window_s):
    context = make_context(profile=profile(), slurm=slurm(partition(**changes)))
    assert run_folder.gather(context).window_s == window_s


def test_without_an_answer_of_slurm_the_speed_alone_is_said(monkeypatch, make_context):
    verdict = writing(monkeypatch, make_context, seconds=900, profile=profile(), slurm=silence())
    assert verdict.status is Status.OK
    assert "notice" not in verdict.saw


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [(0.3, Status.OK, "within"), (-3600, Status.WARN, "3600 s behind"), (120, Status.WARN, "120 s ahead of")],
)
def test_clock(monkeypatch, make_context, ahead_s, status, words):
    written = Writing(seconds=0, written_bytes=1, clock_ahead_s=ahead_s)
    monkeypatch.setattr(clock, "measure_writing", lambda folder, size_bytes: written)
    verdict = clock.judge(clock.gather(make_context()))
    assert verdict.status is status
    assert words in verdict.saw


@pytest.mark.parametrize(
    ("kind", "status"),
    [("nfs4", Status.OK), ("lustre", Status.OK), ("ext4", Status.WARN), ("tmpfs", Status.WARN)],
)
def test_kind_of_file_system(monkeypatch, make_context, kind, status):
    monkeypatch.setattr(shared_folders, "query_mount", lambda path: Mount(point="/", kind=kind, source="x"))
    monkeypatch.setattr(shared_folders, "_is_whole_cluster", lambda context: False)
    verdict = shared_folders.judge(shared_folders.gather(make_context(profile=profile(), slurm=silence())))
    assert verdict.status is status
    assert kind in verdict.saw


def test_mount_that_nobody_knows_is_unknown(monkeypatch, make_context):
    monkeypatch.setattr(shared_folders, "query_mount", lambda path: None)
    verdict = shared_folders.judge(shared_folders.gather(make_context(profile=profile(), slurm=silence())))
    assert verdict.status is Status.UNKNOWN


def test_data_below_the_runs_is_on_their_disk_and_not_told_twice(make_context, tmp_path):
    below = make_context(
        {"data": {"store": str(tmp_path / ".x/made-up.store")}}, profile=profile(), slurm=silence()
    )
    assert [purpose for purpose, _, _ in shared_folders.gather(below).folders] == ["runs", "Python"]


def test_only_what_lies_here_alone_is_to_be_moved(monkeypatch, make_context):
    own, shared = Mount(point="/", kind="ext4", source="x"), Mount(point="/home", kind="nfs4", source="s:/h")
    monkeypatch.setattr(
        shared_folders, "query_mount", lambda path: shared if path.suffix == ".store" else own
    )
    monkeypatch.setattr(shared_folders, "_is_whole_cluster", lambda context: False)
    verdict = shared_folders.judge(shared_folders.gather(make_context(profile=profile(), slurm=silence())))
    assert "SEDD_RUNS" in verdict.hint
    assert "data.store" not in verdict.hint


def test_python_of_the_profiles_own_is_not_looked_for_here(make_context):
    facts = shared_folders.gather(
        make_context(profile=profile(setup=["module load python"]), slurm=silence())
    )
    assert [purpose for purpose, _, _ in facts.folders] == ["runs", "data"]


@pytest.mark.parametrize("check", [disk_space, run_folder])
def test_only_rank_0_looks_at_the_runs_disk(make_context, check):
    assert check.gather(make_context(side=Side.NODE, rank=1)) is None
