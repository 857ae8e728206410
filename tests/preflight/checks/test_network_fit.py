"""Whether a trained network can do what is asked of it, before a job waits for a node that finds out."""

from pathlib import Path
from typing import Any

import pytest

from sedd.cluster.profile import LocalProfile
from sedd.preflight.checks.network_fit import Facts, gather, judge
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Status, Verdict
from sedd.spec.task import TaskSpec
from sedd.spec.tasks import TASKS
from tests.inference.networks import MAX_LENGTH, write_small_checkpoint

PROTEIN = "MKTAYIAKQRQISFVKSHFSRQ"


@pytest.fixture
def judged(tmp_path: Path):
    """What the check says of a task of a network with two blocks; None where there is nothing to look at."""
    network = write_small_checkpoint(tmp_path / "small.pt")
    (tmp_path / "p.fasta").write_text(f">a\n{PROTEIN}\n")

    def judged(task: str, **asked: Any) -> Verdict | None:
        section = {
            "network": network,
            **({} if task == "sample" else {"fasta": [tmp_path / "p.fasta"]}),
            **asked,
        }
        spec: TaskSpec = TASKS[task].model_validate({"name": "t", "task": task, task: section})
        context = CheckContext(
            side=Side.LOGIN,
            experiment=spec,
            profile=LocalProfile(executor="local"),
            folder=tmp_path,
            environ={},
        )
        facts = gather(context)
        return judge(facts) if facts is not None else None

    return judged


@pytest.mark.parametrize("count", [MAX_LENGTH, MAX_LENGTH + 1])
def test_no_sample_may_be_longer_than_what_the_network_was_trained_on(
    judged, tmp_path: Path, count: int
) -> None:
    (tmp_path / "wt.fasta").write_text(f">wt\n{'M' * count}\n")
    (tmp_path / "t.fasta").write_text(f">t\n{'M' * (count - 3)}{{1-3}}_\n")
    ways = (
        {"length": count},
        {"length": (1, count)},
        {"template": [f"{{{count}}}_"]},
        {"infill": tmp_path / "t.fasta"},
        {"redesign": {"parent": tmp_path / "wt.fasta", "noise": 0.3}},
    )
    for way in ways:
        found = judged("sample", **way)
        if count == MAX_LENGTH:
            assert found.status is Status.OK, way
        else:
            assert (found.status, f"up to {count} residues" in found.saw) == (Status.FAIL, True), way
    assert judged("sample") is None, "lengths as in the training data"


@pytest.mark.parametrize(("layer", "status"), [(-3, "OK"), (2, "OK"), (3, "FAIL"), (-4, "FAIL")])
def test_a_layer_is_one_that_the_network_has(judged, layer: int, status: str) -> None:
    found = judged("embed", layers=[0, layer])
    assert found.status.value == status
    assert status == "OK" or found.saw == f"there is no layer {layer}: 0 is the embedding, 2 the last block"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f">d\n{'ACGT' * 30}\n", "holds nucleotides, not proteins"),
        (">j\nMKJ1\n", "'j'"),
        (">a\n\n>b\n---\n", "no record holds a residue"),
    ],
)
@pytest.mark.parametrize("task", ["evaluate", "embed"])
def test_a_file_that_holds_no_proteins_is_told(
    judged, tmp_path: Path, task: str, text: str, told: str
) -> None:
    (tmp_path / "other.fasta").write_text(text)
    found = judged(task, fasta=[tmp_path / "p.fasta", tmp_path / "other.fasta"])
    if "no record" in told:
        assert found.saw == "1 protein read"
        found = judged(task, fasta=[tmp_path / "other.fasta"])
    assert (found.status, told in found.saw) == (Status.FAIL, True)


def test_what_another_check_finds_is_not_told_twice(judged, tmp_path: Path) -> None:
    assert judged("sample", network=tmp_path / "nowhere", length=10**6) is None
    assert judged("embed", fasta=[tmp_path / "nowhere.fasta"]) is None
    assert judged("sample", template=["MK{3-1}_"]) is None


def test_a_guide_must_be_found_where_the_python_of_the_node_is_this_one(judged) -> None:
    assert judged("sample", length=5, guide="tests.conditions.charge_guide:make=KR").status is Status.OK
    for guide, told in (
        ("no_such_module:make=1", "no module no_such_module"),
        ("soluble=1", "no installed package"),
    ):
        found = judged("sample", guide=guide)
        assert (found.status, told in found.saw) == (Status.FAIL, True)
    assert judge(Facts(asked="", missing_guide="x", is_same_python=False)).status is Status.WARN
