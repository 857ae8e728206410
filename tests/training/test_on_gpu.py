"""Training where it is meant to run: the same bits twice, what the heartbeat tells, moments spread over cards."""

import gc
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sedd.data.store import TokenStore
from sedd.preflight.read.cards import query_driver
from sedd.rundir.layout import RunDir
from sedd.rundir.process_name import Place, find_place
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint_file import newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.loader import training_feed
from sedd.training.network import build_network
from sedd.training.precision import PRECISIONS
from sedd.training.train_state import fresh_state
from sedd.training.update import Update
from tests.tiny import tiny_spec, train_process
from tests.training.test_resume import assert_same_end

MakeRun = Callable[[Experiment], RunDir]
CARDS = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not CARDS, reason="no CUDA device")]
on_two = pytest.mark.skipif(CARDS < 2, reason="no two CUDA devices")


def gradients(spec: Experiment, steps: int = 1) -> dict[str, torch.Tensor]:
    """Of the last of the first steps, by name; the weights stay as they are."""
    device, precision, ranks = torch.device("cuda"), PRECISIONS[spec.training.precision], Ranks()
    network = build_network(spec, ranks, precision, device)
    state = fresh_state(network.model, spec.training, precision)
    for weight in network.model.parameters():
        torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator("cuda").manual_seed(1))
    feed = training_feed(spec, [TokenStore.open(spec.data.store)], ranks, device, 1)
    update = Update(spec, network, ranks)
    for step in range(1, steps + 1):
        state.optimizer.zero_grad(set_to_none=True)
        update.accumulate_gradient(state, next(feed), step)
    feed.close()
    return {name: weight.grad.clone() for name, weight in network.model.named_parameters()}  # type: ignore[union-attr]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("estimator", ["times", "counts"])
def test_the_same_step_has_the_same_bits(store: Path, precision: str, estimator: str) -> None:
    spec = tiny_spec(
        store, precision=precision, attention="efficient", residues_per_step=8192, residues_per_gpu=4096
    )
    model = spec.model.model_copy(update={"hidden": 256, "heads": 4, "blocks": 2})
    diffusion = spec.diffusion.model_copy(update={"estimator": estimator})
    spec = spec.model_copy(update={"model": model, "diffusion": diffusion})
    first, second = gradients(spec), gradients(spec)
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    assert differing == []


def test_garbage_of_earlier_graphs_does_not_spoil_a_recording(store: Path) -> None:
    spec = tiny_spec(store, precision="fp16", attention="tiled", residues_per_step=4096, cuda_graphs=True)
    model = spec.model.model_copy(update={"hidden": 256, "heads": 4, "blocks": 2})
    spec = spec.model_copy(update={"model": model})
    thresholds = gc.get_threshold()
    gc.set_threshold(20, 2, 2)  # collected all the time
    try:
        for _ in range(4):
            assert gradients(spec)
    finally:
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize("attention", ["efficient", "tiled", "flash"])
@pytest.mark.parametrize("optimizer_steps", [1, 4])
def test_a_replayed_graph_gives_the_bits_of_single_launches(
    store: Path, attention: str, optimizer_steps: int
) -> None:
    results = []
    for graphs in (True, False):
        spec = tiny_spec(
            store, precision="fp16", attention=attention, residues_per_step=8192, residues_per_gpu=4096,
            cuda_graphs=graphs,
        )  # fmt: skip
        model = spec.model.model_copy(update={"hidden": 256, "heads": 4, "blocks": 2, "dropout": 0.1})
        results.append(gradients(spec.model_copy(update={"model": model}), optimizer_steps))
    replayed, launched = results
    differing = [name for name in replayed if not torch.equal(replayed[name], launched[name])]
    assert attention == "flash" or differing == []  # flash adds up the gradient of queries in no fixed order


@pytest.mark.parametrize(
    ("optimizer", "ranks", "graphs"),
    [
        ("adamw", 1, "auto"),
        ("muon", 1, "auto"),
        pytest.param("adamw", 2, "auto", marks=on_two),
        pytest.param("adamw", 2, True, marks=on_two),
    ],
)
def test_however_often_a_run_is_interrupted_it_ends_with_the_same_bits(
    store: Path, make_run: MakeRun, optimizer: str, ranks: int, graphs: bool | str
) -> None:
    spec = tiny_spec(
        store, precision="fp16", optimizer=optimizer, residues_per_step=8192, residues_per_gpu=4096,
        attention="tiled", cuda_graphs=graphs,
    )  # fmt: skip
    model = spec.model.model_copy(update={"hidden": 256, "heads": 4, "blocks": 2, "dropout": 0.1})
    whole, interrupted = (make_run(spec.model_copy(update={"model": model})) for _ in range(2))
    assert train_process(whole, ranks=ranks) == 0
    for attempt, (end, code) in enumerate([("kill:9", -9), ("stop:16", 75), ("never", 0)], 1):
        assert train_process(interrupted, ranks=ranks, attempt=attempt, end=end) == code
    assert_same_end(interrupted, whole)


def test_status_shows_the_cards_use_and_memory_while_it_trains(store: Path, tmp_path: Path) -> None:
    spec = tmp_path / "tiny.json"
    resources = {"gpus_per_node": 1, "cpus_per_process": 1}
    asked = tiny_spec(store, steps=1_000_000).model_dump(mode="json") | {"resources": resources}
    spec.write_text(json.dumps(asked))
    here = os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "SEDD_RUNS": str(tmp_path / "runs")}
    sedd = [sys.executable, "-m", "sedd"]
    card = re.compile(r"residues/s.*\d+% busy, [\d.]+ [KMG]iB used at most")
    # Without preflight: this process may hold memory of the card, which would make it busy.
    with subprocess.Popen([*sedd, "train", "--no-preflight", str(spec)], env=here) as training:
        shown, deadline = "", time.monotonic() + 100
        while not card.search(shown) and training.poll() is None and time.monotonic() < deadline:
            time.sleep(2)
            done = subprocess.run(
                [*sedd, "status", "tiny"], env=here, capture_output=True, text=True, check=False
            )
            shown = done.stdout
        training.terminate()
    assert card.search(shown), shown


@on_two
def test_a_job_of_two_cards_is_fit_and_each_rank_takes_memory_of_its_own_alone(
    store: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "tiny.json"
    changes = {"steps": 1500, "precision": "fp16", "attention": "tiled", "residues_per_gpu": 256}
    asked = tiny_spec(store, **changes).model_dump(mode="json")
    asked |= {"resources": {"gpus_per_node": 2, "cpus_per_process": 1}}
    spec.write_text(json.dumps(asked))
    here = os.environ | {"SEDD_RUNS": str(tmp_path / "runs"), "SEDD_CLUSTER": ""}
    command = [sys.executable, "-m", "sedd", "submit", str(spec), "--no-preflight", "--wait"]
    cards: dict[Place, set[int]] = {}
    with subprocess.Popen(command, env=here) as job:
        while job.poll() is None:
            driver = query_driver()
            for card in driver.cards if driver else ():
                for pid, _ in card.processes:
                    if place := find_place(pid):
                        cards.setdefault(place, set()).add(card.index)
            time.sleep(0.2)
    assert job.returncode == 0
    assert cards == {Place(1, 0): {0}, Place(1, 1): {1}}


@on_two
@pytest.mark.parametrize("ranks", [1, 2])
def test_moments_spread_over_two_cards_in_fp16_go_on_after_a_stop(
    store: Path, make_run: MakeRun, ranks: int
) -> None:
    run = make_run(tiny_spec(store, shard="optimizer", precision="fp16"))
    assert train_process(run, ranks=2, end="stop:8") == 75
    assert train_process(run, ranks=ranks, attempt=2) == 0
    path = newest_whole(run.checkpoints)
    assert path is not None
    assert read_checkpoint(path)["step"] == 24


FAILING = """
import os, torch, torch.distributed as dist
from sedd.training.distributed import Ranks, connected
ranks = Ranks.from_environment(os.environ)
with connected(ranks, ranks.device()):
    x = torch.ones(1 << 20, device=ranks.device())
    dist.all_reduce(x)
    x.sum().item()
    if ranks.rank == 1:
        raise ValueError("the second rank fails")
    dist.all_reduce(x)
    x.sum().item()
"""


@on_two
def test_a_rank_that_fails_ends_at_once_though_the_other_waits_for_it_in_nccl() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", FAILING],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = ranks[1].communicate(timeout=180)[1]
        assert ranks[1].returncode == 1
        assert "ValueError: the second rank fails" in errors
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
