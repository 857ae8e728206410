"""Users without a name on this machine, and environments that say something else."""

import os
from pathlib import Path

import pytest

from sedd.cluster.identity import query_cluster_name
from sedd.cluster.users import may_be_same, user_name

UNKNOWN = 54_321


def test_a_uid_without_a_passwd_entry_is_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert user_name(UNKNOWN) == str(UNKNOWN)


def test_the_environment_does_not_say_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    assert user_name(os.geteuid()) != "somebody-else"


@pytest.mark.parametrize(
    ("ours", "shown", "same"),
    [
        ("ada", "ada", True),
        ("ada", "bob", False),
        ("54321", "ada", True),
        (None, "ada", True),
        ("ada", None, True),
    ],
)
def test_a_user_who_was_noted_by_number_may_have_a_name_where_slurm_runs(
    ours: str | None, shown: str | None, same: bool
) -> None:
    assert may_be_same(ours, shown) is same


def test_a_shell_does_not_decide_which_cluster_this_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scontrol").write_text(
        "#!/bin/sh\necho 'ClusterName = here'; echo 'SLURM_VERSION = 22.05.8'\n"
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "elsewhere")
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    query_cluster_name.cache_clear()
    assert query_cluster_name() == "here"
    query_cluster_name.cache_clear()
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert query_cluster_name() == "elsewhere"
    query_cluster_name.cache_clear()
