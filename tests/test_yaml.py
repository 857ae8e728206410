"""Strict YAML: traps, places, suggestions."""

import bz2
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field, StringConstraints

from sedd.errors import SpecError, why_binary, why_not_utf_8
from sedd.yaml import (
    Document,
    StrictModel,
    dump_document,
    load_document,
    parse_document,
    parse_override,
    validate,
)
from tests.command_line import BY_PERMISSION


class Steep(StrictModel):
    kind: Literal["steep"] = "steep"
    slope: float = 1.0


class Flat(StrictModel):
    kind: Literal["flat"] = "flat"
    height: float = 0.0


class Inner(StrictModel):
    rate: float = Field(default=1.0, gt=0)
    count: int = 1
    quick: bool = False
    mode: Literal["fast", "slow"] = "fast"
    tags: tuple[str, ...] = ()


class Outer(StrictModel):
    name: str
    inner: Inner = Inner()
    hill: Annotated[Steep | Flat, Field(discriminator="kind")] = Steep()


def read(text: str) -> Outer:
    return validate(Outer, parse_document(text, name="f.yaml"))


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(text)
    return caught.value.message.splitlines()


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("rate: 3e-4", "write 3.0e-4"),
        ("rate: 1E5", "write 1.0e+5"),
        ("rate: 1.5e5", "write 1.5e+5"),
        ("count: 24:00:00", "write a duration like 24h"),
        ("count: 1:30", "base-60"),
        ("count: 010", "write 10"),
        ("count: 000", "write 0"),
        ("quick: on", "write true or false"),
        ("quick: Off", "write true or false"),
        ("mode: no", "in 1.2; it must be 'fast' or 'slow'"),
        ("mode: YES", "in 1.2; it must be 'fast' or 'slow'"),
        ("count: y", "in 1.2; it must be a whole number"),
    ],
)
def test_every_trap_names_its_line_its_field_and_what_to_write(line: str, advice: str):
    (problem,) = problems(f"name: a\ninner:\n  {line}\n")
    field, seen = line.split(": ")
    assert problem.startswith(f"f.yaml:3: inner.{field}: {seen} ")
    assert advice in problem


@pytest.mark.parametrize("value", ["off", "3e-4", "010", "24:00:00"])
def test_a_trap_in_a_field_that_there_is_not_is_an_unknown_field(value: str):
    assert problems(f"name: a\ninner:\n  raet: {value}\n") == [
        "f.yaml:3: unknown field 'inner.raet' (did you mean 'rate'?)"
    ]


@pytest.mark.parametrize("written", ["off", "no", "false", "'off'", '"No"'])
def test_a_word_for_no_suggests_the_choice_that_means_it(written: str):
    class Tracking(StrictModel):
        wandb: Literal["online", "offline", "disabled"] = "offline"

    with pytest.raises(SpecError) as caught:
        validate(Tracking, parse_document(f"wandb: {written}\n", name="f.yaml"))
    (line,) = caught.value.message.splitlines()
    assert line.endswith("; it must be 'online', 'offline' or 'disabled' (did you mean 'disabled'?)")
    assert "true or false" not in line


@pytest.mark.parametrize(("word", "value"), [("on", True), ("off", False), ("No", False), ("y", True)])
def test_a_word_of_an_override_is_a_boolean_where_the_field_is_one(word: str, value: bool):
    _, given = parse_override(f"quick={word}")
    assert validate(Inner, Document("f", {"quick": given}, {})).quick is value


@pytest.mark.parametrize("item", ["3e-4", "on", "010", "1:30"])
def test_traps_are_caught_inside_lists(item: str):
    (problem,) = problems(f"name: a\ninner:\n  tags:\n  - fine\n  - {item}\n")
    assert problem.startswith(f"f.yaml:5: inner.tags.1: {item} is ")


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("text", ["3e-4", "24:00:00", "010", "on", "no"])
def test_quotes_make_a_trap_plain_text(text: str, quote: str):
    assert read(f"name: {quote}{text}{quote}\n").name == text


@pytest.mark.parametrize("number", ["3.0e-4", "0.0003", "3.e-4", "+3.0e-4"])
def test_numbers_that_every_yaml_reads_alike_pass(number: str):
    assert read(f"name: a\ninner: {{rate: {number}}}\n").inner.rate == 3e-4


def test_all_problems_of_a_file_are_told_at_once():
    told = problems("nam: a\ninner:\n  rate: fast\n  mode: fas\n  rat: 1\n  count: 1.5\nhill: {kind: flt}\n")
    places = [line.split(": ")[0] for line in told]
    assert places == [*(f"f.yaml:{n}" for n in (1, 3, 4, 5, 6, 7)), "f.yaml"], "in the order of the lines"


def test_a_field_of_several_types_is_one_problem_that_names_them_all():
    class Choice(StrictModel):
        size: int | Literal["auto"] = 3

    with pytest.raises(SpecError) as caught:
        validate(Choice, parse_document("size: autoo\n", name="f.yaml"))
    expected = "f.yaml:1: size is 'autoo'; it must be a whole number or 'auto' (did you mean 'auto'?)"
    assert caught.value.message == expected


@pytest.mark.parametrize("field", ["count", "rate"])
def test_true_is_no_number(field: str):
    (problem,) = problems(f"name: a\ninner: {{{field}: true}}\n")
    assert problem.startswith(f"f.yaml:2: inner.{field} is 'true'; it must be a")


def test_a_trap_hides_no_other_problem_and_is_told_once():
    told = problems("name: a\ninner:\n  rate: 3e-4\n  mode: fas\n  tags: [on]\n  cuont: 1\n")
    assert [line.split(": ")[0] for line in told] == [f"f.yaml:{n}" for n in (3, 4, 5, 6)]


def test_all_traps_and_repeats_of_a_file_are_told_at_once():
    told = problems("name: on\nname: b\ninner: {rate: 3e-4, count: 010, count: 2}\n")
    assert len(told) == 5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\nname: b\n", "f.yaml:2: 'name' is given twice"),
        ("name: a\ninner: {count: 1}\ninner: {rate: 2.0}\n", "f.yaml:3: 'inner' is given twice"),
        ("name: a\ninner:\n  count: 1\n  rate: 2.0\n  count: 3\n", "f.yaml:5: 'count' is given twice"),
    ],
)
def test_a_repeated_key_is_refused_at_its_second_place(text: str, problem: str):
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\ninner: {cuont: 1}\n", "f.yaml:2: unknown field 'inner.cuont' (did you mean 'count'?)"),
        ("name: a\ncount: 1\n", "f.yaml:2: unknown field 'count' (did you mean 'inner.count'?)"),
        (
            "name: a\ninner: {slope: 1}\n",
            "f.yaml:2: unknown field 'inner.slope' (did you mean 'hill.slope'?)",
        ),
        ("name: a\nslopes: 1\n", "f.yaml:2: unknown field 'slopes' (did you mean 'hill.slope'?)"),
        (
            "name: a\nhill: {kind: flat, hight: 1}\n",
            "f.yaml:2: unknown field 'hill.hight' (did you mean 'height'?)",
        ),
        (
            "name: a\nhill: {kind: flat, slope: 1}\n",
            "f.yaml:2: unknown field 'hill.slope' (only kind steep has it)",
        ),
        ("name: a\nxyzzy: 1\n", "f.yaml:2: unknown field 'xyzzy'"),
        (
            "name: a\ninner: {mode: slwo}\n",
            "f.yaml:2: inner.mode is 'slwo'; it must be 'fast' or 'slow' (did you mean 'slow'?)",
        ),
        (
            "name: a\nhill: {kind: step}\n",
            "f.yaml:2: hill.kind is 'step'; it must be one of 'steep', 'flat' (did you mean 'steep'?)",
        ),
        ("name: a\nhill: {slope: 1}\n", "f.yaml:2: 'hill.kind' is missing"),
        ("inner: {}\n", "f.yaml: 'name' is missing"),
    ],
)
def test_a_mistake_is_named_with_what_was_probably_meant(text: str, problem: str):
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("inner:", "inner is empty; it must be a section: 'key: value' lines"),
        ("inner: 5", "inner is 5; it must be a section: 'key: value' lines"),
        ("inner: [1]", "inner is [1]; it must be a section: 'key: value' lines"),
        ("hill: flat", "hill is 'flat'; it must be a section: 'key: value' lines"),
        ("inner: {count: }", "inner.count is empty; it must be a whole number"),
        ("inner: {count: 1.5}", "inner.count is 1.5; it must be a whole number"),
        ("inner: {rate: fast}", "inner.rate is 'fast'; it must be a number"),
        ("inner: {rate: 0}", "inner.rate is 0; it must be greater than 0"),
        ("inner: {rate: .nan}", "inner.rate is nan; it must be a finite number"),
        ("inner: {quick: maybe}", "inner.quick is 'maybe'; it must be true or false"),
        ("inner: {tags: a}", "inner.tags is 'a'; it must be a list: [a, b]"),
        ("inner: {tags: [2020-01-01]}", "inner.tags.0 is 2020-01-01; it must be text: put it in quotes"),
    ],
)
def test_a_wrong_value_is_told_in_words_of_the_file(line: str, said: str):
    assert problems(f"name: a\n{line}\n") == [f"f.yaml:2: {said}"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n- b\n", "just words\n", "---\n"])
def test_a_file_that_is_no_mapping_says_what_was_expected(text: str):
    (problem,) = problems(text)
    assert problem.startswith("f.yaml: ")
    assert "'key: value' lines" in problem


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\n\tinner: 1\n", 2),
        ("name: [a\n", 2),
        ("name: a\n---\nname: b\n", 2),
        ("name: 'a\n", 2),
        ("a: *b\n", 1),
        ("name: a\nother: \0\n", 2),
    ],
)
def test_broken_yaml_is_told_with_its_line(text: str, line: int):
    (problem,) = problems(text)
    assert problem.startswith(f"f.yaml:{line}: not valid YAML: ")


def test_a_tag_of_another_program_is_refused():
    (problem,) = problems("name: !!python/object/apply:os.getcwd []\n")
    assert "f.yaml:1" in problem


def test_anchors_aliases_and_merges_are_followed_however_deep():
    text = "name: &n a\ninner: &i {rate: 2.0, tags: [&t x, *t, *n]}\n"
    document = parse_document(text + "other: {<<: *i, count: 3}\nthird: {<<: [{rate: 5.0}, *i]}\n", name="f")
    assert document.data["inner"]["tags"] == ["x", "x", "a"]
    assert document.data["other"] == {"rate": 2.0, "tags": ["x", "x", "a"], "count": 3}
    assert document.data["third"]["rate"] == 5.0, "the first of several merged sections wins"
    assert document.where(("other", "count")) == "f:3"
    assert document.where(("other", "rate")) == "f:2", "a merged value stands where it was written"


def test_a_sections_own_value_wins_over_a_merged_one():
    assert read("name: a\ninner: {count: 3, <<: {count: 2, rate: 2.0}}\n").inner == Inner(count=3, rate=2.0)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}\n",
        "a: &a [*a]\n",
        "a: &a {<<: &b {<<: *a}}\nc: {<<: *b}\n",
        "a: {<<: 3}\n",
        "? [a]\n: 1\n",
    ],
)
def test_knots_are_told_not_followed(text: str):
    knots = parse_document(text, name="f.yaml").problems
    assert {knot.where for knot in knots} == {"f.yaml:1"}
    assert set(map(str, knots)) <= set(problems(text))


def test_what_is_nested_too_deeply_is_one_line():
    assert problems("a: " + "[" * 3000) == ["f.yaml: nested too deeply"]


TEXT = "name: café  # of Müller\ninner: {count: 2}\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(TEXT.encode(), mtime=0), "is compressed with gzip"),
        (bz2.compress(TEXT.encode()), "is compressed with bzip2"),
        (TEXT.encode("utf-16"), "is text in UTF-16, not UTF-8"),
        (TEXT.encode("utf-16-le"), "is text in UTF-16LE, not UTF-8"),
        (TEXT.encode("utf-16-be"), "is text in UTF-16BE, not UTF-8"),
        (TEXT.encode("latin-1"), "is not text in UTF-8: byte 0xe9 in line 1"),
    ],
)
def test_what_is_packed_or_written_otherwise_is_read_after_the_command_of_the_hint(
    tmp_path: Path, content: bytes, told: str
):
    path = tmp_path / "a spec.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_document(path)
    assert caught.value.message == f"{path}: {told}"
    command = (caught.value.hint or "").partition("first: ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    (made,) = set(tmp_path.iterdir()) - {path}
    assert made.read_text(encoding="utf-8") == TEXT
    assert path.read_bytes() == content
    assert load_document(made).data["inner"] == {"count": 2}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x00\xff\xfe", "is binary"),
        (bytes(range(1, 256)) * 9000, "is binary"),  # larger than any spec, too
        (b"PK\x03\x04" + bytes(20) + b"archive/data.pkl", "is a file of PyTorch, perhaps a checkpoint"),
        (b"PK\x03\x04" + bytes(20) + b"[Content_Types].xml", "is an office document"),
        (b"%PDF-1.7 ", "is a PDF file"),
    ],
)
def test_a_file_of_another_kind_is_told_so(tmp_path: Path, content: bytes, told: str):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_document(path)
    assert caught.value.message == f"{path}: {told}"
    assert caught.value.hint == "is this the right file? It should be YAML"


@pytest.mark.parametrize(
    "content", [b"", b"a", b"name: a\n", TEXT.encode(), b"\xef\xbb\xbfname: a\n", b"a\tb\r\n"]
)
def test_text_is_not_taken_for_anything_else(content: bytes):
    assert why_binary(Path("f"), content) is None
    assert why_not_utf_8(Path("f"), content) is None


def test_one_strange_character_has_its_line(tmp_path: Path):
    (tmp_path / "f.yaml").write_text("name: a" + " " * 90 + "\nb: \x07\n")
    with pytest.raises(SpecError, match=r"f.yaml:2: not valid YAML"):
        load_document(tmp_path / "f.yaml")


def test_letters_of_two_bytes_at_the_limit_of_size_do_not_make_it_no_text(tmp_path: Path):
    (tmp_path / "f.yaml").write_text("# " + "é" * (1 << 20))
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load_document(tmp_path / "f.yaml")


def test_what_may_not_be_read_names_what_refuses(tmp_path: Path):
    closed = tmp_path / "closed folder"
    closed.mkdir()
    (closed / "a.yaml").write_text("name: a\n")
    (tmp_path / "b.yaml").write_text("name: a\n")
    program = "import sys; from pathlib import Path; from sedd.yaml import load_document\n"
    program += "try: load_document(Path(sys.argv[1]))\nexcept Exception as e: print(e.message); print(e.hint)"
    for path, refuses in ((closed / "a.yaml", closed), (tmp_path / "b.yaml", tmp_path / "b.yaml")):
        refuses.chmod(0)
        command = [*BY_PERMISSION, sys.executable, "-c", program, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        refuses.chmod(0o700)
        message, hint = done.stdout.splitlines()
        assert message == f"{path}: cannot be read: permission denied"
        named = str(refuses) if refuses.suffix else f"'{refuses}'"  # in quotes, as it has a space
        assert hint == f"its owner may give the permission: ls -ld {named} shows it"


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfname: a\ninner: {count: 2}\n", b"name: a\r\ninner: {count: 2}\r\n"]
)
def test_files_of_other_systems_are_read(tmp_path: Path, content: bytes):
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    assert validate(Outer, load_document(path)) == Outer(name="a", inner=Inner(count=2))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path):
    (tmp_path / "quickstart.yaml").write_text("name: a\n")
    with pytest.raises(SpecError, match="no such file") as caught:
        load_document(tmp_path / "quikstart.yaml")
    assert caught.value.hint == f"did you mean '{tmp_path / 'quickstart.yaml'}'?"


@pytest.mark.parametrize("written", ["quickstart", "quickstart.yaml"])
def test_a_file_without_its_folder_is_found_below(tmp_path: Path, written: str):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "quickstart.yaml").write_text("name: a\n")
    with pytest.raises(SpecError, match="no such file") as caught:
        load_document(tmp_path / written)
    assert caught.value.hint == f"did you mean '{tmp_path / 'jobs' / 'quickstart.yaml'}'?"


def test_a_folder_or_a_path_through_a_file_is_told_so(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpecError) as caught:
        load_document(tmp_path)
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path}: is a folder, not a file",
        "name a file in it",
    )
    (tmp_path / "spec.yaml").write_text("name: a\n")
    with pytest.raises(SpecError) as caught:
        load_document(tmp_path)
    assert caught.value.hint == f"name a file in it: {tmp_path / 'spec.yaml'}"
    with pytest.raises(SpecError) as caught:
        load_document(tmp_path / "file" / "x")
    what = f"{tmp_path / 'file'} is a file, not a folder"
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path / 'file' / 'x'}: cannot be read: {what}",
        None,
    )


def test_a_link_to_nothing_is_told_so(tmp_path: Path):
    (tmp_path / "a.yaml").symlink_to("gone.yaml")
    with pytest.raises(SpecError, match=r"a.yaml: a link to gone.yaml, which does not exist"):
        load_document(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a.b=3e-4", ("a", "b"), 3e-4),
        ("a.b= 3e-4 ", ("a", "b"), 3e-4),
        ("a=5", ("a",), 5),
        ("a=true", ("a",), True),
        ("a=word", ("a",), "word"),
        ("a=off", ("a",), "off"),
        ("a='5'", ("a",), "5"),
        ("a=x=y", ("a",), "x=y"),
        ("a=[1, 2.5]", ("a",), [1, 2.5]),
        ("a={kind: x}", ("a",), {"kind": "x"}),
        ("a=", ("a",), None),
        ("a=null", ("a",), None),
        ("a=24h", ("a",), "24h"),
        ("a=/some/path with space", ("a",), "/some/path with space"),
    ],
)
def test_an_override_is_a_dotted_key_and_a_yaml_value(text: str, key: tuple[str, ...], value: object):
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize(
    "text", ["a", "=3", ".a=3", "a.=3", "", "a=[", "a=010", "a=[on]", "a=1:30:00", "a=&x [*x]"]
)
def test_an_override_that_cannot_be_read_is_shown_back(text: str):
    with pytest.raises(SpecError) as caught:
        parse_override(text)
    assert caught.value.message.startswith(f"--set {text}: ")


def test_a_key_that_the_file_lacks_stands_where_its_section_does():
    document = Document("f", {}, {("a",): 1, ("a", "b"): 2}, {("c", "d"): "--set c.d=1"})
    assert document.where(("a", "b", "x")) == "f:2"
    assert document.where(("c", "d", "e")) == "--set c.d=1"
    assert document.where(("c",)) == "--set c.d=1", "a section that only an override made"
    assert document.where(("z",)) == "f"
    assert document.where(()) == "f"


PLAIN = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "))
SCALARS = PLAIN | st.booleans() | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3)))
@example("3e-4")
@example("089")
@example("24:00:00")
@example("y")
def test_what_is_dumped_is_read_back_equal(value: object):
    assert parse_document(dump_document({"value": value}), name="f").data == {"value": value}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


def test_aliases_that_repeat_each_other_are_refused_before_they_fill_the_memory():
    with pytest.raises(SpecError, match=r"^bomb\.yaml: more than 50,000 values"):
        parse_document(BOMB, name="bomb.yaml")


@pytest.mark.parametrize(
    "digits", ["1" * 200_000, "0x" + "1" * 200_000, "-1." + "1" * 200_000, "1_" * 99_999 + "1"]
)
def test_a_number_of_many_digits_is_refused_in_a_short_line(digits: str):
    document = parse_document(f"steps: {digits}\n", name="a.yaml")
    (problem,) = document.problems
    assert "characters" in problem.what
    assert len(str(problem)) < 200


def test_what_is_long_is_shown_in_part():
    class Short(StrictModel):
        kind: Literal["a", "b"]
        name: Annotated[str, StringConstraints(max_length=9)]

    document = parse_document(f"kind: {'k' * 9000}\nname: {'n' * 9000}\n{'x' * 900}: 1\n", name="a.yaml")
    with pytest.raises(SpecError) as caught:
        validate(Short, document)
    assert all(len(line) < 300 for line in caught.value.message.splitlines())
    assert len(caught.value.message.splitlines()) == 3


def test_a_file_of_megabytes_is_no_spec(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("# " + "k" * (1 << 20) + "\nname: a\n")
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load_document(tmp_path / "data.yaml")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_a_file_without_anything_is_empty_unless_it_may_be(text: str) -> None:
    with pytest.raises(SpecError, match=r"^job\.yaml: empty: write 'key: value' lines$"):
        parse_document(text, name="job.yaml")
    assert parse_document(text, name="config.yaml", may_be_empty=True).data == {}


@pytest.mark.parametrize("text", [">a b\nMKVL\n", "\n>1\nMKVLAA\nGGG", ">a: b\nMKV*\n"])
def test_a_fasta_file_is_told_so(text: str):
    with pytest.raises(SpecError, match=r"p\.yaml: this is a FASTA file, not YAML") as caught:
        parse_document(text, name="p.yaml")
    assert "sedd data build" in caught.value.hint


def test_a_token_store_is_told_so(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(SpecError, match="this is a token store, not a spec") as caught:
        load_document(tmp_path)
    assert f"data: {{store: {tmp_path}}}" in caught.value.hint
