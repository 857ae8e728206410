"""A program or file of `notify` that is not there is noticed before the run, not after it."""

from pathlib import Path

import pytest

from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks import notify_means as check
from sedd.preflight.finding import Status, Verdict

SECRET = "T0KEN-abc123"


def verdict_on(make_context, **notify: object) -> Verdict | None:
    profile = LocalProfile(executor="local", notify=notify)
    facts = check.gather(make_context(profile=profile, environ={"PATH": "/usr/bin:/bin", "HOME": "/"}))
    return None if facts is None else check.judge(facts)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{folder}/gone", "{folder}/gone does not exist"),
        ("{folder}", "{folder} is a folder"),
        ("{folder}/plain", "{folder}/plain is not executable"),
        ("bin/tell", "bin/tell is found from one folder alone"),
        ("no-such-program-here", "no program no-such-program-here in $PATH"),
        ("~nobody-of-this-name/tell", "there is no user"),
    ],
)
def test_a_program_that_cannot_be_started_is_named_without_its_words(
    make_context, tmp_path: Path, name: str, words: str
):
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    verdict = verdict_on(make_context, command=[name.format(folder=tmp_path), f"--token={SECRET}"])
    assert verdict is not None
    assert verdict.status is Status.WARN
    assert words.format(folder=tmp_path) in verdict.saw
    assert verdict.hint
    assert SECRET not in verdict.saw + verdict.hint


def test_a_program_that_is_there_is_ok(make_context, tmp_path: Path):
    program = tmp_path / "tell me"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for command in ([str(program), SECRET], ["cat", SECRET]):
        verdict = verdict_on(make_context, command=command)
        assert verdict is not None
        assert (verdict.status, SECRET in verdict.saw) == (Status.OK, False)


def test_a_file_of_apprise_that_is_not_there_is_named(make_context, tmp_path: Path):
    pytest.importorskip("apprise")
    verdict = verdict_on(make_context, apprise=str(tmp_path / "gone.yaml"))
    assert verdict is not None
    assert (verdict.status, str(tmp_path / "gone.yaml") in verdict.saw) == (Status.WARN, True)


def test_nothing_is_asked_where_nobody_is_to_be_told_by_us(make_context):
    assert verdict_on(make_context, mail="ada@example.org") is None
    assert check.gather(make_context()) is None


def test_the_users_own_settings_count_where_the_profile_has_none(make_context, tmp_path: Path):
    (tmp_path / "sedd").mkdir()
    (tmp_path / "sedd/config.yaml").write_text("notify: {command: [/no/such/program]}\n")
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "PATH": ""}
    facts = check.gather(make_context(environ=environ))
    assert facts is not None
    assert "/no/such/program does not exist" in check.judge(facts).saw
    own = LocalProfile(executor="local", notify={"command": ["/bin/sh"]})
    facts = check.gather(make_context(environ=environ, profile=own))
    assert facts is not None
    assert check.judge(facts).status is Status.OK
