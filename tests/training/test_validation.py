"""The fixed validation set in blocks: what two runs are compared by."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from sedd.data.store import TokenStore
from sedd.diffusion.likelihood import Bound
from sedd.rundir.layout import RunDir
from sedd.rundir.validation_rows import ValidationRow, read_validation_rows
from sedd.spec.experiment import Experiment
from sedd.training.loader import DeviceBatch, validation_set
from sedd.training.validation import BLOCKS, cut_into_blocks, perplexity
from tests.tiny import tiny_spec, train_process

MakeRun = Callable[[Experiment], RunDir]


def packed(lengths: Sequence[int], number: int = 0) -> DeviceBatch:
    edges = torch.tensor([0, *lengths]).cumsum(0)
    return DeviceBatch(number, torch.arange(int(edges[-1])) % 20, edges.int(), max(lengths))


def test_every_residue_is_in_one_block_and_no_protein_in_two() -> None:
    lengths = [5 + k % 7 for k in range(200)]
    blocks = cut_into_blocks([packed(lengths[:90]), packed(lengths[90:])])
    assert sum(blocks.residues) == sum(lengths)
    assert len(blocks.residues) == BLOCKS
    for pieces, part in zip(blocks.pieces, (lengths[:90], lengths[90:]), strict=True):
        edges = torch.tensor([0, *part]).cumsum(0).tolist()
        covered = [k for _, low, high in pieces for k in range(low, high)]
        assert covered == list(range(sum(part)))
        assert {edge for _, low, high in pieces for edge in (low, high)} <= set(edges)


def test_the_perplexity_of_a_bound_that_is_no_number_is_none_either() -> None:
    ones = torch.ones(1, dtype=torch.int64)
    bound = Bound(
        estimates=torch.full((2, 1), math.nan, dtype=torch.float64), residues=ones, ruled_out=0 * ones
    )
    assert math.isnan(perplexity(math.nan))
    assert math.isnan(bound.perplexity)
    assert perplexity(1e4) == math.inf


def test_fewer_proteins_than_blocks_are_a_block_each() -> None:
    assert cut_into_blocks([packed([3, 4]), packed([5])]).residues == (3, 4, 5)


@pytest.mark.parametrize("residues_per_gpu", [64, 256])
def test_blocks_do_not_depend_on_how_the_set_is_packed(store: Path, residues_per_gpu: int) -> None:
    def blocks(spec: Experiment) -> tuple[tuple[int, ...], str]:
        found = cut_into_blocks(validation_set(spec, [TokenStore.open(store)], torch.device("cpu")))
        return found.residues, found.proteins

    assert blocks(tiny_spec(store, residues_per_gpu=residues_per_gpu)) == blocks(tiny_spec(store))
    fewer = tiny_spec(store, validation={"every_steps": 9, "residues": 512})
    assert blocks(fewer)[1] != blocks(tiny_spec(store))[1]


def test_a_run_writes_its_bound_in_blocks(store: Path, make_run: MakeRun) -> None:
    """They add up to the bound of metrics.jsonl; killed and resumed, or on two ranks, they are the same."""
    whole, killed, shared = (make_run(tiny_spec(store)) for _ in range(3))
    assert train_process(whole) == 0
    train_process(killed, end="kill:22")
    assert train_process(killed, attempt=2) == 0
    assert train_process(shared, ranks=2) == 0
    rows = read_validation_rows(whole.validations)
    bounds = {
        row["step"]: row["validation_bound"]
        for row in map(json.loads, whole.metrics.read_text().splitlines())
        if "validation_bound" in row
    }
    assert [row.step for row in rows] == list(bounds) == [9, 18, 24]
    for row in rows:
        assert math.isclose(sum(row.nats) / sum(row.residues), bounds[row.step], rel_tol=1e-6)
    assert killed.validations.read_bytes() == whole.validations.read_bytes()
    for one, other in zip(rows, read_validation_rows(shared.validations), strict=True):
        assert (one.proteins, one.noise, one.residues) == (other.proteins, other.noise, other.residues)
        assert one.nats == pytest.approx(other.nats, rel=1e-3)


def test_an_unfinished_line_is_passed_over(tmp_path: Path) -> None:
    row = ValidationRow(step=3, proteins="ab", noise=0, residues=(5, 6), nats=(1.5, 2.25))
    line = json.dumps(row.record())
    (tmp_path / "v").write_text(f"{line}\n{line[:20]}")
    assert read_validation_rows(tmp_path / "v") == (row,)
    assert read_validation_rows(tmp_path / "absent") == ()
