"""What a data task cannot be built from."""

import errno
import re
import shutil
from pathlib import Path

import pytest

from sedd.cluster.profile import LocalProfile
from sedd.data.build import build_store
from sedd.data.reuse import recorded_options
from sedd.errors import DataError
from sedd.preflight.checks import build_inputs
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Fault, Status
from sedd.spec.build import BuildOptions, DataTask


def look_at_build(folder, build):
    task = DataTask.model_validate({"name": "d", "task": "data", "build": build})
    context = CheckContext(
        side=Side.LOGIN, experiment=task, profile=LocalProfile(executor="local"), folder=folder, environ={}
    )
    return build_inputs.judge(build_inputs.gather(context))


@pytest.mark.parametrize(
    ("asked", "saw"),
    [
        ({}, None),
        ({"limit": 50}, "built with other options (limit)"),
        ({"inputs": ["q.fasta"]}, "built from other input"),
        ({"store": "q.fasta"}, "is not a token store"),
        ({"labels": "labels.tsv"}, "labels.tsv does not exist"),
        ({"onto": "before.store"}, "before.store does not exist"),
        ({"store": "new.store"}, None),
    ],
)
def test_what_a_build_would_refuse_is_told_before_the_queue(built_store, tmp_path, asked, saw):
    """READY, said preflight, and the job gave up at once."""
    (tmp_path / "q.fasta").write_text(">a\nMK\n")
    there = {
        key: [tmp_path / each for each in value] if key == "inputs" else value for key, value in asked.items()
    }
    there |= {key: tmp_path / there[key] for key in ("store", "labels", "onto") if key in there}
    verdict = look_at_build(
        tmp_path, {"inputs": [built_store.with_suffix(".fasta")], "store": built_store} | there
    )
    assert verdict.status is (Status.FAIL if saw else Status.OK), verdict.saw
    assert (saw or "1 input of") in verdict.saw


@pytest.fixture(scope="module")
def folder_of_stores(built_store, tmp_path_factory):
    """Stores without tables, with clusters, and with labels of which one is a number; and tables for others."""
    folder = tmp_path_factory.mktemp("stores")
    names = [f"p{number}" for number in range(200)]
    shutil.copyfile(built_store.with_suffix(".fasta"), folder / "p.fasta")
    tables = {
        "clusters.tsv": "".join(f"{name}\t{name}\n" for name in names),
        "labels.tsv": "id\tec\ttemp\n" + "".join(f"{name}\ta\t3\n" for name in names),
        "other.tsv": "id\tec\n" + "".join(f"{name}\ta\n" for name in names),
        "labels.csv": "id,ec\np1,a\n",
        "clusters.csv": "p1,p1\n",
    }
    for name, text in tables.items():
        (folder / name).write_text(text)
    labels = {"labels": folder / "labels.tsv", "label_numbers": ("temp",)}
    for store, tables in (
        ("bare", {}),
        ("clustered", {"clusters": folder / "clusters.tsv"}),
        ("labelled", labels),
    ):
        build_store([folder / "p.fasta"], folder / store, BuildOptions(**tables), workers=1)
    return folder


@pytest.mark.parametrize(
    ("asked", "saw"),
    [
        ({"onto": "bare"}, None),
        ({"onto": "clustered"}, "one has clusters and the other has none"),
        ({"onto": "bare", "clusters": "clusters.tsv"}, "one has clusters and the other has none"),
        ({"onto": "clustered", "clusters": "clusters.tsv"}, None),
        ({"onto": "labelled"}, "one has labels and the other has none"),
        ({"onto": "bare", "min_length": 9}, "was built with min_length=1"),
        ({"onto": "labelled", "labels": "labels.tsv"}, "has other fields than the store that is added to"),
        ({"onto": "labelled", "labels": "other.tsv"}, "has other fields than the store that is added to"),
        ({"onto": "labelled", "labels": "labels.tsv", "label_numbers": ["temp"]}, None),
        (
            {"labels": "labels.tsv", "label_numbers": ["nosuch"]},
            "has no column 'nosuch' of numbers: it has ec, temp",
        ),
        ({"labels": "labels.csv"}, "only one column: 'id,ec'"),
        ({"labels": "bare"}, "bare is not a file"),
        ({"clusters": "clusters.csv"}, "clusters.csv:1: not two tab-separated columns"),
        ({"clusters": "labels.tsv"}, "labels.tsv:1: not two tab-separated columns"),
    ],
)
def test_tables_that_do_not_fit_are_refused_before_anything_is_read_whole(
    folder_of_stores, tmp_path, monkeypatch, asked, saw
):
    monkeypatch.setitem(recorded_options.__kwdefaults__, "checksum", None)
    there = {key: folder_of_stores / value for key, value in asked.items() if isinstance(value, str)}
    build = {"inputs": [folder_of_stores / "p.fasta"], "store": tmp_path / "new"} | asked | there
    verdict = look_at_build(tmp_path, build)
    assert verdict.status is (Status.FAIL if saw else Status.OK), verdict.saw
    assert (saw or "1 input of") in verdict.saw
    if saw and "is not a file" not in saw:
        assert verdict.fault is Fault.JOB
        with pytest.raises(DataError, match=re.escape(saw)):
            build_store(build["inputs"], tmp_path / "new", BuildOptions(**asked | there), workers=1)


def test_a_cluster_table_that_cannot_be_read_now_may_be_read_later(folder_of_stores, tmp_path, monkeypatch):
    def fail(self, mode):
        raise OSError(errno.EIO, "Input/output error")

    table = folder_of_stores / "clusters.tsv"
    monkeypatch.setattr("sedd.data.first_look.require_text", lambda path: None)
    monkeypatch.setattr(Path, "open", fail)
    verdict = look_at_build(
        tmp_path, {"inputs": [folder_of_stores / "p.fasta"], "store": tmp_path / "new", "clusters": table}
    )
    assert (verdict.saw, verdict.fault) == (f"{table} cannot be read: Input/output error", None)
