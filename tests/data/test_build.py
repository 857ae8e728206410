import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from proteins import made_up_proteins, write_fasta

from sedd.data import assemble, build, clusters, sources
from sedd.data.alphabet import decode
from sedd.data.build import BuildResult, build_store
from sedd.data.encode import TALLY
from sedd.data.manifest import read_manifest
from sedd.data.store import TokenStore
from sedd.errors import DataError, DiskFullError
from sedd.spec.build import BuildOptions

OPTIONS = BuildOptions(validation_fraction=0.2)
QUICKSTART = Path(__file__).parents[2] / "jobs" / "data"


def _sequences(path: Path, split: str) -> list[str]:
    of = TokenStore.open(path).split(split)
    return [decode(of.tokens(i)) for i in range(of.sequences)]


def _all(path: Path) -> Counter[str]:
    return Counter(_sequences(path, "train") + _sequences(path, "validation"))


def _left_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_store_holds_the_sequences_of_its_input_in_order(tmp_path: Path):
    proteins = made_up_proteins(500)
    result = build_store([write_fasta(tmp_path / "a.fasta", proteins)], tmp_path / "store")
    train, validation = (_sequences(tmp_path / "store", split) for split in ("train", "validation"))
    assert Counter(train + validation) == Counter(proteins)
    assert train == [p for p in proteins if p in set(train)]
    assert not result.reused
    assert _left_in(tmp_path) == ["a.fasta", "store"]


def test_plain_and_gzip_give_the_same_sequences(tmp_path: Path):
    plain = write_fasta(tmp_path / "a.fasta", made_up_proteins(3000))
    (tmp_path / "a.fasta.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("a.fasta", "a.fasta.gz"):
        build_store([tmp_path / name], tmp_path / f"store of {name}")
    for split in ("train", "validation"):
        one, other = (
            Counter(_sequences(tmp_path / f"store of {n}", split)) for n in ("a.fasta", "a.fasta.gz")
        )
        assert one == other


def test_the_split_does_not_depend_on_file_order_or_on_what_else_is_there(tmp_path: Path):
    proteins = made_up_proteins(600)
    one = write_fasta(tmp_path / "one.fasta", proteins[:300])
    other = write_fasta(tmp_path / "other.fasta", proteins[300:])
    build_store([one, other], tmp_path / "both")
    build_store([other, one], tmp_path / "swapped")
    build_store([one], tmp_path / "alone")
    validation = [set(_sequences(tmp_path / name, "validation")) for name in ("both", "swapped", "alone")]
    assert validation[0] == validation[1]
    assert validation[2] == validation[0] & set(proteins[:300])


def test_validation_has_about_its_fraction(tmp_path: Path):
    proteins = made_up_proteins(4000)
    fasta = write_fasta(tmp_path / "a.fasta", proteins)
    build_store([fasta], tmp_path / "store", BuildOptions(validation_fraction=0.2))
    assert 0.17 < len(_sequences(tmp_path / "store", "validation")) / len(proteins) < 0.23


def test_duplicates_are_dropped_wherever_they_are(tmp_path: Path):
    proteins = made_up_proteins(400)
    one = write_fasta(tmp_path / "one.fasta", proteins[:300] + proteins[:7])
    other = write_fasta(tmp_path / "other.fasta", proteins[200:])
    result = build_store([one, other], tmp_path / "store", BuildOptions(validation_fraction=0.5))
    assert _all(tmp_path / "store") == Counter(proteins)
    assert result.manifest.tally["duplicates"] == 107
    assert sum(split.residues for split in result.manifest.splits.values()) == sum(map(len, proteins))
    letters = Counter("".join(proteins))
    composition = [
        sum(c) for c in zip(*(s.composition for s in result.manifest.splits.values()), strict=True)
    ]
    assert {letter: composition[i] for i, letter in enumerate("LAGV", start=4)} == {
        x: letters[x] for x in "LAGV"
    }


def test_duplicates_are_kept_on_request_and_fall_on_one_side(tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(200) * 2)
    build_store([fasta], tmp_path / "store", BuildOptions(keep_duplicates=True, validation_fraction=0.5))
    assert set(_all(tmp_path / "store").values()) == {2}
    assert not set(_sequences(tmp_path / "store", "train")) & set(
        _sequences(tmp_path / "store", "validation")
    )


def test_clusters_stay_on_one_side(tmp_path: Path):
    options = BuildOptions(clusters=QUICKSTART / "uniprot2k_clusters.tsv", validation_fraction=0.3)
    fasta = QUICKSTART / "uniprot2k.fasta.gz"
    build_store([fasta], tmp_path / "store", options)
    pairs = (line.split("\t") for line in (QUICKSTART / "uniprot2k_clusters.tsv").read_text().splitlines())
    cluster_of = {member: representative for representative, member in pairs}
    clusters: dict[str, set[str]] = {"train": set(), "validation": set()}
    side = {s: split for split in clusters for s in _sequences(tmp_path / "store", split)}
    for record in gzip.decompress(fasta.read_bytes()).decode()[1:].split("\n>"):
        header, _, body = record.partition("\n")
        clusters[side[body.replace("\n", "")]].add(cluster_of[header.split("|")[1]])
    assert all(len(found) > 300 for found in clusters.values())
    assert not clusters["train"] & clusters["validation"]


def _families(tmp_path: Path, name: str, count: int = 40) -> tuple[Path, Path]:
    """Families of five different proteins under headers such as `name.format(0)`, and their table."""
    fasta, table = tmp_path / "families.fasta", tmp_path / "families.tsv"
    proteins = made_up_proteins(count)
    members = [
        (f, name.format(5 * f + n), p[:-1] + "ACDEF"[n]) for f, p in enumerate(proteins) for n in range(5)
    ]
    fasta.write_text("".join(f">{name} partial=00\n{protein}\n" for _, name, protein in members))
    table.write_text("".join(f"{name.format(5 * family)}\t{member}\n" for family, member, _ in members))
    return fasta, table


@pytest.mark.parametrize(
    "name",
    [
        "sample{0}|contig_49|orf_{0}",
        "sample0|contig_{}|orf_0",
        "NCBI|Ecoli|gene_{}",
        "gnl|db{}|1",
        "tr|A{}|B",
    ],
)
def test_families_stay_on_one_side_whatever_bars_their_headers_hold(name: str, tmp_path: Path):
    fasta, table = _families(tmp_path, name)
    options = BuildOptions(clusters=table, validation_fraction=0.3)
    assert build_store([fasta], tmp_path / "store", options).manifest.notes == ()
    sides = [{s[:-1] for s in _sequences(tmp_path / "store", split)} for split in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert min(map(len, sides)) >= 5


def test_a_table_that_fits_badly_is_told_with_shares(tmp_path: Path):
    fasta, table = _families(tmp_path, "P{}")
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:160]) + "".join(f"Q1\tQ{n}\n" for n in range(40)))
    options = BuildOptions(clusters=table, validation_fraction=0.3)
    assert build_store([fasta], tmp_path / "store", options).manifest.notes == (
        "40 of 200 (20%) sequences are not in the cluster table, and were split without it",
        "40 of 200 (20%) members of the cluster table are the name of no sequence",
    )


def test_headers_that_share_a_name_are_refused(tmp_path: Path):
    fasta, table = _families(tmp_path, "protein {}")
    table.write_text("protein\tprotein\n")
    with pytest.raises(DataError, match="cannot tell the sequences apart: 200 of them share 1 name"):
        build_store([fasta], tmp_path / "store", BuildOptions(clusters=table))


def test_one_family_is_one_side_and_that_is_told(tmp_path: Path):
    fasta, table = _families(tmp_path, "P{}", count=1)
    made = build_store([fasta], tmp_path / "store", BuildOptions(clusters=table, validation_fraction=0.3))
    assert len(made.manifest.notes) == 1
    assert made.manifest.notes[0] in ("the validation split is empty", "the train split is empty")


def test_lines_of_words_are_told_with_the_first(tmp_path: Path):
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">a\nMKVLA\nsome words here\n>b\nand here also\nMKV\n")
    made = build_store([fasta], tmp_path / "store", BuildOptions(validation_fraction=0))
    assert made.manifest.notes == (
        f"2 lines of words read as residues, the first: 'some words here' in {fasta}",
    )


def test_one_line_of_words_is_told_in_the_singular(tmp_path: Path):
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">a\nMKVLA\nsome words here\n")
    made = build_store([fasta], tmp_path / "store", BuildOptions(validation_fraction=0))
    assert made.manifest.notes[0].startswith("1 line of words read as residues, the first: 'some words")


def test_a_cluster_table_of_other_proteins_is_refused(tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(10))
    table = tmp_path / "clusters.tsv"
    table.write_text("Q1\tQ1\nQ1\tQ2\n")
    with pytest.raises(DataError, match="names none of the sequences"):
        build_store([fasta], tmp_path / "store", BuildOptions(clusters=table))


@pytest.mark.parametrize("order", ["as written", "sorted", "shuffled"])
def test_a_table_with_its_columns_swapped_is_told_so_and_the_hint_mends_it(order: str, tmp_path: Path):
    """Else each member would be a cluster of its own, and relatives on both sides."""
    fasta, table = _families(tmp_path, "P{}")
    good = table.read_text().splitlines()
    swapped = ["\t".join(reversed(line.split("\t"))) for line in good]
    match order:
        case "sorted":
            swapped.sort()
        case "shuffled":
            random.Random(1).shuffle(swapped)
    swapped.insert(3, swapped[0])  # a line that is there twice does not hide it
    table.write_text("".join(f"{line}\n" for line in swapped))
    with pytest.raises(DataError, match=r"families.tsv: its columns look swapped: names are repeated") as e:
        build_store([fasta], tmp_path / "store", BuildOptions(clusters=table))
    subprocess.run(["bash", "-c", (e.value.hint or "").partition(": ")[2]], check=True)
    turned = tmp_path / "families_turned.tsv"
    assert set(turned.read_text().splitlines()) == set(good)
    build_store([fasta], tmp_path / "store", BuildOptions(clusters=turned, validation_fraction=0.3))


def test_members_that_are_named_again_beside_their_representative_are_not_swapped(tmp_path: Path):
    fasta, table = _families(tmp_path, "P{}")
    text = table.read_text()
    table.write_text(text + "".join(text.splitlines(keepends=True)[:20]))
    build_store([fasta], tmp_path / "store", BuildOptions(clusters=table, validation_fraction=0.3))


def test_of_a_large_table_some_names_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clusters, "_COUNTED_BYTES", 1 << 10)
    (tmp_path / "t").write_text("".join(f"P{n // 4}\tP{n}\n" for n in range(4000)))
    first, second = clusters.count_repeats(tmp_path / "t")
    assert 0 < first < 1000
    assert second == 0


@pytest.mark.parametrize("content", ["", "P1 P2\n", "P1\tP2\tP3\n"])
def test_a_table_that_is_none_is_refused(content: str, tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(10))
    table = tmp_path / "clusters.tsv"
    table.write_text(content)
    with pytest.raises(DataError, match=r"clusters.tsv"):
        build_store([fasta], tmp_path / "store", BuildOptions(clusters=table))


def test_limit_takes_the_first_and_sample_takes_any(tmp_path: Path):
    proteins = made_up_proteins(1000)
    fasta = write_fasta(tmp_path / "a.fasta", proteins)
    build_store([fasta], tmp_path / "first", BuildOptions(limit=70))
    build_store([fasta], tmp_path / "any", BuildOptions(sample=70))
    build_store([fasta], tmp_path / "more", BuildOptions(sample=200))
    build_store([fasta], tmp_path / "other", BuildOptions(sample=70, sample_seed=1))
    first, some, more, other = (_all(tmp_path / name) for name in ("first", "any", "more", "other"))
    assert set(first) == set(proteins[:70])
    assert (len(some), len(more)) == (70, 200)
    assert set(some) < set(more) < set(proteins)
    assert set(some) != set(other)
    build_store([fasta, fasta], tmp_path / "both", BuildOptions(limit=70, sample=20, max_length=200))
    manifest = read_manifest(tmp_path / "both")
    dropped = sum(count for name, count in manifest.tally.items() if TALLY[name].startswith("dropped"))
    kept = sum(split.sequences for split in manifest.splits.values())
    assert (kept, manifest.tally["records"] - dropped) == (20, 20)


def test_shards_and_offsets_are_what_numpy_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lines of sedd/data/README.md, on a store of several shards."""
    readme = (Path(build.__file__).parent / "README.md").read_text(encoding="utf-8")
    lines = readme.split("```python\n")[1].split("```")[0]
    proteins = made_up_proteins(300)
    parts = [write_fasta(tmp_path / f"{i}.fasta", proteins[i * 50 : (i + 1) * 50]) for i in range(6)]
    build_store(parts, tmp_path / "STORE", BuildOptions(validation_fraction=0))
    assert len(list((tmp_path / "STORE" / "train").glob("tokens-*.npy"))) == 6
    monkeypatch.chdir(tmp_path)
    for i in (0, 17, 100, len(proteins) - 1):
        names: dict[str, object] = {"i": i}
        exec(lines, names)
        assert decode(names["sequence"]) == proteins[i]


def test_the_same_again_is_reused(tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(50))
    build_store([fasta], tmp_path / "store")
    before = (tmp_path / "store" / "manifest.json").stat().st_mtime_ns
    (tmp_path / "moved").mkdir()
    assert build_store([fasta.rename(tmp_path / "moved" / "b.fasta")], tmp_path / "store").reused
    assert (tmp_path / "store" / "manifest.json").stat().st_mtime_ns == before


def test_other_content_or_options_need_force(tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(50))
    build_store([fasta], tmp_path / "store")
    with pytest.raises(DataError, match=r"other options \(min_length\)") as raised:
        build_store([fasta], tmp_path / "store", BuildOptions(min_length=2))
    assert "--force" in str(raised.value.hint)
    first = fasta.read_text().split()[0].removeprefix(">")
    (tmp_path / "families.tsv").write_text(f"id\tfamily\n{first}\tkinase\n")
    build_store([fasta], tmp_path / "labelled", BuildOptions(labels=tmp_path / "families.tsv"))
    with pytest.raises(DataError, match=r"other options \(labels, label_numbers\)"):
        build_store([fasta], tmp_path / "labelled")
    content = fasta.read_bytes()
    fasta.write_bytes(content[:-2] + b"W\n" if content[-2:-1] != b"W" else content[:-2] + b"Y\n")
    with pytest.raises(DataError, match="other input"):
        build_store([fasta], tmp_path / "store")
    assert not build_store([fasta], tmp_path / "store", force=True).reused
    assert _left_in(tmp_path) == ["a.fasta", "families.tsv", "labelled", "store"]


def test_what_is_no_store_is_never_replaced(tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(5))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(DataError, match="is not a token store"):
        build_store([fasta], tmp_path / "thesis", force=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"


DNA = ">chr1\n" + "GATTACACCTGGA" * 100 + "\n"
UNUSABLE = {
    "no file": (None, "does not exist"),
    "empty": ("", "is empty"),
    "headers alone": (">a\n>b\n", "none of the 2 records is left: 2 dropped: a header without sequence"),
    "nucleotides": (DNA, "nucleotides"),
    "digits": (">a\n1 MKV 4\n", "'1' in the sequence of 'a'"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_bad_input_leaves_nothing_behind(name: str, tmp_path: Path):
    content, message = UNUSABLE[name]
    good = write_fasta(tmp_path / "good.fasta", made_up_proteins(5)) if name != "headers alone" else None
    bad = tmp_path / "bad.fasta"
    if content is not None:
        bad.write_text(content)
    before = _left_in(tmp_path)
    with pytest.raises(DataError, match=message):
        build_store([path for path in (good, bad) if path], tmp_path / "store")
    assert _left_in(tmp_path) == before


def test_bad_input_leaves_an_older_store_as_it_was(tmp_path: Path):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(5))
    build_store([fasta], tmp_path / "store")
    bad = tmp_path / "bad.fasta"
    bad.write_text(DNA)
    with pytest.raises(DataError):
        build_store([bad], tmp_path / "store", force=True)
    assert build_store([fasta], tmp_path / "store").reused


def _digest(store: Path) -> str:
    files = sorted(file for file in store.rglob("*.npy"))
    return hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files)).hexdigest()


@pytest.fixture
def several_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files, but built by as many processes and in as many spans as large ones."""
    monkeypatch.setattr(build, "_WORTH_PROCESSES_BYTES", 0)
    whole = sources.spans
    monkeypatch.setattr(sources, "spans", lambda path: whole(path, span_bytes=100_000))


def test_content_does_not_depend_on_the_number_of_processes(tmp_path: Path, several_sources: None):
    plain = write_fasta(tmp_path / "a.fasta", made_up_proteins(2000, seed=1))
    packed = tmp_path / "b.fasta.gz"
    packed.write_bytes(
        gzip.compress(write_fasta(tmp_path / "b", made_up_proteins(5000, seed=2)).read_bytes())
    )
    for workers in (1, 2, 3, 5):
        build_store([packed, plain, packed], tmp_path / f"{workers}", workers=workers)
    assert len(list((tmp_path / "1" / "train").glob("tokens-*"))) > 3
    assert len({_digest(tmp_path / f"{workers}") for workers in (1, 2, 3, 5)}) == 1


def test_an_error_in_one_process_ends_all_and_is_the_users(tmp_path: Path, several_sources: None):
    good = write_fasta(tmp_path / "a.fasta", made_up_proteins(2000))
    bad = tmp_path / "b.fasta"
    bad.write_text(DNA)
    with pytest.raises(DataError, match="nucleotides") as raised:
        build_store([good, bad], tmp_path / "store", workers=2)
    assert raised.value.hint == "translate it first"
    assert _left_in(tmp_path) == ["a.fasta", "b.fasta"]


@pytest.mark.parametrize("workers", [2, 4])
def test_an_error_in_the_middle_of_a_gzip_file_stops_who_inflates_it(
    workers: int, tmp_path: Path, several_sources: None
):
    """More follows than the pipes between the processes hold."""
    around = b"".join(b">%d\n%b\n" % (i, b"MKVLAWQTRDEFG" * 40) for i in range(8000))
    packed = tmp_path / "a.fasta.gz"
    packed.write_bytes(gzip.compress(around + b">bad\nMK5\n" + around + around, 1))
    good = write_fasta(tmp_path / "b.fasta", made_up_proteins(2000))
    for inputs in ([packed, good], [good, packed]):
        with pytest.raises(DataError, match="'5' in the sequence of 'bad'"):
            build_store(inputs, tmp_path / "store", workers=workers)
    assert _left_in(tmp_path) == ["a.fasta.gz", "b.fasta"]


ENDLESS = """
    import sys, time
    from pathlib import Path
    from sedd.data import build, sources

    def slowly(count):
        print("reading", flush=True)
        time.sleep(0.2)

    build.build_store([Path("a.fasta")], Path("store"), progress=slowly)
"""


def _start_endless(folder: Path) -> subprocess.Popen[str]:
    write_fasta(folder / "a.fasta", made_up_proteins(9000))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENDLESS)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    return process


def test_an_interrupt_leaves_nothing(tmp_path: Path):
    process = _start_endless(tmp_path)
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert _left_in(tmp_path) == ["a.fasta"]


def test_what_a_killed_build_left_is_no_store_and_goes_with_the_next(tmp_path: Path):
    process = _start_endless(tmp_path)
    process.kill()
    process.wait(20)
    assert [name.startswith(".store.building-") for name in _left_in(tmp_path)] == [True, False]
    build_store([tmp_path / "a.fasta"], tmp_path / "store")
    assert _left_in(tmp_path) == ["a.fasta", "store"]


def test_a_running_build_is_left_alone_by_another(tmp_path: Path):
    process = _start_endless(tmp_path)
    build_store([tmp_path / "a.fasta"], tmp_path / "store")
    beside = _left_in(tmp_path)
    process.kill()
    process.wait(20)
    assert [name.startswith(".store.building-") for name in beside] == [True, False, False]
    assert beside[1:] == ["a.fasta", "store"]


@pytest.mark.parametrize("is_same", [True, False])
def test_of_two_builds_at_once_the_first_counts(tmp_path: Path, is_same: bool):
    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(50))
    first = build_store([fasta], tmp_path / "first", OPTIONS if is_same else None, workers=1)

    def progress(count: int) -> None:
        """Another's has taken the name meanwhile."""
        if first.path.exists():
            first.path.rename(tmp_path / "store")

    def second() -> BuildResult:
        return build_store([fasta], tmp_path / "store", OPTIONS, workers=1, progress=progress)

    if is_same:
        assert second().reused
    else:
        with pytest.raises(DataError, match="appeared while it was being built"):
            second()
    assert read_manifest(tmp_path / "store") == first.manifest
    assert _left_in(tmp_path) == ["a.fasta", "store"]


class StoppedError(Exception):
    pass


def test_a_build_can_be_stopped_when_all_is_read_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The rest takes longer for 60 million sequences than SLURM waits before it kills."""
    read = []
    monkeypatch.setattr(build, "_require_sequences", lambda *_: read.append(True))

    def progress(count: int) -> None:
        if read:
            raise StoppedError

    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(50))
    with pytest.raises(StoppedError):
        build_store([fasta], tmp_path / "store", progress=progress)
    assert _left_in(tmp_path) == ["a.fasta"]


def test_duplicates_are_dropped_piece_by_piece_as_they_are_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    proteins = made_up_proteins(500)
    fasta = write_fasta(tmp_path / "a.fasta", proteins[:400] + proteins[100:])
    build_store([fasta], tmp_path / "at once")
    monkeypatch.setattr(assemble, "_COPY_RESIDUES", 1000)
    monkeypatch.setattr(assemble, "_COPY_SEQUENCES", 7)
    build_store([fasta], tmp_path / "in pieces")
    assert _all(tmp_path / "in pieces") == Counter(proteins)
    assert _digest(tmp_path / "in pieces") == _digest(tmp_path / "at once")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device", "tokens-00000.npy")

    fasta = write_fasta(tmp_path / "a.fasta", made_up_proteins(50))
    monkeypatch.setattr("sedd.data.files.NpyWriter.write", no_space)
    with pytest.raises(DiskFullError, match="no space left on device"):
        build_store([fasta], tmp_path / "store")
    assert _left_in(tmp_path) == ["a.fasta"]
