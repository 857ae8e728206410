import bz2
import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sedd.data.fasta import BLOCK_BYTES, SpanReader, first_word, is_gzip, read_blocks, require_readable, spans
from sedd.errors import DataError, MissingDataError

RECORDS = st.lists(
    st.tuples(st.text("abc|> =", max_size=12), st.lists(st.text("MKVLy*", max_size=70), max_size=5)),
    min_size=1,
)


def _read(path: Path, span_bytes: int = 1 << 28) -> list[bytes]:
    """All records, span by span."""
    records: list[bytes] = []
    for span in spans(path, span_bytes=span_bytes):
        with SpanReader(span, lambda count: None) as reader:
            for block in read_blocks(reader, path, gzipped=is_gzip(path)):
                assert block.startswith(b">")
                records += block[1:].removesuffix(b"\n").split(b"\n>")
    return records


@settings(deadline=None, max_examples=60)
@given(records=RECORDS, span_bytes=st.integers(1, 200), compressed=st.booleans())
def test_records_survive_any_cut_into_spans(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, list[str]]],
    span_bytes: int,
    compressed: bool,
):
    texts = ["\n".join([header, *lines]) for header, lines in records]
    content = ("".join(f">{text}\n" for text in texts)).encode()
    path = tmp_path_factory.mktemp("fasta") / "any.fasta"
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert b"\n>".join(_read(path, span_bytes)) == content[1:].removesuffix(b"\n")


def test_records_longer_than_a_block_stay_whole(tmp_path: Path):
    path = tmp_path / "long.fasta"
    path.write_text(">a\nMK\n>titin\n" + "MKVL\n" * 200_000 + ">b\nVV\n")
    names = [record.split(b"\n")[0] for record in _read(path)]
    assert names == [b"a", b"titin", b"b"]


def test_record_whose_start_is_a_pieces_start_begins_a_block(tmp_path: Path):
    path = tmp_path / "met.fasta"
    first = b">a\n" + b"M" * (BLOCK_BYTES - 4) + b"\n"
    second = b">b\n" + b"V" * (2 * BLOCK_BYTES) + b"\n"
    path.write_bytes(first + second)
    with SpanReader(spans(path)[0], lambda count: None) as reader:
        assert list(read_blocks(reader, path, gzipped=False)) == [first, second]


def test_several_gzip_members_are_one_file(tmp_path: Path):
    path = tmp_path / "members.gz"
    path.write_bytes(gzip.compress(b">a\nMK\n") + gzip.compress(b">b\nVL\n"))
    assert _read(path) == [b"a\nMK", b"b\nVL"]


def test_blank_lines_and_a_byte_order_mark_may_come_first(tmp_path: Path):
    path = tmp_path / "windows.fasta"
    path.write_bytes(b"\xef\xbb\xbf\r\n\r\n>a\r\nMK\r\n")
    assert _read(path) == [b"a\r\nMK\r"]


def _truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flipped(data: bytes) -> bytes:
    middle = len(data) - 6  # in the checksum at the end
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


LONG = b">a\n" + bytes((i * 7919 >> 3) % 20 + 65 for i in range(50_000)) + b"\n"
UNUSABLE = {
    "blank": (b"\n \n", "is empty"),
    "cut gzip": (_truncated(gzip.compress(LONG)), "is cut short"),
    "gzip with a flipped bit": (_flipped(gzip.compress(LONG)), "is damaged"),
    "half a gzip header": (gzip.compress(LONG)[:5], "is cut short"),
    "gzip of nothing": (gzip.compress(b""), "is empty"),
    "bzip2": (bz2.compress(LONG), "compressed"),
    "binary": (bytes(range(256)) * 10, "is binary"),
    "gzip of binary": (gzip.compress(bytes(range(256)) * 10), "is binary"),
    "a table": (b"name\tsequence\nP1\tMKV\n", "starts with 'name"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_files_are_told_apart_in_one_line(name: str, tmp_path: Path):
    content, message = UNUSABLE[name]
    path = tmp_path / "bad.fasta"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        _read(path)
    assert str(path) in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"tr|W0FSK4|W0FSK4_9FLAV Genome polyprotein", b"tr|W0FSK4|W0FSK4_9FLAV"),
        (b"UniRef50_A0A5A9P0L4 peptidylprolyl isomerase n=1", b"UniRef50_A0A5A9P0L4"),
        (b"P12345\r", b"P12345"),
        (b"", b""),
        (b"  ", b""),
    ],
)
def test_the_first_word_of_a_header_names_its_sequence(header: bytes, name: bytes):
    assert first_word(header) == name


@pytest.mark.parametrize("is_gzipped", [False, True])
def test_a_file_whose_lines_end_with_cr_alone_is_read(tmp_path: Path, is_gzipped: bool):
    records = b"".join(b">p%d some protein\rMKVLA\rMKV\r" % n for n in range(40_000))
    assert len(records) > BLOCK_BYTES
    path = tmp_path / "mac.fasta"
    path.write_bytes(gzip.compress(records) if is_gzipped else records)
    other = tmp_path / "other.fasta"
    other.write_bytes(records.replace(b"\r", b"\n"))
    assert _read(path) == _read(other)
    assert len(_read(path)) == 40_000


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("-", "cannot read standard input (-)", "give a file"),
        ("full", "full is a folder, not a file", "give the FASTA files in it: full/*.faa.gz"),
        ("empty", "empty is a folder, not a file", "give a file in it"),
        ("pipe", "pipe is not a file: input is read more than once, which a pipe does not allow", None),
        ("gone", "gone does not exist", None),
    ],
)
def test_what_is_no_file_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str, hint: str | None
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.faa.gz").touch()
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MissingDataError) as caught:
        require_readable(Path(name))
    assert caught.value.message == told
    assert hint in (caught.value.hint, None)


def test_a_file_that_is_called_like_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text(">a\nMKV\n")
    require_readable(Path("-"))
