"""Output in a locale of ASCII."""

import io
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from sedd.cli.streams import as_ascii, fitted, is_ascii, with_plain_signs
from sedd.monitor.show.cells import bar
from sedd.monitor.show.plot import plot
from sedd.monitor.show.sparkline import sparkline
from sedd.preflight.finding import Finding, Status
from sedd.preflight.show.render import findings_table


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),  # as Python sets it
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, True),
        ({"LC_CTYPE": "C", "LANG": "en_US.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "de_DE.UTF-8"}, False),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, False),
        ({}, False),
    ],
)
def test_the_locale_tells_what_the_terminal_knows(environment: dict[str, str], expected: bool) -> None:
    assert is_ascii(environment) is expected


def test_bars_and_curves_stay_as_wide_and_tell_what_they_told() -> None:
    assert as_ascii(bar(0.5, width=8)) == "####...."
    assert as_ascii(sparkline([3, 2, 1, 0], width=4)) == "#=._"
    curve = plot([(k, 100.0 - k) for k in range(100)], width=60, height=4)
    drawn = [as_ascii(line) for line in curve]
    assert all(line.isascii() for line in drawn)
    assert [len(line) for line in drawn] == [len(line) for line in curve]
    assert "?" not in "".join(drawn)
    assert as_ascii("é×3…漢") == "ex3~??"


def test_a_sign_of_two_characters_takes_a_space_beside_it() -> None:
    assert as_ascii("2.43 ± 0.02 │ 1,000 → 2,000 │ ± ? ") == "2.43 +-0.02 | 1,000 ->2,000 | +-? "
    assert as_ascii("± standard error, ≥ 3 and ≤ x") == "+-standard error, >=3 and <=x"
    assert as_ascii("check    → install it") == "check   -> install it"  # an indent gives one of its own
    assert as_ascii("2.43 ±\n0.02") == "2.43+-\n0.02"
    code = "from sedd.cli.streams import prepare_streams as p; p(); print('é 2.43 ± 0.02 ─→ 5 ±')"
    code += "; import sys; print('a ± b', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"LC_ALL": "C"}, capture_output=True)
    assert done.stdout == "é 2.43 +-0.02 -->5+-\n".encode()
    assert done.stderr == b"a +-b\n"


def test_in_locale_c_a_users_letters_stay_and_our_signs_become_ascii() -> None:
    assert with_plain_signs("it's é/漢.fasta │ ±3 … ⣿█") == "it's é/漢.fasta |+-3 ~ *#"
    code = "from sedd.cli.streams import prepare_streams as p; p(); print('é ± ⣿')"
    for variables, expected in (({}, "é +-*\n".encode()), ({"PYTHONIOENCODING": "ascii"}, b"e +-*\n")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"LC_ALL": "C"} | variables, capture_output=True
        )
        assert done.stdout == expected


def test_what_an_encoding_has_stays_in_it() -> None:
    assert fitted("é 2.43 ± 0.02 → 5", "latin-1") == "é 2.43 ± 0.02 ->5"
    assert fitted("é 2.43 ± 0.02 → 5", "utf-8") == "é 2.43 ± 0.02 → 5"


def test_no_line_becomes_wider_or_narrower_in_ascii() -> None:
    draw = random.Random(0)
    letters = "a 1  →±≥≤…·█▁│é漢Ａ→± ⣿"
    lines = ["".join(draw.choices(letters, k=draw.randrange(1, 20))) for _ in range(5000)]
    wrong = [(line, plain) for line in lines if len(plain := as_ascii(line)) != cell_len(line)]
    assert wrong == []
    assert as_ascii("e\u0301t") == "et"  # an accent on its own has no width


@pytest.mark.parametrize("width", [80, 60])
def test_tables_are_as_wide_in_ascii(width: int) -> None:
    finding = Finding(check="gpu", status=Status.FAIL, saw="x " * 60, hint="mend the " + "driver, " * 40)
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as drawn:
        console.print(findings_table([finding]))
    lines = drawn.get().splitlines()
    assert any("→" in line for line in lines)
    assert [len(as_ascii(line)) for line in lines] == [cell_len(line) for line in lines]
    assert max(map(len, lines)) <= width


def test_the_command_line_is_ascii_in_locale_c_and_its_data_is_utf_8(tmp_path: Path) -> None:
    (tmp_path / "é.fasta").write_text(">a\nMKVLA\n")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}

    def sedd(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "sedd", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=plain | {"LANG": "C"}, capture_output=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    table = sedd("data", "build", "é.fasta", "-o", "store", "--validation-fraction", "0")
    assert table.replace("é.fasta".encode(), b"").isascii()
    assert b"+" in table
    assert b"?" not in table
    assert "é.fasta".encode() in sedd("data", "info", "store", "--json")
    assert sedd("--help").isascii()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["schema"], ["--help"]])
def test_a_full_disk_under_stdout_is_named(arguments: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sedd", *arguments],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot write standard output: no space left on device\n"


@pytest.mark.parametrize("arguments", [["schema"], ["--help"]])
def test_a_reader_that_has_seen_enough_ends_the_command_as_sigpipe_does(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sedd", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
