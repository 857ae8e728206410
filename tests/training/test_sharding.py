"""A training state that is spread over ranks: the same bits run by run, and checkpoints for any number of ranks."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.torch_version import TorchVersion

from sedd.errors import CheckpointError, SpecError
from sedd.finetune.lora import add_adapters
from sedd.inference.load_network import load_trained
from sedd.rundir.layout import RunDir, create_run, list_checkpoints, sealed_steps
from sedd.spec.experiment import Experiment
from sedd.spec.finetune import LoraSpec
from sedd.spec.load import dump_resolved
from sedd.spec.training import CheckpointSpec
from sedd.training.async_saver import Saver
from sedd.training.checkpoint_file import (
    FORMAT,
    newest_whole,
    open_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
    write_state,
)
from sedd.training.distributed import Ranks, connected
from sedd.training.local_copies import LocalCopies, NodePlace
from sedd.training.muon import orthogonalise, together
from sedd.training.network import build_model, build_network
from sedd.training.precision import PRECISIONS
from sedd.training.sharding.matrices import ByTurns
from sedd.training.sharding.part_files import OF_RANKS, RANKS, SHARDED, part_path
from sedd.training.sharding.rank_part import own_averages, own_moments, own_part
from sedd.training.sharding.rows import joined, leaves, rows_of_rank, take_rows, whole
from sedd.training.sharding.shards import ReplicatedShards, find_shards
from sedd.training.sharding.step import clip_and_step
from sedd.training.sharding.writer import ShardWriter
from sedd.training.train_state import TrainState, fresh_state
from tests.tiny import TORCH, cuts_networks, tiny_spec, train_process
from tests.training.test_resume import (
    KILLED,
    STOPPED,
    assert_close_weights,
    assert_same_bits,
    assert_same_end,
)

MakeRun = Callable[[Experiment], RunDir]
CPU, EXACT = torch.device("cpu"), PRECISIONS["fp32"]


# --- rows ---


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 64])
@pytest.mark.parametrize("rows", [1, 5, 33, 64])
def test_rows_are_cut_as_torch_chunks(rows: int, ranks: int) -> None:
    everything = torch.arange(rows)
    chunks = list(everything.chunk(ranks))
    for rank in range(ranks):
        start, stop = rows_of_rank(rows, rank, ranks)
        expected = chunks[rank] if rank < len(chunks) else everything[:0]
        assert torch.equal(everything[start:stop], expected)


# --- a rank's part of the state ---


def stepped(spec: Experiment, ranks: Ranks | None = None) -> TrainState:
    """After two steps with the same gradients whoever takes them: all rows, or those of one of many ranks."""
    model = build_model(spec, CPU)
    shards = ReplicatedShards(model, ranks) if ranks else None
    state = fresh_state(model, spec.training, EXACT, shards=shards)
    if ranks and spec.training.optimizer == "muon":
        state.optimizer._orthogonalised = lambda directions, parts, dtype: [([d], 1) for d in directions]
    for step in (1, 2):
        noise = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=noise)
        if shards:
            shards.bring_gradients()
        state.optimizer.step()
        state.ema.update()
        state.drop_gradients()
    return state


@pytest.mark.parametrize("ranks", [2, 3, 40])
def test_the_parts_of_all_ranks_are_the_whole_state_and_the_other_way_round(ranks: int, store: Path) -> None:
    """40 ranks: more than some matrices have rows."""
    spec = tiny_spec(store)
    plain = stepped(spec).state_dict()
    states = [stepped(spec, Ranks(rank=rank, size=ranks)) for rank in range(ranks)]
    parts = [own_part(s.shards, s.model, s.ema, s.optimizer) for s in states]
    again = whole(joined(parts))
    assert sorted(again) == sorted(OF_RANKS)
    for name in OF_RANKS:
        torch.testing.assert_close(again[name], plain[name], rtol=1e-5, atol=1e-7)
    for state, part in zip(states, parts, strict=True):  # from the whole state, and from all parts
        for saved in (again, joined(parts)):
            for name, kept in part["ema"]["averages"].items():
                own = own_averages(state.shards, saved["ema"])["averages"][name]
                assert torch.equal(own, kept["shard"] if isinstance(kept, dict) else kept)
            moments = own_moments(state.shards, state.optimizer, saved["optimizer"])
            theirs = [x for x in leaves(state.optimizer.state_dict()) if isinstance(x, torch.Tensor)]
            ours = [x for x in leaves(moments) if isinstance(x, torch.Tensor)]
            assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_muons_momentum_is_cut_and_joined_too(store: Path) -> None:
    spec = tiny_spec(store, optimizer="muon")
    plain = stepped(spec).state_dict()["optimizer"]["momentum"]
    states = [stepped(spec, Ranks(rank=rank, size=2)) for rank in range(2)]
    parts = [own_part(s.shards, s.model, s.ema, s.optimizer) for s in states]
    momenta = whole(joined(parts))["optimizer"]["momentum"]
    assert all(torch.equal(one, other) for one, other in zip(momenta, plain, strict=True))
    own = own_moments(states[1].shards, states[1].optimizer, {**parts[0]["optimizer"], "momentum": plain})
    assert torch.equal(own["momentum"][0], plain[0][24:])


# --- files ---


def write_parts(folder: Path, step: int, values: torch.Tensor) -> Path:
    """A checkpoint of three ranks."""
    path = folder / f"step-{step:08d}.pt"
    parts = []
    for rank in range(3):
        start, stop = rows_of_rank(len(values), rank, 3)
        own = {"shard": values[start:stop].clone(), "start": start, "rows": len(values)}
        parts.append(write_state(part_path(path, rank, 3), {"model": {"w": own}}, lambda: None))
    write_checkpoint(folder, step, {"format": FORMAT, SHARDED: {RANKS: 3}, "step": step}, parts=parts)
    return path


def test_a_checkpoint_of_many_files_reads_as_one_or_row_by_row(tmp_path: Path) -> None:
    values = torch.randn(33, 4)
    path = write_parts(tmp_path, 5, values)
    assert_same_bits(read_checkpoint(path), {"format": FORMAT, "step": 5, "model": {"w": values}})
    pieces = open_checkpoint(path, part=1)["model"]["w"]
    assert torch.equal(take_rows(pieces, 7, 30), values[7:30])


def test_a_checkpoint_with_a_damaged_or_missing_part_is_not_whole(tmp_path: Path) -> None:
    paths = [write_parts(tmp_path, step, torch.randn(33, 4)) for step in (5, 10, 15)]
    damaged, missing = part_path(paths[1], 2, 3), part_path(paths[2], 0, 3)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    missing.unlink()
    assert newest_whole(tmp_path) == paths[0]
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(paths[1])


def test_parts_go_with_their_checkpoint_and_those_of_a_save_under_way_stay(tmp_path: Path) -> None:
    for step in (5, 10):
        write_parts(tmp_path, step, torch.randn(33, 4))
    orphan = write_parts(tmp_path, 7, torch.randn(9, 4))  # of a writer that was killed before the seal
    orphan.unlink(), orphan.with_suffix(".json").unlink()
    under_way = part_path(tmp_path / "step-00000015.pt", 0, 3)
    under_way.touch()
    prune_checkpoints(tmp_path, newest=10, keep=1, keep_every_steps=None)
    assert {path.name.split(".")[0] for path in tmp_path.glob("*.shard")} == {
        "step-00000010",
        "step-00000015",
    }


# --- two processes ---


def two_ranks(work: str, folder: Path, store: Path) -> None:
    port = str(20000 + os.getpid() % 20000)
    multiprocessing.spawn(_one_of_two, (work, folder, store, port), nprocs=2)


def _one_of_two(rank: int, work: str, folder: Path, store: Path, port: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    ranks = Ranks(rank=rank, size=2, local_rank=rank)
    with connected(ranks, CPU):
        globals()[work](ranks, folder, store)


def test_what_two_ranks_agree_on(tmp_path: Path, store: Path) -> None:
    """One start of processes for all claims, each a function below."""
    two_ranks("all_claims_of_two", tmp_path, store)


def all_claims_of_two(ranks: Ranks, folder: Path, store: Path) -> None:
    if TORCH >= (2, 10):
        a_cut_networks_gradient_is_the_average_over_the_ranks(ranks, store)
        a_gradient_that_is_not_finite_on_one_rank_holds_both_back(ranks, store)
    two_ranks_orthogonalise_the_matrices_of_one(ranks)
    a_matrix_of_one_row_comes_from_the_first_rank(ranks, store)
    a_part_that_cannot_be_written_fails_the_save_on_both(ranks, folder)
    a_copy_that_one_rank_cannot_write_is_kept_on_neither_node(ranks, folder)


def a_cut_networks_gradient_is_the_average_over_the_ranks(ranks: Ranks, store: Path) -> None:
    """Optimisers hardly tell a gradient from its double, and torch's gloo once added up what it was to average."""
    whole = build_network(tiny_spec(store), Ranks(), EXACT, CPU).model
    cut = build_network(tiny_spec(store, shard="full"), ranks, EXACT, CPU).model
    noise = torch.Generator().manual_seed(0)  # a fresh network's gradient is 0 but at its end
    changes = {name: torch.randn(p.shape, generator=noise) / 10 for name, p in whole.named_parameters()}
    for model in (whole, cut):
        for name, parameter in model.named_parameters():
            own = parameter.to_local() if model is cut else parameter
            first = rows_of_rank(len(parameter), ranks.rank, ranks.size)[0] if model is cut else 0
            own.data += changes[name][first : first + len(own)]
        tokens, borders = torch.arange(64) % 20 + 4 + ranks.rank, torch.tensor([0, 64], dtype=torch.int32)
        torch.manual_seed(0)
        model(tokens, borders, torch.tensor([0.5]), max_length=64).square().sum().backward()
    theirs = dict(whole.named_parameters())
    for name, parameter in cut.named_parameters():
        average = theirs[name].grad.clone()
        dist.all_reduce(average)
        torch.testing.assert_close(parameter.grad.full_tensor(), average / 2, rtol=1e-4, atol=1e-5)


def a_gradient_that_is_not_finite_on_one_rank_holds_both_back(ranks: Ranks, store: Path) -> None:
    spec = tiny_spec(store, shard="full")
    network = build_network(spec, ranks, EXACT, CPU)
    shards = find_shards(network.model, spec.training, ranks)
    precision = PRECISIONS["fp16"]  # of which the loss scaling alone is used
    state = fresh_state(network.model, spec.training, precision, shards=shards)
    before = [shard.own.detach().clone() for shard in shards.all]
    for bad in (True, False):
        tokens, borders = torch.randint(4, 24, (64,)), torch.tensor([0, 64], dtype=torch.int32)
        output = network.model(tokens, borders, torch.tensor([0.5]), max_length=64)
        state.scaler.scale(output.square().sum() + output.sum()).backward()
        if bad and ranks.rank == 1:
            next(s for s in shards.trained if s.parameter.grad is not None).parameter.grad.to_local()[0] = (
                torch.inf
            )
        norm = clip_and_step(state, shards, 1.0)
        assert bool(norm.isfinite()) is not bad
        moved = any(not torch.equal(s.own, old) for s, old in zip(shards.all, before, strict=True))
        assert moved is not bad
        assert state.scaler.get_scale() == 32768.0
        state.drop_gradients()


def two_ranks_orthogonalise_the_matrices_of_one(ranks: Ranks) -> None:
    torch.manual_seed(0)
    shapes, parts = [(24, 8), (8, 8), (24, 8), (32, 8), (24, 8)], [3, 1, 3, 1, 3]
    directions = [torch.randn(shape) for shape in shapes]
    own = [d.chunk(2)[ranks.rank] for d in directions]
    expected = together(directions, parts, torch.float32)
    for ((step,), side), (steps, their_side) in zip(
        ByTurns(ranks)(own, parts, torch.float32), expected, strict=True
    ):
        torch.testing.assert_close(step, torch.cat(steps).chunk(2)[ranks.rank], rtol=1e-4, atol=1e-5)
        assert side == their_side
    assert orthogonalise(directions[1][None], torch.float32).shape == (1, 8, 8)


def a_matrix_of_one_row_comes_from_the_first_rank(ranks: Ranks, store: Path) -> None:
    """As adapters of rank 1 have it: all of it is the first rank's, and nothing the second's."""
    model = build_model(tiny_spec(store), CPU)
    add_adapters(model, LoraSpec(rank=1))
    shards = ReplicatedShards(model, ranks)
    for shard in shards.trained:
        if shard.parameter.ndim > 1:
            shard.own.data.fill_(ranks.rank)
    shards.spread_weights()
    for shard in shards.trained:
        if shard.parameter.ndim > 1:
            rows = torch.arange(shard.rows) >= rows_of_rank(shard.rows, 1, 2)[0]
            assert torch.equal(shard.parameter[:, 0], rows.float()), shard.name
    assert {shard.rows for shard in shards.trained if shard.name.endswith("lora_a")} == {1}


def a_part_that_cannot_be_written_fails_the_save_on_both(ranks: Ranks, folder: Path) -> None:
    write, state = ShardWriter(ranks), {"format": FORMAT, "step": 5, "model": {}, "ema": {}, "optimizer": {}}

    def disk_is_full() -> None:
        if ranks.rank == 1:
            raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="no space"):
        write(folder, 5, state, before_publishing=disk_is_full)
    assert list_checkpoints(folder) == []
    if ranks.rank == 1:  # no memory for the copy
        write.give_up("Cannot allocate memory")
    else:
        with pytest.raises(CheckpointError, match="allocate"):
            write(folder, 5, state, before_publishing=lambda: None)
    seal = write(folder, 5, state, before_publishing=lambda: None)
    assert [part.name for part in seal.parts] == [
        f"step-00000005.000{rank}-of-0002.shard" for rank in range(2)
    ]
    dist.barrier()
    assert newest_whole(folder) is not None


def a_copy_that_one_rank_cannot_write_is_kept_on_neither_node(ranks: Ranks, folder: Path) -> None:
    run, told = RunDir(folder / "tiny/copied"), []
    if ranks.is_first:
        create_run(folder, "tiny", "copied", "name: tiny\n")
    dist.barrier()
    copies = LocalCopies(run, NodePlace(entry="1-1", folder=str(folder)), ranks)
    saver = Saver(
        run,
        CheckpointSpec(),
        attempt=1,
        make_rows_durable=lambda: None,
        notify=told.append,
        local=copies,
        hand_rows_over=lambda: [0, 0] if ranks.is_first else [],
        writer=ShardWriter(ranks),
        is_first=ranks.is_first,
    )
    write = copies.write

    def write_but_once(step: int, *state: object, **rows: object) -> bool:
        if step == 6 and ranks.rank == 1:
            raise CheckpointError("No space left on device")
        return write(step, *state, **rows)

    copies.write = write_but_once
    for step, there in ((5, [5]), (6, [5]), (7, [7])):
        state = {
            "format": FORMAT,
            "run": "tiny/copied",
            "step": step,
            "model": {},
            "ema": {},
            "optimizer": {},
        }
        saver.copy_to_node(step, state, began=time.monotonic())
        saver.wait()
        assert [copy.step for copy in copies.find(after=-1, notify=print)] == there
    saver.close()
    assert "No space left" in " ".join(told)


# --- whole trainings ---


def test_a_torch_that_cannot_cut_a_network_on_a_cpu_is_told_by_its_version(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.__version__", TorchVersion("2.8.0+cpu"))
    with pytest.raises(SpecError, match=r"torch 2\.10 on a CPU: this is 2\.8\.0"):
        build_network(tiny_spec(store, shard="full"), Ranks(size=2), EXACT, CPU)


def cut(store: Path, **training: object) -> Experiment:
    """Two micro-batches a step on each of two ranks, recomputed; Muon and its AdamW."""
    how = {"shard": "full", "optimizer": "muon", "activation_checkpointing": True, "steps": 10}
    return tiny_spec(store, **(how | {"residues_per_gpu": 128} | training))


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = create_run(tmp_path_factory.mktemp("cut"), "tiny", "cut", dump_resolved(cut(store)))
    assert train_process(run, ranks=2) == 0
    return run


@cuts_networks
def test_a_cut_network_that_was_killed_ends_as_an_undisturbed_one_and_goes_on_elsewhere(
    store: Path, make_run: MakeRun, undisturbed: RunDir, tmp_path: Path
) -> None:
    run = make_run(cut(store))
    assert train_process(run, ranks=2, end="kill-saved:6") == KILLED
    assert sealed_steps(run) == [5]
    alone, four = (RunDir(shutil.copytree(run.path, tmp_path / name)) for name in ("alone", "four"))
    assert train_process(run, ranks=2, attempt=2) == 0
    assert_same_end(run, undisturbed)
    assert train_process(alone, attempt=2) == 0  # on one rank: a plain network, and a plain checkpoint
    assert not list(alone.checkpoints.glob("step-00000010.*.shard"))
    assert_close_weights(alone, undisturbed)
    assert train_process(four, ranks=4, attempt=2, end="stop:8") == STOPPED
    assert len(list(four.checkpoints.glob("step-00000008.*-of-0004.shard"))) == 4
    assert train_process(four, ranks=4, attempt=3) == 0
    assert_close_weights(four, undisturbed)


@cuts_networks
def test_a_plain_checkpoint_goes_on_cut(store: Path, make_run: MakeRun, undisturbed: RunDir) -> None:
    run = make_run(cut(store, shard="none"))
    assert train_process(run, end="stop:5") == STOPPED
    run.spec.write_text(dump_resolved(cut(store)))
    assert train_process(run, ranks=2, attempt=2) == 0
    assert_close_weights(run, undisturbed)


@cuts_networks
def test_what_a_cut_network_learned_is_used_and_fine_tuned_as_any(
    store: Path, make_run: MakeRun, undisturbed: RunDir
) -> None:
    path = newest_whole(undisturbed.checkpoints)
    assert path is not None
    assert len(json.loads(path.with_suffix(".json").read_bytes())["parts"]) == 2
    saved, trained = read_checkpoint(path), load_trained(path)
    for name, average in saved["ema"]["averages"].items():
        assert torch.equal(trained.model.state_dict()[name], average)
    child = make_run(
        cut(
            store,
            optimizer="adamw",
            steps=2,
            init=str(path),
            layer_decay=0.5,
            freeze=["embedding.*"],
        )
    )
    assert train_process(child, ranks=2) == 0
    end = read_checkpoint(newest_whole(child.checkpoints))
    assert torch.equal(end["model"]["embedding.weight"], saved["ema"]["averages"]["embedding.weight"])
    assert not torch.equal(
        end["model"]["final.output.weight"], saved["ema"]["averages"]["final.output.weight"]
    )
