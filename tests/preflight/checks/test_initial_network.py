"""The network that a fine-tuning starts from, as preflight sees it."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sedd.conditions.known import describe_known, known_fields
from sedd.finetune.fitting import differences
from sedd.finetune.parent import Parent
from sedd.model.size import VOCABULARY
from sedd.preflight.checks.initial_network import gather, judge
from sedd.preflight.context import CheckContext
from sedd.preflight.finding import Status
from sedd.rundir.events import append_event
from sedd.rundir.layout import create_run
from sedd.spec.conditions import ConditionsSpec
from sedd.spec.experiment import Experiment
from tests.conditions.made_up import build, proteins, write_table
from tests.inference.networks import write_adapters_folder, write_small_checkpoint

MakeContext = Callable[..., CheckContext]
MODEL = {"hidden": 16, "cond": 8, "blocks": 2, "heads": 2}


def verdict(make_context: MakeContext, spec: dict[str, Any]) -> tuple[Status, str]:
    context = make_context(spec)
    facts = gather(context)
    assert facts is not None
    found = judge(facts)
    return found.status, found.saw


def test_a_training_from_the_start_is_not_asked(make_context: MakeContext) -> None:
    assert gather(make_context()) is None


def test_a_fitting_parent_is_named_with_what_learns(
    make_context: MakeContext, tmp_path: Path, built_store: Path
) -> None:
    parent = write_small_checkpoint(tmp_path / "small.pt")
    init = {"network": str(parent), "validation": str(built_store)}
    spec = {"model": MODEL, "training.init": init, "training.lora": {"rank": 1}}
    learning = 2 * (16 + 48 + 16 + 16 + 16 + 64 + 64 + 16)
    assert verdict(make_context, spec) == (
        Status.OK,
        f"small/20261122-100000-aaaa1111, step 4; {learning} parameters learn",
    )


def test_a_parents_missing_store_is_a_warning(make_context: MakeContext, tmp_path: Path) -> None:
    parent = write_small_checkpoint(tmp_path / "small.pt")
    status, saw = verdict(make_context, {"model": MODEL, "training.init": str(parent)})
    assert status is Status.WARN
    assert "/nowhere/small.store is not there" in saw


@pytest.mark.parametrize("ended", [True, False])
def test_a_parent_that_is_still_training_is_a_warning(
    make_context: MakeContext, tmp_path: Path, built_store: Path, ended: bool
) -> None:
    run = create_run(tmp_path / "runs", "small", "20261122-100000-aaaa1111", "x")
    run.manifest.write_text("{}")
    write_small_checkpoint(run.checkpoints / "step-00000004.pt").with_suffix(".json").write_text("{}")
    if ended:
        append_event(run.events, "completed", attempt=1, now=dt.datetime.now(dt.UTC), step=4)
    init = {"network": str(run.path), "validation": str(built_store)}
    status, saw = verdict(make_context, {"model": MODEL, "training.init": init})
    assert (status, "still training" in saw) == ((Status.OK, False) if ended else (Status.WARN, True))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"model": MODEL | {"blocks": 3}}, "its model.blocks is 2, this spec's 3"),
        (
            {"model": MODEL, "diffusion.graph": "uniform"},
            "its diffusion.graph is absorbing, this spec's uniform",
        ),
        ({"model": MODEL, "diffusion.noise": {"kind": "cosine"}}, "its diffusion.noise is loglinear"),
        ({"model": MODEL, "training.freeze": ["head.*"]}, "no parameter's name matches 'head.*'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    spec: dict[str, Any], words: str, make_context: MakeContext, tmp_path: Path
) -> None:
    parent = write_small_checkpoint(tmp_path / "small.pt")
    status, saw = verdict(make_context, {"training.init": str(parent)} | spec)
    assert status is Status.FAIL
    assert words in saw
    assert "\n" not in saw


def test_every_point_of_a_sweep_is_looked_at(make_context: MakeContext, tmp_path: Path) -> None:
    init = {"training.init": str(write_small_checkpoint(tmp_path / "small.pt"))}
    right = make_context({"model": MODEL} | init).experiment
    wrong = make_context({"model": MODEL, "diffusion.graph": "uniform"} | init).experiment
    facts = gather(make_context({"model": MODEL} | init, request=(right, wrong)))
    assert facts is not None
    assert judge(facts).status is Status.FAIL


def test_a_network_that_is_not_there_fails(make_context: MakeContext) -> None:
    assert verdict(make_context, {"training.init": "/nowhere/parent"})[0] is Status.FAIL


def test_adapters_alone_are_no_start_and_the_way_to_one_is_named(
    make_context: MakeContext, tmp_path: Path
) -> None:
    facts = gather(make_context({"training.init": str(write_adapters_folder(tmp_path / "adapters"))}))
    assert facts is not None
    found = judge(facts)
    assert (found.status, "holds adapters alone" in found.saw) == (Status.FAIL, True)
    assert "sedd export family/one -o FOLDER" in (found.hint or "")


def test_a_pattern_of_no_name_is_answered_with_the_names_there_are(
    make_context: MakeContext, tmp_path: Path
) -> None:
    parent = str(write_small_checkpoint(tmp_path / "small.pt"))
    facts = gather(
        make_context({"model": MODEL, "training.init": parent, "training.freeze": ["embeddings.*"]})
    )
    assert facts is not None
    found = judge(facts)
    assert "did you mean 'embedding'?" in found.saw
    assert "names begin with embedding., noise_level., blocks.N." in (found.hint or "")


def test_labels_in_which_a_parent_differs_are_told_in_words(make_context: MakeContext) -> None:
    labels = {
        "fields": {"family": {"kind": "category", "values": 8}, "heat": {"kind": "number", "drop": 0.2}}
    }
    theirs = make_context({"model": MODEL | {"conditions": labels}}).experiment
    assert isinstance(theirs, Experiment)
    parent = Parent(
        path=Path("x"), run="a/b", step=1, sha256="", data_hash="", tokens=VOCABULARY, experiment=theirs
    )
    ours = make_context({"model": MODEL}).experiment
    assert isinstance(ours, Experiment)
    words = (
        "its model.conditions is {family: category of 8 values, heat: number, drop 0.2}, this spec's absent"
    )
    assert differences(parent, ours) == [words]
    assert differences(parent, theirs) == []


def test_a_runs_name_is_answered_with_its_path(make_context: MakeContext, tmp_path: Path) -> None:
    run = create_run(tmp_path, "mine", "20261122-100000-aaaa1111", "x")
    run.manifest.write_text("{}")
    facts = gather(make_context({"training.init": str(tmp_path / "jobs" / "mine")}))
    assert facts is not None
    assert f"`training.init: {tmp_path / 'mine'}`" in (judge(facts).hint or "")


def test_the_moments_of_a_parent_without_labels_do_not_fit_a_network_that_is_told_some(
    make_context: MakeContext,
) -> None:
    theirs = make_context({"model": MODEL}).experiment
    assert isinstance(theirs, Experiment)
    parent = Parent(
        path=Path("x"), run="a/b", step=1, sha256="", data_hash="", tokens=VOCABULARY, experiment=theirs
    )
    labels = {"fields": {"family": {"kind": "category", "values": 8}}}
    for init, problems in (
        ({"network": "x"}, []),
        (
            {"network": "x", "weights": "raw", "optimizer": True},
            ["its optimiser has no state of the embeddings of model.conditions"],
        ),
    ):
        ours = make_context({"model": MODEL | {"conditions": labels}, "training.init": init}).experiment
        assert isinstance(ours, Experiment)
        assert differences(parent, ours) == problems


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (None, Status.OK, "parameters learn"),
        ("20", Status.FAIL, "'heat' is 20 ± 1 in this spec's store, and was standardised by 19.5"),
    ],
)
def test_labels_that_mean_something_else_here_are_told_before_the_queue(
    make_context: MakeContext, tmp_path: Path, number: str | None, status: Status, words: str
) -> None:
    """More values behind those of the parent are none: a store that is built --onto the parent's may have them."""
    of = proteins(40)
    cells = {name: ["ab"[k % 2], str(k)] for k, name in enumerate(of)}
    labels = ["family", *(["heat"] if number else [])]
    rows = {name: row[: len(labels)] for name, row in cells.items()}
    how = {"label_numbers": labels[1:], "validation_fraction": 0.3}
    theirs = build(tmp_path, "theirs", of, labels=write_table(tmp_path / "one.tsv", labels, rows), **how)
    others = proteins(40, seed=1)
    rows = {name: ["abc"[k % 3], *([number] if number else [])] for k, name in enumerate(others)}
    table = write_table(tmp_path / "two.tsv", labels, rows)
    ours = build(tmp_path, "ours", others, labels=table, **how, **({} if number else {"onto": theirs.path}))
    kinds = {"family": {"kind": "category", "values": 4}, "heat": {"kind": "number"}}
    fields = {"fields": {name: kinds[name] for name in labels}}
    known = known_fields(ConditionsSpec.model_validate(fields), [theirs])
    parent = write_small_checkpoint(tmp_path / "small.pt", conditions=fields)
    saved = torch.load(parent, weights_only=True)
    if number:  # which follows from the split
        known = (known[0], dataclasses.replace(known[1], mean=19.5, std=11.0))
    torch.save({**saved, "conditions": describe_known(known)}, parent)
    init = {"network": str(parent), "validation": str(theirs.path)}
    seen, saw = verdict(
        make_context,
        {"model": MODEL | {"conditions": fields}, "training.init": init, "data.store": str(ours.path)},
    )
    assert (seen, words in saw) == (status, True), saw
