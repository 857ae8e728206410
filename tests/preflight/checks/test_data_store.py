"""Missing, truncated, swapped and too small data."""

import json
import shutil

import pytest

from sedd.preflight.checks import data_store
from sedd.preflight.finding import Status


def look(context):
    return data_store.judge(data_store.gather(context))


@pytest.fixture
def own_store(built_store, tmp_path):
    return shutil.copytree(built_store, tmp_path / "own.store")


def test_whole_store_is_ok_and_named_by_its_hash(make_context):
    verdict = look(make_context())
    assert verdict.status is Status.OK
    assert "checksums agree" in verdict.saw


def test_what_the_build_warned_of_is_told_before_training(make_context, own_store):
    manifest = own_store / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(
        json.dumps({**document, "notes": ["40 of 200 (20%) sequences are not in the cluster table"]})
    )
    verdict = look(make_context({"data.store": str(own_store)}))
    assert verdict.status is Status.WARN
    assert "40 of 200 (20%) sequences are not in the cluster table" in verdict.saw


def test_missing_store_says_how_to_make_it(make_context, tmp_path):
    verdict = look(make_context({"data.store": str(tmp_path / "none.store")}))
    assert verdict.status is Status.FAIL
    assert "does not exist" in verdict.saw
    assert "sedd data build" in verdict.hint


def test_truncated_file_is_seen_by_its_size(make_context, own_store):
    (shard,) = (own_store / "train").glob("tokens*.npy")
    shard.write_bytes(shard.read_bytes()[:-1])
    verdict = look(make_context({"data.store": str(own_store)}))
    assert verdict.status is Status.FAIL
    assert shard.name in verdict.saw


@pytest.mark.parametrize("file", ["tokens*.npy", "offsets.npy", "hashes.npy"])
def test_swapped_content_of_the_right_size_is_seen_by_its_checksum(make_context, own_store, file):
    (path,) = (own_store / "train").glob(file)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    verdict = look(make_context({"data.store": str(own_store)}))
    assert verdict.status is Status.FAIL
    assert f"train/{path.name}" in verdict.saw


def test_manifest_of_another_alphabet_fails(make_context, own_store):
    manifest = own_store / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"alphabet_hash": "', '"alphabet_hash": "0'))
    verdict = look(make_context({"data.store": str(own_store)}))
    assert verdict.status is Status.FAIL
    assert "alphabet" in verdict.saw


def test_fewer_residues_than_a_batch_fails(make_context):
    verdict = look(make_context({"training.residues_per_step": 51_200}))
    assert verdict.status is Status.FAIL
    assert "51,200 in one batch" in verdict.saw


def test_small_validation_set_is_a_warning(make_context):
    verdict = look(make_context({"training.validation.residues": 10**6}))
    assert verdict.status is Status.WARN


def test_other_processes_of_a_node_leave_the_store_to_the_first(make_context):
    assert data_store.gather(make_context(local_rank=1)) is None


def test_a_missing_uniref_store_beside_another_fasta_is_to_be_downloaded(make_context, built_store):
    verdict = look(make_context({"data.store": str(built_store.parent / "uniref50.store")}))
    assert "tools/fetch_uniref50.py" in verdict.hint
    assert "p.fasta" not in verdict.hint


def test_a_store_of_nearly_that_name_is_what_was_meant(make_context, built_store, tmp_path):
    (tmp_path / "mine50.store").symlink_to(built_store)
    meant = f"did you mean {tmp_path / 'mine50.store'}?"
    for wrong, is_near in (("mine50.stor", True), ("mien50.store", True), ("mine90.store", False)):
        verdict = look(make_context({"data.store": str(tmp_path / wrong)}))
        assert verdict.saw == f"{tmp_path / wrong} does not exist"
        assert (verdict.hint == meant) == is_near, verdict.hint


def test_of_several_fasta_files_the_one_of_the_stores_name_is_named(make_context, tmp_path):
    for name in ("a.fasta", "uniref50.fasta.gz"):
        (tmp_path / name).touch()
    verdict = look(make_context({"data.store": str(tmp_path / "uniref50.store")}))
    assert verdict.hint.startswith(f"make it with: sedd data build {tmp_path / 'uniref50.fasta.gz'} -o ")


def test_the_clusters_of_a_fasta_belong_to_the_command_that_builds_it(make_context, tmp_path):
    """Without them relatives would stand on both sides of the split."""
    for name in ("mine.fasta", "mine_clusters.tsv"):
        (tmp_path / name).touch()
    store, fasta, table = (tmp_path / name for name in ("mine.store", "mine.fasta", "mine_clusters.tsv"))
    verdict = look(make_context({"data.store": str(store)}))
    assert verdict.hint.endswith(f"build {fasta} --clusters {table} -o {store}")


def test_a_fasta_of_another_name_is_mentioned_but_not_taken_for_the_source(make_context, tmp_path):
    for name in ("uniprot2k.fasta.gz", "uniprot2k_clusters.tsv"):
        (tmp_path / name).touch()
    verdict = look(make_context({"data.store": str(tmp_path / "family.store")}))
    assert verdict.hint == (
        f"make it with: sedd data build proteins.fasta -o {tmp_path / 'family.store'}; "
        "in that folder is uniprot2k.fasta.gz, and uniprot2k_clusters.tsv for --clusters"
    )
