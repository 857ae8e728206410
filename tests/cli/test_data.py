import json
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "jobs" / "data" / "uniprot2k.fasta.gz"


def _sedd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sedd", "data", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name has a space, with a store of the quickstart's proteins."""
    folder = tmp_path_factory.mktemp("my data")
    done = _sedd("build", str(QUICKSTART), "-o", "my store", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "my store: built" in done.stdout
    return folder


def test_build_again_says_that_it_is_there(folder: Path):
    done = _sedd("build", str(QUICKSTART), "-o", "my store", "--json", cwd=folder)
    document = json.loads(done.stdout)
    assert (done.returncode, document["reused"]) == (0, True)
    assert sum(split["sequences"] for split in document["splits"].values()) == 2000


def test_other_options_fail_in_one_line_with_a_hint(folder: Path):
    done = _sedd("build", str(QUICKSTART), "-o", "my store", "--min-length", "20", cwd=folder)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == [
        "error: my store exists and was built with other options (min_length)",
        "hint: --force replaces it; or choose another name after -o",
    ]


def test_info_shows_both_splits(folder: Path):
    done = _sedd("info", "my store", cwd=folder)
    assert done.returncode == 0
    assert "train" in done.stdout
    assert "unigram nats/residue" in done.stdout
    assert json.loads(_sedd("info", "my store", "--json", cwd=folder).stdout)["format"] == "sedd-token-store"


def test_verify_fails_on_a_changed_file(folder: Path, tmp_path: Path):
    assert _sedd("verify", "my store", cwd=folder).returncode == 0
    tokens = folder / "my store" / "train" / "tokens-00000.npy"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        done = _sedd("verify", "my store", "--json", cwd=folder)
    finally:
        tokens.write_bytes(whole)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (1, False)


def test_a_missing_file_is_named(tmp_path: Path):
    done = _sedd("build", "no.fasta", "-o", "store", cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (1, "error: no.fasta does not exist")
    assert list(tmp_path.iterdir()) == []
