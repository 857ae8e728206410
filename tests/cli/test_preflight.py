"""`sedd preflight`: table, --json, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.cli.main import main
from sedd.preflight.finding import Finding, Status

OK = Finding(check="clock", status=Status.OK, saw="fine")
WARN = Finding(check="clock", status=Status.WARN, saw="late", hint="mend it")
FAIL = Finding(check="disk_space", status=Status.FAIL, saw="full", hint="free some")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(
        "name: x\ndata: {store: none.store}\ntraining: {steps: 10}\n"
        "resources: {gpus_per_node: 0}\ntracking: {wandb: disabled}\n"
    )
    return path


def preflight(monkeypatch, *arguments: str, findings=None) -> int:
    import sedd.cli.preflight as module

    if findings is not None:
        monkeypatch.setattr(module, "check_login", lambda *_, **__: findings)
        monkeypatch.setattr(module, "check_node", lambda *_, **__: findings)
    monkeypatch.setattr(sys, "argv", ["sedd", "preflight", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("findings", "options", "code", "verdict"),
    [
        ((OK,), [], 0, "READY TO TRAIN (1 OK)"),
        ((OK, WARN), [], 0, "READY TO TRAIN (1 OK, 1 WARN)"),
        ((OK, WARN), ["--strict"], 1, "NOT READY (1 OK, 1 WARN)"),
        ((OK, FAIL), ["--node"], 1, "NOT READY (1 OK, 1 FAIL)"),
    ],
)
def test_table_ends_with_the_verdict_and_the_exit_code_agrees(
    monkeypatch, capsys, spec, findings, options, code, verdict
):
    assert preflight(monkeypatch, str(spec), *options, findings=findings) == code
    assert capsys.readouterr().out.splitlines()[-1] == verdict


def test_what_trains_nothing_is_not_called_ready_to_train(monkeypatch, capsys, tmp_path):
    (tmp_path / "p.fasta").write_text(">a\nMK\n")
    path = tmp_path / "fold.yaml"
    path.write_text(
        'name: fold\ntask: command\ncommand: {run: [fold, "{fasta}", "{out}"], fasta: p.fasta, column: x}\n'
    )
    assert preflight(monkeypatch, str(path), findings=(OK,)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "READY TO RUN (1 OK)"


def test_several_specs_are_told_once_what_is_the_same_for_all(monkeypatch, capsys, spec):
    import sedd.preflight.run_checks
    from sedd.cli.submit_checks import LoginChecks
    from sedd.cluster.profile import LocalProfile
    from sedd.launch.make_runs import Order
    from sedd.spec.load import load_request

    shared = []

    def check_login(request, profile, *, runs, answers, awaited):
        shared.append(answers)
        return (OK, WARN)

    monkeypatch.setattr(sedd.preflight.run_checks, "check_login", check_login)
    request = load_request(spec)
    order = Order(
        request=request,
        profile=LocalProfile(executor="local"),
        runs=spec.parent,
        parameters=[1],
        findings=None,
    )
    checked = list(map(LoginChecks(as_json=False), [order, order]))
    assert capsys.readouterr().err.count("late") == 1
    assert len(set(map(id, shared))) == 1
    for each in checked:  # yet each run's own record has it
        assert [finding["check"] for finding in each.findings] == ["clock"]


def test_a_spec_that_would_fail_is_named_and_nothing_is_submitted(monkeypatch, capsys, spec):
    import sedd.cli.submit
    import sedd.preflight.run_checks

    monkeypatch.setattr(sedd.preflight.run_checks, "check_login", lambda *_, **__: (OK, FAIL))
    monkeypatch.setattr(sedd.cli.submit, "submit", lambda *_, **__: pytest.fail("submitted"))
    monkeypatch.setattr(sys, "argv", ["sedd", "submit", str(spec)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "Nothing was submitted: x would not run" in said.err
    assert "NOT READY" in said.out


def test_json_is_one_document(monkeypatch, capsys, spec):
    assert preflight(monkeypatch, str(spec), "--json", findings=(OK, FAIL)) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ready"] is False
    assert said["side"] == "login"
    assert said["findings"][1] == {
        "check": "disk_space",
        "status": "FAIL",
        "saw": "full",
        "hint": "free some",
        "fault": None,
    }


def test_bad_spec_is_exit_code_2_with_its_line(monkeypatch, capsys, spec):
    spec.write_text(spec.read_text() + "modle: {}\n")
    assert preflight(monkeypatch, str(spec)) == 2
    assert f"{spec}:6" in capsys.readouterr().err


def test_login_side_imports_neither_torch_nor_wandb_and_is_quick(spec):
    script = (
        "import sys, time; sys.argv[1:] = ['preflight', sys.argv[1]]\n"
        "from sedd.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'wandb', 'submitit'} & set(sys.modules), sorted(sys.modules)\n"
        "assert time.process_time() < 3\n"  # not of the clock: other tests run, too
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(spec)],
        capture_output=True,
        text=True,
        cwd=spec.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "NOT READY" in done.stdout
    assert "FAIL data_store" in done.stdout
