"""Shapes that a run may have: those that it can train on, on as few nodes as can be."""

import pytest
from pydantic import ValidationError

from sedd.soonest.shapes import JobShape, Layout, in_shape, layouts, left_out, time_limits_s
from sedd.spec.experiment import Experiment


def training(
    gpus: object = "1-8", *, micro_batches: int = 8, each_node: int | None = None, **fields: object
) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "small",
            "data": {"store": "/data"},
            "training": {
                "steps": 1000,
                "residues_per_step": 1024 * micro_batches,
                "residues_per_gpu": 1024,
                **fields,
            },
            "resources": {"gpus": gpus, "walltime": "30m-24h"}
            | ({"gpus_per_node": each_node} if each_node else {}),
        }
    )


@pytest.mark.parametrize(
    ("gpus", "per_node", "expected"),
    [
        ("1-8", 4, [(1, 1), (1, 2), (1, 4), (2, 4)]),
        ("1-8", 8, [(1, 1), (1, 2), (1, 4), (1, 8)]),
        ("2-8", 1, [(2, 1), (4, 1), (8, 1)]),
        (4, 4, [(1, 4)]),
        (4, 3, [(2, 2)]),  # 4 on nodes of three are two on each
    ],
)
def test_gpus_are_put_on_as_few_nodes_as_can_be(
    gpus: object, per_node: int, expected: list[tuple[int, int]]
) -> None:
    found = layouts(training(gpus), most_per_node=per_node)
    assert [(each.nodes, each.gpus_per_node) for each in found] == expected


def test_what_does_not_divide_the_batch_is_left_out_and_named() -> None:
    with pytest.raises(ValidationError, match="6 processes"):
        training("1-6", micro_batches=4)  # without a choice it is the most
    experiment = training("1-6", micro_batches=4, each_node=4)
    assert [each.gpus for each in layouts(experiment, most_per_node=8)] == [1, 2, 4]
    (reason,) = left_out(experiment, most_per_node=8)
    assert reason.startswith("6 GPUs:")
    assert "4 forward passes" in reason


def test_ordered_sums_take_powers_of_two_alone() -> None:
    experiment = training("1-6", micro_batches=12)
    assert [each.gpus for each in layouts(experiment, most_per_node=8)] == [1, 2, 4, 6]
    ordered = training("1-8", micro_batches=24, reduction="ordered")
    assert [each.gpus for each in layouts(ordered, most_per_node=8)] == [1, 2, 4, 8]


def test_a_range_without_a_choice_is_its_upper_end_and_a_choice_keeps_the_range() -> None:
    asked = training("1-8")
    assert (asked.resources.gpus_per_node, asked.resources.walltime) == (8, 24 * 3600)
    picked = in_shape(asked, JobShape(layout=Layout(nodes=2, gpus_per_node=2), walltime_s=7200))
    assert (picked.resources.ranks, picked.resources.walltime) == (4, 7200)
    assert (picked.resources.gpus, picked.resources.walltimes) == ((1, 8), (1800, 86400))
    assert Experiment.model_validate(picked.model_dump(mode="json")) == picked


def test_a_run_is_the_same_whatever_shape_was_picked_and_another_with_another_range() -> None:
    asked = training("1-8")
    picked = in_shape(asked, JobShape(layout=Layout(nodes=2, gpus_per_node=2), walltime_s=7200))
    assert picked.hash() == asked.hash()
    assert training("1-4").hash() != asked.hash()
    one, two = (
        Experiment.model_validate(training().model_dump(mode="json") | {"resources": {"nodes": n}})
        for n in (1, 2)
    )
    assert one.hash() != two.hash()


def test_time_limits_are_within_the_range_and_hold_the_run_where_one_can() -> None:
    limits = time_limits_s((1800, 86400), whole_s=5000, checkpoints_s=[700, 2000])
    assert limits == sorted(set(limits))
    assert all(1800 <= each <= 86400 and each % 60 == 0 for each in limits)
    assert {1800, 5100, 2040} <= set(limits)
    assert max(time_limits_s((1800, 86400), whole_s=1e9)) == 86400
    assert time_limits_s((3600, 3600), whole_s=99) == [3600]
