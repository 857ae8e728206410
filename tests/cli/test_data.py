import contextlib
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.launch.local_processes import wait_until
from tests.command_line import sedd_here

QUICKSTART = Path(__file__).parents[2] / "jobs" / "data" / "uniprot2k.fasta.gz"


def _sedd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return sedd_here("data", *arguments, cwd=cwd)


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
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == [
        "error: cannot write my store: it already exists, built with other options (min_length)",
        "hint: --force replaces it; or choose another name after -o",
    ]


def test_info_shows_both_splits(folder: Path):
    done = _sedd("info", "my store", cwd=folder)
    assert done.returncode == 0
    assert "train" in done.stdout
    assert "unigram nats/residue" in done.stdout
    assert json.loads(_sedd("info", "my store", "--json", cwd=folder).stdout)["format"] == "sedd-token-store"


@pytest.mark.parametrize(
    ("file", "place"),
    [("tokens-00000.npy", 126), ("tokens-00000.npy", -1), ("hashes.npy", 126), ("offsets.npy", -1)],
)
def test_verify_fails_on_a_changed_file(folder: Path, file: str, place: int):
    assert _sedd("verify", "my store", cwd=folder).returncode == 0
    changed = folder / "my store" / "train" / file
    whole = bytearray(changed.read_bytes())
    whole[place] ^= 1
    try:
        changed.write_bytes(whole)
        done = _sedd("verify", "my store", "--json", cwd=folder)
    finally:
        whole[place] ^= 1
        changed.write_bytes(whole)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (1, False)


def test_a_store_too_damaged_to_open_fails_its_verification_and_is_bad_input_elsewhere(
    folder: Path, tmp_path: Path
):
    store = shutil.copytree(folder / "my store", tmp_path / "mine")
    (store / "manifest.json").write_text("{")
    done = _sedd("verify", "mine", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], len(told["problems"])) == (1, False, 1)
    described = _sedd("info", "mine", cwd=tmp_path)
    assert (described.returncode, described.stderr[:7]) == (2, "error: ")


def test_a_missing_file_is_named(tmp_path: Path):
    done = _sedd("build", "no.fasta", "-o", "store", cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, "error: no.fasta does not exist")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("info", "no.store"), ("verify", "no.store")])
def test_a_missing_store_is_named_with_a_hint(command: tuple[str, str], tmp_path: Path):
    done = _sedd(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["error: no.store does not exist", "hint: make it with: sedd data build proteins.fasta -o STORE"],
    )


def test_a_fasta_in_place_of_a_store_is_told_how_it_becomes_one(tmp_path: Path):
    (tmp_path / "p.fasta.gz").touch()
    done = _sedd("info", "p.fasta.gz", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "error: p.fasta.gz is a file, not a token store",
            "hint: if it is FASTA, make a store of it: sedd data build p.fasta.gz -o p.store",
        ],
    )


def test_lengths_that_exclude_everything_are_a_slip(tmp_path: Path):
    done = _sedd(
        "build", str(QUICKSTART), "-o", "store", "--min-length", "9", "--max-length", "8", cwd=tmp_path
    )
    assert (done.returncode, done.stderr.strip()) == (2, "error: --max-length 8 is less than --min-length 9")


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    done = _sedd("build", str(QUICKSTART), "-o", "file/store", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: cannot write file/store: its folder is a file"


def test_a_text_that_ends_within_a_line_is_built_with_a_warning(tmp_path: Path):
    (tmp_path / "cut.fasta").write_text(">a\nMKVLAW\n>b\nMKVLA")
    (tmp_path / "whole.fasta").write_text(">c\nMKVLAY\r\n")
    done = _sedd("build", "cut.fasta", "whole.fasta", "-o", "store", cwd=tmp_path)
    note = "warning: cut.fasta has no line end at its end: was it cut short? then its last protein is, too"
    assert done.returncode == 0
    assert done.stderr.splitlines() == [note, "warning: the validation split is empty"]
    assert note in _sedd("info", "store", cwd=tmp_path).stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_build_and_nothing_is_left(number: signal.Signals, tmp_path: Path):
    """As of a terminal: all its processes get it."""
    (tmp_path / "a.fasta").write_bytes(gzip.decompress(QUICKSTART.read_bytes()) * 30)
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "sedd", "data", "build", *["a.fasta"] * 500, "-o", "store", "--min-length", "4000"],
            cwd=tmp_path,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # under nohup, SIGHUP would be ignored
        )  # fmt: skip
    try:
        assert wait_until(lambda: any(tmp_path.glob(".store.building-*/parts/1-*")), timeout_s=180)
        os.killpg(process.pid, number)
        assert process.wait(30) == 128 + number
        told = (
            "interrupted: nothing was written; the same command starts over"
            if number == signal.SIGINT
            else ""
        )
        assert (tmp_path / "said").read_text().strip() == told
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fasta", "said"]
        assert wait_until(lambda: not _group(process.pid), timeout_s=60), _group(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _group(number: int) -> list[str]:
    """The processes of a group that are alive."""
    asked = ["ps", "-o", "pid=,stat=,args=", "-g", str(number)]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line for line in lines if line.split()[1] != "Z"]


def _flipped(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 4]) + content[5001:]


WHOLE = gzip.compress(b"".join(b">%d\n%b\n" % (n, random.Random(n).randbytes(300).hex().translate(
    str.maketrans("0123456789abcdef", "ACDEFGHIKLMNPQRS")).encode()) for n in range(200)))  # fmt: skip
UNUSABLE = {
    "cut.fasta.gz": (WHOLE[: len(WHOLE) // 2], "cut short"),
    "flipped.fasta.gz": (_flipped(WHOLE), "is damaged"),
    "headers.fasta": (b">a\n>b\n>c\n", "none of the 3 records is left: 3 dropped: a header without sequence"),
    "garbage.fasta": (random.Random(0).randbytes(50_000), "is binary, not FASTA"),
    "genes.fasta": (b">a\n" + b"ACGTTGCAAC" * 400 + b"\n", "holds nucleotides, not proteins"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_input_is_one_line_and_leaves_nothing(name: str, tmp_path: Path):
    content, told = UNUSABLE[name]
    (tmp_path / name).write_bytes(content)
    done = _sedd("build", name, "-o", "store", cwd=tmp_path)
    first, *rest = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert first.startswith("error: ")
    assert name in first
    assert told in first
    assert [line[:6] for line in rest] in ([], ["hint: "])
    assert [path.name for path in tmp_path.iterdir()] == [name]


NOT_TEXT = {
    "garbage": (random.Random(0).randbytes(5000), "is binary"),
    "packed": (gzip.compress(b"P1\tP1\n"), "is compressed with gzip"),
    "excel": ("P1\tP1\n".encode("utf-16"), "is text in UTF-16, not UTF-8"),
    "parquet": (b"PAR1" + bytes(100), "is a Parquet file"),
}


@pytest.mark.parametrize("name", NOT_TEXT)
@pytest.mark.parametrize(
    "words",
    [
        "data build a.fasta --clusters {} -o store",
        "data build a.fasta --labels {} -o store",
    ],
)
def test_a_table_that_is_no_text_is_told_so_without_its_bytes(tmp_path: Path, name: str, words: str):
    content, told = NOT_TEXT[name]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "a.fasta").write_text(">P1\nMKV\n")
    command = [sys.executable, "-m", "sedd", *words.format(name).split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    first, second = done.stderr.splitlines()
    assert done.returncode == 2
    assert first.startswith(f"error: {name} {told}")
    assert second.startswith(
        "hint: first: " if name in ("packed", "excel") else "hint: write the table as text"
    )
    assert done.stderr.isascii()


def test_a_protein_of_40_000_residues_is_stored_whole(tmp_path: Path):
    (tmp_path / "titin.fasta").write_text(">titin\n" + "MKVLAWQTRE\n" * 4000)
    done = _sedd("build", "titin.fasta", "-o", "store", "--json", cwd=tmp_path)
    splits = json.loads(done.stdout)["splits"].values()
    assert (done.returncode, max(split["lengths"]["max"] for split in splits)) == (0, 40_000)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path):
    """On a disk of 64 KiB, in a mount namespace of its own."""
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=64k none "$1"'
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        not shutil.which("unshare")
        or subprocess.run([*inside, mount, "sh", str(disk)], check=False).returncode
    ):
        pytest.skip("this system gives users no mount namespaces")
    build = f'{mount} && cd "$1" && "$2" -m sedd data build "$3" -o store; echo "exit $?"; ls -A "$1"'
    done = subprocess.run(
        [*inside, build, "sh", str(disk), sys.executable, str(QUICKSTART)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr.splitlines() == [
        "error: cannot write store: no space left on device",
        "hint: a store takes about as many bytes as its input has residues; nothing was left behind",
    ]
    assert done.stdout.split() == ["exit", "1"]
