"""Mounts, the nearest existing folder, and a probe that cleans up."""

from pathlib import Path

import pytest

from sedd.preflight.read.filesystem import existing, measure_writing, mount_of, parse_mounts, query_mount

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/ada/with\\040space tmpfs rw 0 0
overlay /over overlay rw 0 0
server:/new /over lustre rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/x", "ext4"),
        ("/home/ada", "nfs4"),
        ("/homes", "ext4"),
        ("/home/ada/with space/runs", "tmpfs"),
        ("/over/x", "lustre"),  # the later mount hides the earlier
    ],
)
def test_longest_mount_point_wins(path, kind):
    mount = mount_of(Path(path), parse_mounts(MOUNTS))
    assert mount is not None
    assert mount.kind == kind


def test_only_kinds_of_one_machine_are_local():
    local = {mount.kind for mount in parse_mounts(MOUNTS) if mount.is_node_local}
    assert local == {"ext4", "tmpfs", "overlay"}


def test_this_machine_has_a_mount_for_a_folder_to_come(tmp_path):
    assert query_mount(tmp_path / "a" / "b") is not None
    assert existing(tmp_path / "a" / "b") == tmp_path


def test_measuring_leaves_nothing_behind_and_sees_the_clock(tmp_path):
    seen = measure_writing(tmp_path, size_bytes=3 << 20)
    assert seen.written_bytes == 3 << 20
    assert abs(seen.clock_ahead_s) < 5
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        measure_writing(tmp_path / "none", size_bytes=1)
