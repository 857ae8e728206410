"""Labels in the store beside the conditions of the spec."""

from pathlib import Path

import pytest

from sedd.preflight.checks import data_store, labels
from sedd.preflight.finding import Status
from tests.conditions.made_up import build, proteins, write_table

OF = proteins(200)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = {name: ["abc"[n % 3], "1.5" if n == 0 else ""] for n, name in enumerate(OF)}
    table = write_table(tmp_path / "t.tsv", ["family", "heat"], rows)
    return build(tmp_path, "store", OF, labels=table, label_numbers=("heat",)).path


def look(make_context, store: Path, fields: dict):
    return labels.judge(
        labels.gather(make_context({"data.store": str(store), "model.conditions": {"fields": fields}}))
    )


def test_labels_that_fit_are_ok_and_told(make_context, labelled: Path):
    verdict = look(make_context, labelled, {"family": {"kind": "category", "values": 3}})
    assert verdict.status is Status.OK
    assert "family: 3 values" in verdict.saw


def test_without_conditions_the_question_does_not_arise(make_context, labelled: Path):
    assert labels.gather(make_context({"data.store": str(labelled)})) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"fam": {"kind": "number"}}, "names 'fam'"),
        ({"family": {"kind": "number"}}, "is a category"),
        ({"family": {"kind": "category", "values": 2}}, "has 3 values"),
    ],
)
def test_labels_that_do_not_fit_fail_with_the_field(make_context, labelled: Path, fields: dict, said: str):
    verdict = look(make_context, labelled, fields)
    assert verdict.status is Status.FAIL
    assert said in verdict.saw


def test_a_store_without_labels_fails_and_rare_ones_are_warned_of(
    make_context, labelled: Path, built_store: Path
):
    number = {"heat": {"kind": "number"}}
    assert "has no labels" in look(make_context, built_store, number).saw
    assert look(make_context, labelled, number).status in (
        Status.WARN,
        Status.FAIL,
    )  # one label: on either side


def test_a_changed_label_file_is_seen_before_training(make_context, labelled: Path):
    file = labelled / "train/label-family.npy"
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    file.write_bytes(content)
    verdict = data_store.judge(data_store.gather(make_context({"data.store": str(labelled)})))
    assert verdict.status is Status.FAIL
    assert "train/label-family.npy" in verdict.saw
