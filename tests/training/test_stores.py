"""A mixture of stores, copied to the node, trains as any store does: resumed to the same bits."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.data.build import build_store
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from tests.data.proteins import made_up_proteins, write_fasta
from tests.tiny import tiny_spec, train_process
from tests.training.test_resume import KILLED, assert_same_end

MakeRun = Callable[[Experiment], RunDir]


@pytest.fixture
def mixture(store: Path, tmp_path: Path) -> Callable[[str | None], Experiment]:
    source = write_fasta(tmp_path / "more.fasta", made_up_proteins(300))
    more = build_store([source], tmp_path / "more.store").path

    def mixture(stage: str | None) -> Experiment:
        spec = tiny_spec(store)
        mixed = {"stores": [str(more)], "temperature": 3.0}
        data = spec.data.model_dump(mode="json") | {"mixture": mixed, "stage": stage}
        return Experiment.model_validate(spec.model_dump(mode="json") | {"data": data})

    return mixture


def test_a_mixture_that_is_read_from_the_nodes_disk_resumes_to_the_same_bits(
    mixture: Callable[[str | None], Experiment], make_run: MakeRun, tmp_path: Path
) -> None:
    staged = mixture(str(tmp_path / "node"))
    whole, interrupted = make_run(staged), make_run(staged)
    assert train_process(whole) == 0
    assert len(list((tmp_path / "node").glob("*.store"))) == 2
    assert train_process(interrupted, end="kill:13") == KILLED
    assert train_process(interrupted, attempt=2) == 0
    assert_same_end(interrupted, whole)
    assert [event for event in read_events(interrupted.events) if event.event == "preflight"] == []


def test_where_nothing_can_be_copied_a_finding_says_so_and_training_goes_on(
    mixture: Callable[[str | None], Experiment], make_run: MakeRun
) -> None:
    run = make_run(mixture("$NO_SUCH_VARIABLE/here"))
    assert train_process(run) == 0
    findings = [
        finding
        for event in read_events(run.events)
        if event.event == "preflight"
        for finding in event.get("findings")
    ]
    assert [(finding["check"], finding["status"]) for finding in findings] == [("staging", "WARN")] * 2
    assert "does not have the variable" in findings[0]["saw"]
