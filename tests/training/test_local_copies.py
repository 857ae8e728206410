"""Copies of the state on the node: a restart continues from the newest whole one of our own, with the same bits."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, create_run, list_checkpoints, step_of, write_manifest
from sedd.rundir.node_folder import ENTRY_VARIABLE, entry_name
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint_file import FORMAT
from sedd.training.local_copies import LocalCopies, NodePlace
from tests.tiny import cuts_networks, tiny_spec, train_process
from tests.training.test_resume import assert_same_end

MakeRun = Callable[[Experiment], RunDir]
KILLED = -signal.SIGKILL

NODE = entry_name(os.getpid()).rpartition("-")[2]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the node, for trainings that this process leads."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setenv(ENTRY_VARIABLE, entry_name(os.getpid()))
    monkeypatch.setenv("LOCAL_COPIES", str(folder))
    return folder


def test_killed_ranks_continue_from_the_nodes_copy_to_the_same_bits_and_rows(
    store: Path, make_run: MakeRun, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec(store, checkpoint={"every_steps": 1000})
    whole, killed = make_run(spec), make_run(spec)
    assert train_process(killed, ranks=2, end="kill:13") == KILLED
    assert list_checkpoints(killed.checkpoints) == []
    assert train_process(killed, ranks=2, attempt=2) == 0
    (again,) = [e for e in read_events(killed.events) if e.event == "resumed"]
    assert again.get("tier") == "node"
    assert 5 < again.get("step") <= 13, "copies were not written while it trained"
    monkeypatch.delenv(ENTRY_VARIABLE)
    assert train_process(whole, ranks=2) == 0
    assert_same_end(killed, whole)


def steps_of_all_ranks(node: Path) -> set[int]:
    """Steps of which each of two ranks has a sealed copy of its part."""
    (entry,) = node.iterdir()
    found = [{step_of(path) for path in list_checkpoints(entry / f"rank-{rank}")} for rank in range(2)]
    return found[0] & found[1]


@pytest.mark.parametrize("shard", ["optimizer", pytest.param("full", marks=cuts_networks)])
def test_a_spread_state_continues_from_the_newest_step_that_every_ranks_node_has(
    shard: str, store: Path, make_run: MakeRun, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_spec(store, shard=shard, checkpoint={"every_steps": 1000})
    whole, killed = make_run(spec), make_run(spec)
    assert train_process(killed, ranks=2, end="kill-one:13") == KILLED
    assert list_checkpoints(killed.checkpoints) == []
    newest = max(steps_of_all_ranks(node))
    assert 5 < newest <= 13, "copies were not written while it trained"
    # The second kill comes 8 steps after the resumed one.
    assert train_process(killed, ranks=2, attempt=2, end="kill-one:8") == KILLED
    (entry,) = node.iterdir()
    damaged = max(list_checkpoints(entry / "rank-1"), key=step_of)
    flip_a_bit(damaged, killed)
    left = max(steps_of_all_ranks(node) - {step_of(damaged)}, default=0)
    assert train_process(killed, ranks=2, attempt=3) == 0
    first, second = [e for e in read_events(killed.events) if e.event == "resumed"]
    assert (first.get("tier"), first.get("step")) == ("node", newest)
    assert second.get("step") == left, "a step of which a rank's part is damaged was used, or none"
    monkeypatch.delenv(ENTRY_VARIABLE)
    assert train_process(whole, ranks=2) == 0
    assert_same_end(killed, whole)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = create_run(tmp_path / "runs", "small", "20261122-080000-aaaaaaaa", "name: small\n")
    write_manifest(made, {"code_hash": "abc"})
    made.metrics.write_text('{"step": 2}\n{"step": 4}\n')
    return made


def copies_of(run: RunDir, node: Path, entry: str = f"1-1-{NODE}") -> LocalCopies:
    return LocalCopies(run, NodePlace(entry=entry, folder=str(node)), environ={})


def write(run: RunDir, node: Path, step: int = 5, /, **more: object) -> Path:
    """A copy of this step; returns its file."""
    state = {
        "format": FORMAT,
        "run": f"{run.name}/{run.id}",
        "step": step,
        "w": torch.full((9,), float(step)),
    }
    copies = copies_of(run, node)
    copies.write(step, state | more, rows=[run.metrics.stat().st_size, 0])
    copies.keep_newest(step)
    (folder,) = node.iterdir()
    return folder / f"step-{step:08d}.pt"


def newest(run: RunDir, node: Path, after: int = -1) -> tuple[int | None, str]:
    said: list[str] = []
    copies = copies_of(run, node)
    found = copies.find(after=after, notify=said.append)
    copies.remove_all_but(found[0] if found else None)
    return (found[0].step if found else None), " ".join(said)


def test_a_whole_copy_is_found_if_it_is_later_than_the_checkpoint(run: RunDir, node: Path) -> None:
    path = write(run, node)
    assert newest(run, node, after=4) == (5, "")
    assert newest(run, node, after=5) == (None, "")
    assert not path.exists(), "a copy that nobody needs keeps room"


def test_another_job_of_the_run_does_not_use_it_and_removes_it(run: RunDir, node: Path) -> None:
    write(run, node)
    assert copies_of(run, node, entry=f"2-2-{NODE}").find(after=-1, notify=print) == []
    assert list(node.iterdir()) == []


def flip_a_bit(path: Path, run: RunDir) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path, run: RunDir) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rename(path: Path, run: RunDir) -> None:
    for file in (path, path.with_suffix(".json")):
        file.rename(file.with_name(file.name.replace("5", "6")))


def change_code(path: Path, run: RunDir) -> None:
    write_manifest(run, {"code_hash": "def"})


def lose_rows(path: Path, run: RunDir) -> None:
    run.metrics.write_text('{"step": 2}\n')


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flip_a_bit, "damaged"),
        (cut, "damaged"),
        (rename, "does not go with the rows"),
        (change_code, "of another run, job, rank or version of the code"),
        (lose_rows, "does not go with the rows"),
    ],
)
def test_a_copy_that_is_not_whole_or_not_ours_is_not_used(
    harm: Callable[[Path, RunDir], None], said: str, run: RunDir, node: Path
) -> None:
    harm(write(run, node), run)
    found, why = newest(run, node)
    assert found is None
    assert said in why
    assert not [*node.rglob("step-*")], "it would be taken for the newest one, and later ones be removed"


def test_a_copy_of_another_run_is_not_used(run: RunDir, node: Path) -> None:
    path = write(run, node, run="other/20261122-080000-aaaaaaaa")
    assert path.exists()
    assert newest(run, node)[0] is None


def test_one_that_was_never_finished_is_no_copy(run: RunDir, node: Path) -> None:
    path = write(run, node)
    path.with_suffix(".json").unlink()
    assert newest(run, node) == (None, "")


def test_only_the_newest_is_kept_and_none_amid_bad_steps(run: RunDir, node: Path) -> None:
    write(run, node, 5)
    path = write(run, node, 6)
    write(run, node, 7, bad_steps=torch.tensor(3))
    assert [p.name for p in list_checkpoints(path.parent)] == ["step-00000006.pt"]
    assert newest(run, node) == (6, "")
