"""READMEs: what they name is there, and a line of prose fits a terminal beside a diff."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = sorted(path for path in ROOT.rglob("README.md") if not {".venv", "build"} & set(path.parts))
WIDTH = 100


def prose(text: str) -> list[str]:
    """The lines that are no table, code, picture or markup."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if not re.match(r"\s*[|<]|\s*!\[| {4}", line)]


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_prose_has_lines_of_a_hundred_columns(path: Path):
    lines = [re.sub(r"\]\([^)]*\)", "]", line) for line in prose(path.read_text(encoding="utf-8"))]
    assert [line for line in lines if len(line) > WIDTH] == []


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_files_in_its_tables_exist(path: Path):
    """A name in the first columns of a table: beside the README, or in a folder that the row names."""
    missing = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not re.match(r"\| *(`|\|)", line):
            continue
        folder = path.parent
        for name in re.findall(r"`([a-z_]+/|[a-z_/]+\.(?:py|sh|cu|yaml))`", line.rpartition(" | ")[0]):
            if name.endswith("/") and (path.parent / name).is_dir():
                folder = path.parent / name
        names = re.findall(r"`([a-z0-9_/]+\.(?:py|sh|cu|yaml))`", line.rpartition(" | ")[0])
        found = {file.name for file in path.parent.rglob("*")} if folder == path.parent else set()
        missing += [n for n in names if not ((folder / n).exists() or (ROOT / n).exists() or n in found)]
    assert missing == []


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_tests_are_run_by_the_script_that_installs_pytest(path: Path):
    """The quickstart's environment holds no pytest."""
    commands = re.findall(
        r"(?:`|^ {4}|&& )((?:python3? -m )?pytest\b[^`\n]*)", path.read_text(encoding="utf-8"), re.M
    )
    assert commands == []
