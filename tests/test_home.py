"""`~` in paths: home folders that are known, and those that are not."""

from pathlib import Path

import pytest

from sedd.config.user_config import read_user_config
from sedd.errors import UsageError
from sedd.home import expand_home
from tests.command_line import sedd


def test_home_folders_stand_for_the_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert expand_home("~/runs") == Path("/home/ada/runs")
    assert expand_home(Path("~")) == Path("/home/ada")
    assert expand_home("a/~/b") == Path("a/~/b")


def test_a_user_whom_nobody_knows_is_named() -> None:
    with pytest.raises(UsageError, match=r"^~nobody-here/x: there is no user 'nobody-here'$"):
        expand_home("~nobody-here/x")


def test_without_a_home_there_is_no_configuration_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no entry in its passwd."""

    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    assert read_user_config() is None
    with pytest.raises(UsageError, match="your home folder is not known") as caught:
        expand_home("~/runs")
    assert caught.value.hint == "set HOME"


def test_a_folder_of_runs_in_nobodys_home_is_one_line(tmp_path: Path) -> None:
    shown = sedd("status", runs=Path("~nobody-here/runs"), cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "error: ~nobody-here/runs: there is no user 'nobody-here'\n"
