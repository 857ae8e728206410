"""Memory by formula against peaks that were measured."""

import pytest

from sedd.model.tiled_sizes import TURING, kept_score_bytes
from sedd.preflight.read.footprint import (
    REPLAYS_FROM,
    assumes_replay,
    checkpoint_bytes,
    gpu_bytes,
    kept_checkpoints,
    largest_fit,
    main_memory_bytes,
    state_bytes,
)
from sedd.spec.experiment import Experiment

MIB, GIB = 1 << 20, 1 << 30
V100, H200 = (7, 0), (9, 0)


def experiment(hidden=512, blocks=6, heads=8, **training) -> Experiment:
    training = {"steps": 1000, "residues_per_step": 65_536, "residues_per_gpu": 65_536} | training
    model = {"hidden": hidden, "blocks": blocks, "heads": heads}
    return Experiment.model_validate(
        {"name": "x", "data": {"store": "/"}, "model": model, "training": training}
    )


# Peak GiB of two steps, efficient attention, sequences of 512, torch 2.11, one H200; the CUDA context comes on top.
PEAKS = [
    ({}, 8.53),
    ({"activation_checkpointing": True}, 3.16),
    ({"precision": "fp32"}, 14.73),
    ({"precision": "fp32", "activation_checkpointing": True}, 4.72),
    ({"optimizer": "muon"}, 8.46),
    ({"residues_per_gpu": 16_384}, 2.52),
    # tools/bench_sharding.py jobs/uniref50_650m.yaml, `none`; 22 bytes a parameter at once would be 17.5.
    (
        {
            "hidden": 1280,
            "blocks": 30,
            "heads": 20,
            "residues_per_step": 16_384,
            "residues_per_gpu": 16_384,
            "activation_checkpointing": True,
        },
        14.76,
    ),
    ({"hidden": 768, "blocks": 8, "heads": 12}, 16.95),
    ({"hidden": 768, "blocks": 12, "heads": 12}, 25.03),
    ({"hidden": 768, "blocks": 12, "heads": 12, "activation_checkpointing": True}, 7.34),
    ({"hidden": 768, "blocks": 12, "heads": 12, "precision": "fp32"}, 43.23),
    ({"kernels": "torch"}, 10.02),
    ({"kernels": "torch", "activation_checkpointing": True}, 3.41),
    ({"kernels": "torch", "precision": "fp32"}, 16.73),
    ({"kernels": "torch", "hidden": 768, "blocks": 12, "heads": 12}, 29.04),
    ({"kernels": "torch", "hidden": 768, "blocks": 12, "heads": 12, "activation_checkpointing": True}, 7.72),
    ({"kernels": "torch", "hidden": 768, "blocks": 12, "heads": 12, "precision": "fp32"}, 49.11),
]


@pytest.mark.parametrize(("spec", "peak_gib"), PEAKS)
def test_estimate_is_within_a_tenth_of_the_measured_peak(spec, peak_gib):
    asked = experiment(**spec)
    context_gib = 0.75
    estimate = gpu_bytes(asked, asked.training.micro_batch_residues, capability=H200)
    assert estimate / GIB - context_gib == pytest.approx(peak_gib, rel=0.1)


def attention_of_heads_of_128(capability, **training):
    """What attention of four heads of 128 takes besides, beyond that of eight heads of 64."""
    wide, narrow = (experiment(heads=heads, **training) for heads in (4, 8))
    return gpu_bytes(wide, 65_536, capability=capability) - gpu_bytes(narrow, 65_536, capability=capability)


@pytest.mark.parametrize("capability", [V100, None])
@pytest.mark.parametrize("asked", [{}, {"attention": "tiled"}, {"activation_checkpointing": True}])
def test_gradients_of_scores_of_heads_of_128_count_where_tiled_keeps_them(capability, asked):
    a_head = 65_536 * 512 * 2
    several_steps = {"residues_per_step": 131_072}  # so that no gradient makes room for them
    assert attention_of_heads_of_128(capability, **several_steps, **asked) == 4 * a_head


@pytest.mark.parametrize(
    ("capability", "asked"),
    [
        (H200, {}),  # flash
        (TURING, {"attention": "tiled"}),  # efficient
        (V100, {"attention": "efficient"}),
        (V100, {"precision": "fp32"}),
    ],
)
def test_other_attention_keeps_none(capability, asked):
    assert attention_of_heads_of_128(capability, **asked) == 0


@pytest.mark.parametrize(
    ("tokens", "longest", "heads", "kept_mib"),
    [(32_768, 1024, 6, 192), (32_768, 1024, 4, 256), (65_536, 4096, 4, 512), (100, 512, 2, 0.05)],
)
def test_kept_gradients_of_scores_stay_within_256_mib_unless_a_head_has_more(
    tokens, longest, heads, kept_mib
):
    assert kept_score_bytes(tokens, longest, heads, 128) / MIB == pytest.approx(kept_mib, rel=0.05)


def test_a_sharded_optimizer_leaves_each_of_four_ranks_a_quarter_of_moments_and_averages():
    whole, sharded = experiment(), experiment(shard="optimizer")
    four = {"resources": whole.resources.model_copy(update={"gpus_per_node": 4})}
    saved = [state_bytes(asked.model_copy(update=four), capability=H200) for asked in (whole, sharded)]
    assert saved[0] - saved[1] == 9 * 23_930_880
    assert state_bytes(sharded, capability=H200) == state_bytes(whole, capability=H200)


def sized(hidden: int, cond: int, blocks: int, **training) -> Experiment:
    asked = experiment(hidden=hidden, blocks=blocks, heads=hidden // 64, **training)
    return asked.model_copy(update={"model": asked.model.model_copy(update={"cond": cond})})


# VmHWM of `sedd train` after two saves, in GiB, one process, torch 2.11, one H100.
@pytest.mark.parametrize(
    ("asked", "peak_gib"),
    [
        (sized(512, 256, 6), 2.05),
        (sized(768, 128, 12), 3.08),
        (sized(768, 128, 12, optimizer="muon"), 2.77),
    ],
)
def test_main_memory_is_enough_and_within_a_tenth_of_what_was_measured(asked, peak_gib):
    assert peak_gib <= main_memory_bytes(asked) / GIB <= 1.1 * peak_gib


def test_what_is_cut_over_ranks_takes_an_nth_and_two_blocks_on_their_way():
    """20 bytes a parameter over 64 ranks; of a block 18: the V100s of the 3 B spec could hold nothing else."""
    cut = sized(2560, 256, 36, shard="full")
    many = cut.model_copy(
        update={"resources": cut.resources.model_copy(update={"nodes": 16, "gpus_per_node": 4})}
    )
    parameters, block = 2_974_874_624, 12 * 2560**2 + 7 * 2560 + 6 * 2560 * 257
    assert state_bytes(many, capability=H200) == 20 * parameters // 64 + 18 * block + (3 << 28)


def test_each_process_takes_main_memory_and_saves_its_part_from_there():
    whole, sharded = experiment(), experiment(shard="optimizer")
    four = {"resources": whole.resources.model_copy(update={"gpus_per_node": 4})}
    assert main_memory_bytes(sharded) == main_memory_bytes(whole)
    whole_4, sharded_4 = (main_memory_bytes(asked.model_copy(update=four)) for asked in (whole, sharded))
    assert whole_4 - main_memory_bytes(whole) == pytest.approx(3 * 1.25 * GIB)
    assert sharded_4 == whole_4  # all four are on this node
    two_nodes = {"resources": whole.resources.model_copy(update={"nodes": 2, "gpus_per_node": 2})}
    whole_2, sharded_2 = (main_memory_bytes(asked.model_copy(update=two_nodes)) for asked in (whole, sharded))
    assert whole_2 - sharded_2 == 8 * 23_930_880


def test_checkpoint_holds_weights_ema_and_two_moments_in_fp32():
    assert checkpoint_bytes(experiment()) == 4 * 4 * 23_930_880


def test_muon_keeps_one_moment_of_the_matrices_in_blocks():
    fewer = 4 * 6 * 12 * 512**2
    assert checkpoint_bytes(experiment()) - checkpoint_bytes(experiment(optimizer="muon")) == fewer
    assert (
        state_bytes(experiment(), capability=H200)
        - state_bytes(experiment(optimizer="muon"), capability=H200)
        == fewer
    )


def test_checkpoints_on_disk_count_the_one_being_written_and_those_for_ever():
    assert kept_checkpoints(experiment(checkpoint={"keep": 3})) == 4
    assert kept_checkpoints(experiment(checkpoint={"keep": 3, "keep_every_steps": 100})) == 14


@pytest.mark.parametrize(("memory_gib", "fitting"), [(80, 65_536), (8, 32_768), (3, 8_192), (1, None)])
def test_largest_fit_divides_the_batch_and_fits(memory_gib, fitting):
    asked = experiment()
    found = largest_fit(asked, memory_gib * GIB, capability=H200)
    assert found == fitting


def with_gpus(count: int, **training) -> Experiment:
    asked = experiment(**training)
    return asked.model_copy(update={"resources": asked.resources.model_copy(update={"gpus_per_node": count})})


@pytest.mark.parametrize(
    ("training", "gpus", "capability", "gradients"),
    [
        ({}, 4, V100, 1),
        ({}, 4, H200, 2),
        ({}, 4, (8, 0), 2),
        ({}, 4, None, 2),  # a card that nobody names may replay: less fits then
        ({}, 1, H200, 1),
        ({"cuda_graphs": True}, 4, V100, 2),
        ({"cuda_graphs": False}, 4, H200, 1),
        ({"activation_checkpointing": True}, 4, H200, 1),  # what no graph records
        ({"kernels": "torch"}, 4, H200, 1),
        ({"compile": True}, 4, H200, 1),
    ],
)
def test_ranks_that_replay_graphs_exchange_a_copy_of_the_gradient(training, gpus, capability, gradients):
    asked = with_gpus(gpus, **training)
    rest = 4 + 2 + 4 + 8  # weights, their half-precision copy, averages, moments
    assert state_bytes(asked, capability=capability) == 23_930_880 * (rest + 4 * gradients) + (3 << 28)


@pytest.mark.parametrize(
    ("gpus", "capability", "is_guess"), [(4, None, True), (4, V100, False), (1, None, False)]
)
def test_what_is_assumed_of_an_unknown_card_is_said_where_it_matters(gpus, capability, is_guess):
    assert assumes_replay(with_gpus(gpus), capability) == is_guess


def test_cuda_graphs_auto_is_what_training_decides(monkeypatch):
    from sedd.model import cuda_graph

    assert REPLAYS_FROM == cuda_graph._FROM
