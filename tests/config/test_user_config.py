"""~/.config/sedd/config.yaml: default cluster and runs folder, mail through SLURM; mistakes with their line."""

from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile, load_profile
from sedd.config.settings import UserConfig
from sedd.config.user_config import config_file, read_user_config
from sedd.errors import SpecError
from sedd.rundir.find import runs_root


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the configuration file, whose path comes back."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config_file().parent.mkdir()
    return config_file()


def test_without_a_file_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert read_user_config() is None
    assert runs_root() == tmp_path / "runs"


@pytest.mark.parametrize(
    "text", ["", "\n", "# cluster: v100.yaml\n\n# runs: /scratch\n", "---\n# nothing yet\n", "notify:\n"]
)
def test_a_file_that_is_empty_or_all_comments_means_the_defaults(configure: Path, text: str) -> None:
    configure.write_text(text)
    assert read_user_config() == UserConfig()


def test_the_file_lies_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_file({"XDG_CONFIG_HOME": "/x"}) == Path("/x/sedd/config.yaml")
    monkeypatch.setenv("HOME", "/home/ada")
    assert config_file({}) == Path("/home/ada/.config/sedd/config.yaml")


def test_runs_and_cluster_are_defaults_that_the_environment_and_options_replace(
    configure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure.write_text("runs: /scratch/ada/runs\ncluster: site.yaml\n")
    (configure.parent / "site.yaml").write_text("executor: slurm\npartition: mine\n")
    other = tmp_path / "other.yaml"
    other.write_text("executor: slurm\npartition: other\n")
    assert runs_root() == Path("/scratch/ada/runs")
    profile = load_profile(None)
    assert isinstance(profile, SlurmProfile)
    assert profile.partition == "mine"
    named = load_profile(other)
    assert isinstance(named, SlurmProfile)
    assert named.partition == "other"
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path))
    monkeypatch.setenv("SEDD_CLUSTER", str(other))
    assert runs_root() == tmp_path
    by_environment = load_profile(None)
    assert isinstance(by_environment, SlurmProfile)
    assert by_environment.partition == "other"


def test_a_cluster_that_is_missing_is_told_with_the_setting_that_names_it(
    configure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure.write_text("cluster: /nope.yaml\n")
    with pytest.raises(
        SpecError, match=r"/nope\.yaml: no such file \(`cluster:` in .*config\.yaml names it\)"
    ):
        load_profile(None)
    monkeypatch.setenv("SEDD_CLUSTER", "/neither.yaml")
    with pytest.raises(SpecError, match=r"/neither\.yaml: no such file \(\$SEDD_CLUSTER names it\)"):
        load_profile(None)
    monkeypatch.setenv("SEDD_CLUSTER", "slurm/v100.yaml")
    monkeypatch.chdir(configure.parent)
    with pytest.raises(
        SpecError,
        match=rf"v100\.yaml: .* \(\$SEDD_CLUSTER names it, relative to the current folder, {configure.parent}\)",
    ) as caught:
        load_profile(None)
    assert 'export SEDD_CLUSTER="$PWD/slurm/v100.yaml"' in str(caught.value.hint)


def test_mail_is_slurms_where_the_profile_has_none(configure: Path, tmp_path: Path) -> None:
    configure.write_text("notify: {mail: ada@lab.org}\n")
    site = tmp_path / "site.yaml"
    site.write_text("executor: slurm\n")
    profile = load_profile(site)
    assert isinstance(profile, SlurmProfile)
    assert profile.mail is not None
    assert (profile.mail.user, profile.mail.type) == ("ada@lab.org", ("END", "FAIL"))
    site.write_text("executor: slurm\nmail: {user: bob}\n")
    own = load_profile(site)
    assert isinstance(own, SlurmProfile)
    assert own.mail is not None
    assert own.mail.user == "bob"


@pytest.mark.parametrize("text", ["partition: x\n", "notify: {on: [finished]}\n", "runs: [a]\n"])
def test_a_mistake_is_told_with_its_line(configure: Path, text: str) -> None:
    configure.write_text(text)
    with pytest.raises(SpecError, match=r"config\.yaml:1"):
        read_user_config()


def test_a_profile_that_is_not_there_is_not_taken_for_the_file_that_names_it(configure: Path) -> None:
    configure.write_text("cluster: nope.yaml\n")
    with pytest.raises(SpecError, match=r"nope\.yaml") as missing:
        load_profile(None)
    assert "config.yaml" not in str(missing.value.hint)


def test_a_program_with_a_space_in_its_path_is_one_word(configure: Path, tmp_path: Path) -> None:
    program = tmp_path / "my scripts" / "tell.sh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    told = {str(program): (str(program),), "mail -s 'it is done' ada": ("mail", "-s", "it is done", "ada")}
    for text, words in told.items():
        configure.write_text(f'notify: {{command: "{text}"}}\n')
        config = read_user_config()
        assert config is not None
        assert config.notify is not None
        assert config.notify.command == words
