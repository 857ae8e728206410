"""Versions on the node against those that the manifest notes."""

import json
import platform

import pytest

from sedd.launch.freeze import versions
from sedd.preflight.checks import same_python as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status
from sedd.rundir.layout import RunDir


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, Status.OK, "as at the login node"),
        ({"python": "2.0.1"}, Status.WARN, f"python {platform.python_version()}, was 2.0.1"),
        ({"nosuch": "1.0"}, Status.WARN, "nosuch not installed, was 1.0"),
    ],
)
def test_versions(make_context, tmp_path, changes, status, words):
    run = RunDir(tmp_path)
    run.manifest.write_text(json.dumps({"versions": versions() | changes}))
    verdict = check.judge(check.gather(make_context(side=Side.NODE, run=run)))
    assert verdict.status is status
    assert words in verdict.saw


def test_without_a_run_there_is_nothing_to_compare(make_context):
    assert check.gather(make_context(side=Side.NODE)) is None
