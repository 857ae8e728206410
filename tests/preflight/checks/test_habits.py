"""W&B login, duplicate_runs, git, packages, frozen code."""

import datetime as dt
import shlex

import pytest

import sedd
from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.profile import LocalProfile
from sedd.errors import ClusterError
from sedd.preflight.checks import duplicate_runs, extras, frozen_code, git_state, packages, wandb_login
from sedd.preflight.context import Side
from sedd.preflight.finding import Status
from sedd.preflight.read.torch_wheel import install_command
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest

KEY = "0123456789abcdef" * 2


def wandb(make_context, mode, **context):
    return wandb_login.judge(wandb_login.gather(make_context({"tracking": {"wandb": mode}}, **context)))


def test_online_without_a_login_warns_and_never_blocks(make_context):
    verdict = wandb(make_context, "online")
    assert verdict.status is Status.WARN
    assert "wandb login" in verdict.hint


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_other_modes_need_no_login(make_context, mode):
    assert wandb(make_context, mode).status is Status.OK


@pytest.mark.parametrize("site", ["online", "offline", "disabled", None])
@pytest.mark.parametrize("asked", ["online", "offline", "disabled"])
def test_the_profile_decides_the_mode_except_where_the_spec_has_disabled_it(make_context, asked, site):
    local = LocalProfile(executor="local", wandb=site)
    facts = wandb_login.gather(make_context({"tracking": {"wandb": asked}}, profile=local))
    by_profile = site is not None and asked != "disabled"
    assert facts.mode == (site if by_profile else asked)
    assert facts.decided_by == ("the profile" if by_profile else "the spec")


def test_login_is_found_and_its_key_never_shown(make_context, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    verdict = wandb(make_context, "online")
    assert verdict.status is Status.OK
    assert ".netrc" in verdict.saw
    assert KEY not in verdict.saw
    assert wandb(make_context, "online", environ={"WANDB_API_KEY": KEY}).saw.endswith("$WANDB_API_KEY")


def test_damaged_netrc_is_no_login(make_context, tmp_path):
    (tmp_path / ".netrc").write_text("machine\n")
    assert wandb(make_context, "online").status is Status.WARN


def test_profile_decides_over_spec(make_context):
    verdict = wandb(make_context, "online", profile=LocalProfile(executor="local", wandb="disabled"))
    assert verdict.saw.startswith("disabled by the profile")


def test_same_spec_again_is_found_and_another_is_not(make_context, tmp_path):
    context = make_context()
    assert duplicate_runs.judge(duplicate_runs.gather(context)).status is Status.OK
    run = create_run(tmp_path, "small", "20261122-193359-1a2b3c4d", "")
    write_manifest(run, {"spec_hash": context.experiment.hash()})
    append_event(run.events, "completed", attempt=1, now=dt.datetime.now(dt.UTC))
    verdict = duplicate_runs.judge(duplicate_runs.gather(context))
    assert verdict.status is Status.WARN
    assert run.id in verdict.saw
    assert "completed" in verdict.saw
    assert duplicate_runs.gather(make_context({"seed": 1})).runs == ()


def test_a_run_whose_spec_was_changed_since_has_done_this_work_too(make_context, tmp_path):
    context = make_context()
    run = create_run(tmp_path, "small", "20261122-193359-1a2b3c4d", "")
    earlier = ["another", context.experiment.hash()]
    write_manifest(run, {"spec_hash": "of more steps", "earlier_hashes": earlier})
    append_event(run.events, "completed", attempt=1, now=dt.datetime.now(dt.UTC))
    verdict = duplicate_runs.judge(duplicate_runs.gather(context))
    assert verdict.status is Status.WARN
    assert (
        f"was submitted as run {run.id} already (completed, since then extended or reshaped)" in verdict.saw
    )


def test_of_several_runs_of_a_spec_the_one_is_named_for_which_submit_refuses_it(make_context, tmp_path):
    context = make_context()
    histories = {
        "20261122-193359-1a2b3c4d": ("submitted", "cancelled", "submitted", "attempt_started", "checkpoint"),
        "20261123-193359-1a2b3c4d": ("submitted", "attempt_started", "gave_up"),
        "20261124-193359-1a2b3c4d": ("submitted", "cancelled"),
    }
    for identity, events in histories.items():
        run = create_run(tmp_path, "small", identity, "")
        write_manifest(run, {"spec_hash": context.experiment.hash()})
        for event in events:
            append_event(run.events, event, attempt=0, now=dt.datetime.now(dt.UTC))
    saw = duplicate_runs.judge(duplicate_runs.gather(context)).saw
    assert "run 20261122-193359-1a2b3c4d already (last event: attempt_started) and 2 more" in saw


def test_git_commit_and_changes(monkeypatch, make_context):
    answers = {"--short=10": "4f748ba1c2\n", "--abbrev-ref": "main\n", "--porcelain": " M sedd/a b.py\n"}
    monkeypatch.setattr(
        git_state, "run", lambda command, timeout_s: answers[next(a for a in command if a in answers)]
    )
    verdict = git_state.judge(git_state.gather(make_context()))
    assert verdict.status is Status.WARN
    assert "4f748ba1c2 on main" in verdict.saw
    assert "sedd/a b.py" in verdict.saw


@pytest.mark.parametrize(
    "error", [ClusterError("not a git repository"), SlurmUnreachableError("git: command not found")]
)
def test_code_outside_git_is_well(monkeypatch, make_context, error):
    def refuse(command, timeout_s):
        raise error

    monkeypatch.setattr(git_state, "run", refuse)
    assert git_state.judge(git_state.gather(make_context())).status is Status.OK


def test_this_environment_has_its_packages(make_context):
    verdict = packages.judge(packages.gather(make_context()))
    assert verdict.status is Status.OK, verdict.saw


@pytest.mark.parametrize(
    ("installed", "saw"),
    [
        ((), "not installed: torch"),
        ((("torch", "2.5.1"),), "torch 2.5.1"),
        ((("torch", "2.14.0+cu130"),), "torch 2.14"),
    ],
)
def test_package_missing_or_out_of_range_fails_with_the_command(installed, saw):
    facts = packages.Facts(python=(3, 12, 0), required=(("torch", ">=2.6,<2.14"),), installed=installed)
    verdict = packages.judge(facts)
    assert verdict.status is Status.FAIL
    assert saw in verdict.saw
    assert verdict.hint.endswith("-m pip install 'torch>=2.6,<2.14'")


def test_commands_that_install_can_be_pasted_where_the_path_of_python_has_a_space(monkeypatch):
    python = "/home/a b/.venv/bin/python"
    monkeypatch.setattr("sys.executable", python)
    missing = packages.Facts(python=(3, 12, 0), required=(("torch", ">=2.6"),), installed=())
    extra = extras.Facts(extra="report", package="parasail", asked="a page", without="no page", is_here=False)
    for command in (
        packages.judge(missing).hint,
        extras.judge(extra).hint.partition(";")[0],
        install_command(None),
    ):
        assert shlex.split(command)[:4] == [python, "-m", "pip", "install"]


def test_old_python_fails():
    assert packages.judge(packages.Facts(python=(3, 10, 4), required=(), installed=())).status is Status.FAIL


def test_requirements_leave_extras_out():
    lines = ["torch<2.14,>=2.6", "pyyaml (>=6)", 'pytest>=8; extra == "test"', "einops"]
    assert packages.parse_requirements(lines) == (("torch", "<2.14,>=2.6"), ("pyyaml", ">=6"), ("einops", ""))


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [("2.10.0", ">=2.6,<2.14", True), ("2.6.0rc1", ">=2.6", True), ("1.4", "~=1.4", True), ("2.0", "~=1.4", False),
     ("1.4.5", "~=1.4.2", True), ("3", "!=3.0", False)],
)  # fmt: skip
def test_in_range(version, wanted, fits):
    assert packages.in_range(version, wanted) is fits


def test_code_that_is_not_the_frozen_one_fails(monkeypatch, make_context, tmp_path):
    run = RunDir(tmp_path)
    assert frozen_code.gather(make_context(side=Side.NODE, run=run)) is None  # foreground: nothing was frozen
    (run.code / "sedd").mkdir(parents=True)
    verdict = frozen_code.judge(frozen_code.gather(make_context(side=Side.NODE, run=run)))
    assert verdict.status is Status.FAIL
    monkeypatch.setattr(sedd, "__file__", str(run.code / "sedd" / "__init__.py"))
    assert frozen_code.judge(frozen_code.gather(make_context(side=Side.NODE, run=run))).status is Status.OK
