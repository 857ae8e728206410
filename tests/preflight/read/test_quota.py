"""The user's quota as `quota -w -p` and `lfs quota -q` print it."""

import pytest

from sedd.preflight.read.quota import Quota, parse_quota

# quota(1) 4.06 and lfs-quota(1) 2.15: columns as their manuals give them.
QUOTA = """\
Disk quotas for user ada (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
server:/home  900000* 800000 1000000 1700000000    5000       0       0       0
/dev/sdb1        1024       0       0       0     100     150     200       0
"""
LUSTRE = "        /scratch    2048    4096    8192       -      10       0       0       -\n"


@pytest.mark.parametrize(
    ("text", "name", "quota"),
    [
        (QUOTA, "server:/home", Quota(left_bytes=0, left_files=None)),
        (QUOTA, "/dev/sdb1", Quota(left_bytes=None, left_files=50)),
        (QUOTA, "/dev/sdc1", None),
        (LUSTRE, "/scratch", Quota(left_bytes=2048 << 10, left_files=None)),
        ("", "/scratch", None),
        ("Disk quotas for user ada (uid 1000): none\n", "server:/home", None),
    ],
)
def test_parse_quota(text, name, quota):
    assert parse_quota(text, name) == quota
