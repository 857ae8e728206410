"""What the outside world looks for in a repository is there, and its parts agree with each other."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import sedd

PROJECT = Path(__file__).parents[1]
FOLDERS = {"sedd", "jobs", "slurm", "tools", "tests"}
FILES = {"README.md", "pyproject.toml", "LICENSE", "CHANGELOG.md", "CITATION.cff"}


def tracked() -> list[str]:
    """What git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git clone")
    return [name for name in listed.stdout.decode().split("\0") if name and (PROJECT / name).exists()]


def project() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def test_the_top_level_holds_what_everybody_looks_for_and_nothing_else():
    tops = {name.split("/")[0] for name in tracked()}
    assert {name for name in tops if not name.startswith(".")} == FOLDERS | FILES


def test_the_versions_agree():
    assert "version" in project()["dynamic"]
    assert yaml.safe_load(text("CITATION.cff"))["version"] == sedd.__version__


def test_the_changelog_says_which_versions_there_were():
    headings = re.findall(r"^## (.*)$", text("CHANGELOG.md"), re.M)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])


def test_every_address_of_the_repository_is_the_same():
    home = project()["urls"]["Homepage"]
    assert all(address.startswith(home) for address in project()["urls"].values())
    assert yaml.safe_load(text("CITATION.cff"))["repository-code"] == home
    assert home in text(".github/CONTRIBUTING.md")


def test_the_workflow_runs_ci_with_each_python_that_is_promised():
    (job,) = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"].values()
    assert job["steps"][-1]["run"] == "bash .ci/run"
    promised = [named[1] for c in project()["classifiers"] if (named := re.search(r":: (3\.\d+)$", c))]
    assert job["strategy"]["matrix"]["python"] == promised


def test_hooks_before_a_commit_run_the_tools_of_the_check():
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    entries = {re.search(r"-m (\w+( check| format)?)", hook["entry"])[1] for hook in hooks}
    checks = set(re.findall(r"python -m (\w+(?: check| format)?)", text("tools/check.sh")))
    assert entries == {name.strip() for name in checks}


LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", [n for n in tracked() if n.endswith(".md")])
def test_links_and_pictures_of_a_page_lead_to_files(page: str):
    targets = [target for target in LINK.findall(text(page)) if "://" not in target]
    assert [target for target in targets if not (PROJECT / page).parent.joinpath(target).exists()] == []


def test_a_picture_lies_beside_a_page_that_shows_it():
    pictures = {name for name in tracked() if name.endswith((".svg", ".png"))}
    shown = {
        str(Path(page).parent / target)
        for page in tracked()
        if page.endswith(".md")
        for target in LINK.findall(text(page))
    }
    assert pictures - shown == set()
