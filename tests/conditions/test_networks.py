"""Networks that are told labels: their shape, what they are at the start, and how labels are hidden in training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sedd.conditions.known import (
    KnownField,
    beyond_training,
    condition_row,
    known_fields,
    label_mismatch,
    label_reader,
)
from sedd.data.alphabet import decode
from sedd.data.batches import Batches, longest_first, validation_batches
from sedd.data.mixture import training_batches
from sedd.diffusion.draws import sequence_noise
from sedd.errors import DataError, UsageError
from sedd.inference.export_transformers import without_conditions
from sedd.model.label_embedding import LABEL_EMBEDDINGS
from sedd.model.size import parameter_count
from sedd.model.transformer import Transformer
from sedd.spec.conditions import ConditionsSpec
from sedd.spec.data import DataSpec
from sedd.spec.model import ModelSpec
from sedd.training.distributed import Ranks
from sedd.training.graphs import GradientGraphs
from sedd.training.loader import DeviceBatch, to_device
from sedd.training.network import LossInputs, build_network, hide_labels, rounded_up
from sedd.training.precision import PRECISIONS
from tests.conditions.made_up import build, labels_of, proteins, write_table
from tests.tiny import tiny_spec

CPU = torch.device("cpu")
SIZE = {"hidden": 16, "cond": 8, "blocks": 2, "heads": 2, "dropout": 0.0}
FIELDS = {"ec": {"kind": "category", "values": 4}, "temp": {"kind": "number"}}
SPEC = ModelSpec.model_validate({**SIZE, "conditions": {"fields": FIELDS}})
TOKENS, BORDERS = torch.arange(12) % 20 + 4, torch.tensor([0, 5, 5, 12], dtype=torch.int32)
LEVELS = torch.tensor([0.3, 1.0, 2.0])


def network(spec: ModelSpec = SPEC, *, learnt: bool = True) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(spec)
    if learnt:
        generator = torch.Generator().manual_seed(1)
        for weight in model.parameters():
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def raw(model: Transformer, labels: torch.Tensor | None = None) -> torch.Tensor:
    return model(TOKENS, BORDERS, LEVELS, max_length=7, labels=labels)


@pytest.mark.parametrize("fields", [FIELDS, {"ec": FIELDS["ec"]}, {"a": FIELDS["temp"], "b": FIELDS["temp"]}])
def test_parameters_are_counted_in_closed_form(fields: dict):
    spec = ModelSpec.model_validate({**SIZE, "conditions": {"fields": fields}})
    assert sum(p.numel() for p in Transformer(spec).parameters()) == parameter_count(spec)
    assert parameter_count(spec) > parameter_count(ModelSpec(**SIZE))


def test_a_network_begins_as_the_one_without_conditions_to_the_bit():
    bare, told = network(ModelSpec(**SIZE), learnt=False), network(learnt=False)
    assert set(bare.state_dict()) == {n for n in told.state_dict() if not n.startswith("conditions.")}
    for model in (bare, told):
        torch.nn.init.normal_(model.final.output.weight, generator=torch.Generator().manual_seed(2))
        for block in model.blocks:
            generator = torch.Generator().manual_seed(3)
            torch.nn.init.normal_(block.modulation.weight, generator=generator)
    labels = torch.tensor([[2.0, 0.5], [torch.nan, torch.nan], [0.0, torch.nan]])
    assert torch.equal(raw(told, labels), raw(bare))
    assert torch.equal(raw(told), raw(bare))


def test_every_sequence_of_a_batch_has_labels_of_its_own():
    model = network()
    labels = torch.tensor([[2.0, 0.5], [1.0, -3.0], [0.0, torch.nan]])
    together = raw(model, labels)
    for number, (first, stop) in enumerate(((0, 5), (5, 5), (5, 12))):
        if stop == first:
            continue
        borders = torch.tensor([0, stop - first], dtype=torch.int32)
        alone = model(
            TOKENS[first:stop], borders, LEVELS[number : number + 1], max_length=7,
            labels=labels[number : number + 1],
        )  # fmt: skip
        torch.testing.assert_close(together[first:stop], alone)
        other = labels.clone()
        other[number] = torch.tensor([3.0, 2.0])
        changed = (raw(model, other) - together).abs().amax(-1) > 1e-4
        assert changed[first:stop].all()
        assert changed.sum() == stop - first


def test_no_labels_are_labels_that_are_all_missing():
    model = network()
    assert torch.equal(raw(model), raw(model, torch.full((3, 2), torch.nan)))
    assert not torch.equal(raw(model), raw(model, torch.zeros(3, 2)))


def test_every_value_and_number_is_another_embedding_and_gradients_reach_only_what_was_told():
    model = network()
    for name, kind in FIELDS.items():
        embed = model.conditions.fields[name]
        assert isinstance(embed, LABEL_EMBEDDINGS[kind["kind"]])
        rows = embed(torch.tensor([torch.nan, 0.0, 1.0, 2.0, 3.0]))
        assert torch.pdist(rows).min() > 1e-3
    assert torch.equal(
        model.conditions.fields["temp"](torch.tensor([9.0])),
        model.conditions.fields["temp"](torch.tensor([50.0])),
    )
    raw(model, torch.tensor([[2.0, torch.nan]] * 3)).square().sum().backward()
    ec, temp = (model.conditions.fields[name].weight.grad for name in ("ec", "temp"))
    assert (ec.abs().sum(1) > 0).tolist() == [False, False, False, True, False]
    assert (temp.abs().sum(1) > 0).tolist() == [True] + [False] * (len(temp) - 1)


def test_activation_checkpointing_and_no_gradient_are_the_same_with_labels():
    model, labels = network().train(), torch.tensor([[2.0, 0.5], [1.0, -3.0], [0.0, torch.nan]])
    raw(model, labels).square().sum().backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing = True
    raw(model, labels).square().sum().backward()
    assert all(torch.equal(p.grad, q) for p, q in zip(model.parameters(), plain, strict=True))


def test_without_its_conditions_a_network_says_what_it_says_without_labels():
    model = network()
    bare = network(ModelSpec(**SIZE))
    bare.load_state_dict(without_conditions(model.state_dict()))
    torch.testing.assert_close(raw(bare), raw(model))


SPEC_OF_DROPS = ConditionsSpec.model_validate(
    {
        "fields": {"a": {"kind": "category", "values": 3, "drop": 0.3}, "b": {"kind": "number"}},
        "drop_all": 0.2,
    }
)


def test_labels_are_hidden_as_often_as_the_spec_says():
    labels = torch.ones(20_000, 2)
    hidden = hide_labels(labels, SPEC_OF_DROPS, sequence_noise(7, 1, torch.arange(20_000))).isnan()
    wanted = {"all": 0.2, "a": 1 - 0.8 * 0.7, "b": 0.2}
    seen = {"all": hidden.all(1), "a": hidden[:, 0], "b": hidden[:, 1]}
    for name, share in wanted.items():
        error = (share * (1 - share) / 20_000) ** 0.5
        assert abs(seen[name].float().mean().item() - share) < 4 * error
    assert hidden[:, 0][hidden[:, 1]].all()  # b is hidden with all the others alone


def test_what_is_hidden_follows_from_counters_alone():
    experiment = tiny_spec(Path("/nowhere"))
    experiment = experiment.model_copy(
        update={"model": ModelSpec.model_validate({**SIZE, "conditions": SPEC_OF_DROPS.model_dump()})}
    )
    tokens, labels = torch.zeros(100, dtype=torch.int64), torch.ones(50, 2)
    borders = torch.arange(51, dtype=torch.int32) * 2

    def told(number: int, seed: int) -> torch.Tensor:
        net = build_network(experiment, Ranks(), PRECISIONS["fp32"], CPU)
        batch = DeviceBatch(number, tokens, borders, 64, labels)
        return net.loss_inputs(batch, part=(0, 1), time_offset=0.1, noise_seed=seed).labels

    first = told(3, 11)
    torch.rand(17)
    assert torch.equal(told(3, 11).isnan(), first.isnan())
    assert not torch.equal(told(3, 12).isnan(), first.isnan())
    batch = rounded_up(DeviceBatch(0, tokens, borders, 64, labels))
    assert batch.labels.shape == (64, 2)
    assert batch.labels[50:].isnan().all()


class Again:
    """A recording that does the work again, as a graph does: into the same gradients."""

    def __init__(self, model: Transformer, work) -> None:
        work()
        self.work, self.parameters = work, list(model.parameters())
        self.gradients = [p.grad for p in self.parameters]

    def replay(self) -> None:
        self.work()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            gradient.copy_(parameter.grad)


def test_a_recorded_gradient_is_that_of_the_labels_of_its_batch():
    model = network().train()

    def gradient(given: LossInputs) -> torch.Tensor:
        told = model(given.tokens, given.cu_seqlens, given.times, max_length=7, labels=given.labels)
        loss = told.square().sum(dtype=torch.float64)
        loss.backward()
        return loss.detach()

    graphs = GradientGraphs(model, gradient, lambda work: Again(model, work))
    for labels in ([[0.0, 0.5]] * 3, [[2.0, torch.nan]] * 3, [[torch.nan, 1.0]] * 3):
        inputs = LossInputs(TOKENS, BORDERS, LEVELS, TOKENS * 7, torch.tensor(labels))
        model.zero_grad(set_to_none=True)
        wanted = gradient(inputs)
        by_hand = [p.grad.clone() for p in model.parameters()]
        model.zero_grad(set_to_none=True)
        assert torch.equal(graphs(inputs, is_alone=True), wanted)
        assert all(torch.equal(p.grad, q) for p, q in zip(model.parameters(), by_hand, strict=True))


def test_another_condition_is_another_spec():
    made = [tiny_spec(Path("/nowhere"))]
    for drop in (0.0, 0.5):
        conditions = {"fields": FIELDS, "drop_all": drop}
        shape = ModelSpec.model_validate({**SIZE, "conditions": conditions})
        made.append(made[0].model_copy(update={"model": shape}))
    assert len({spec.hash() for spec in made}) == 3


OF = proteins(300)
ROWS = {name: ["abcd"[n % 4] if n % 3 else "", str(20 + n % 50)] for n, name in enumerate(OF)}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("labelled")
    table = write_table(folder / "t.tsv", ["ec", "temp"], ROWS)
    return build(folder, "store", OF, labels=table, label_numbers=("temp",))


def test_batches_carry_the_labels_of_every_piece(labelled):
    fields = known_fields(SPEC.conditions, [labelled])
    family, heat = labels_of(labelled, "ec"), labels_of(labelled, "temp")
    values, mean, std = fields[0].values, fields[1].mean, fields[1].std
    batches = Batches(labelled, max_length=40, residues=300, seed=1, labels=label_reader(fields))
    checked = 0
    for batch in (
        batches.micro_batch(2),
        longest_first(batches.micro_batch(5)),
        *validation_batches(
            labelled, residues_total=400, residues_per_batch=200, max_length=40, labels=label_reader(fields)
        ),
    ):
        assert batch.labels.shape == (len(batch.cu_seqlens) - 1, 2)
        for number, (first, stop) in enumerate(zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False)):
            piece = decode(batch.tokens[first:stop].astype(np.uint8))
            if len(piece) < 8:  # may be in several
                continue
            (whole,) = (sequence for sequence in family if piece in sequence)
            code, z = batch.labels[number]
            assert (None if np.isnan(code) else values[int(code)]) == family[whole]
            assert z == pytest.approx((heat[whole] - mean) / std, abs=1e-5)
            checked += 1
    assert checked > 20


def test_labels_come_to_the_device_with_their_batch_and_change_nothing_else(labelled):
    reader = label_reader(known_fields(SPEC.conditions, [labelled]))
    data = DataSpec(store=labelled.path, max_length=40)
    told, bare = (
        to_device(
            training_batches([labelled], data, residues=300, seed=1, labels=labels).micro_batch(4), 4, CPU
        )
        for labels in (reader, None)
    )
    assert torch.equal(told.tokens, bare.tokens)
    assert torch.equal(told.cu_seqlens, bare.cu_seqlens)
    assert told.labels.dtype == torch.float32
    assert bare.labels is None


def test_a_store_without_labels_may_be_mixed_in(labelled, tmp_path: Path):
    other = build(tmp_path, "other", proteins(50, seed=8))
    fields = known_fields(SPEC.conditions, [other, labelled])
    data = DataSpec.model_validate(
        {"store": other.path, "mixture": {"stores": [labelled.path]}, "max_length": 40}
    )
    batches = training_batches([other, labelled], data, residues=600, seed=0, labels=label_reader(fields))
    batch = batches.micro_batch(0)
    assert len(batch.labels) == len(batch.cu_seqlens) - 1
    seen = np.isnan(batch.labels[:, 1])
    assert 0 < seen.sum() < len(seen)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ecc": FIELDS["ec"]}, r"names 'ecc'; the labels of .* are ec, temp"),
        ({"ec": {"kind": "number"}}, r"fields\.ec\.kind is number; in .* it is a category"),
        ({"ec": {"kind": "category", "values": 3}}, r"fields\.ec\.values is 3; .* has 4 values"),
    ],
)
def test_labels_that_do_not_fit_the_spec_are_one_clear_line(labelled, fields: dict, said: str):
    with pytest.raises(DataError, match=said):
        known_fields(ConditionsSpec.model_validate({"fields": fields}), [labelled])


def test_a_store_without_any_labels_or_with_other_values_is_refused(labelled, tmp_path: Path):
    bare = build(tmp_path, "bare", proteins(20, seed=9))
    with pytest.raises(DataError, match="has no labels"):
        known_fields(SPEC.conditions, [bare])
    table = write_table(
        tmp_path / "t", ["ec", "temp"], {n: ["d" * (k % 2 + 1), "1"] for k, n in enumerate(OF)}
    )
    other = build(tmp_path, "other", OF, labels=table, label_numbers=("temp",))
    with pytest.raises(DataError, match="'ec' has other values"):
        known_fields(SPEC.conditions, [labelled, other])


def test_a_number_that_the_training_data_does_not_reach_is_remarked_on_and_taken(labelled, tmp_path):
    """The ends are those of all stores; the ends themselves, and labels of other kinds, draw no remark."""
    column = labelled.split("train").label("temp")
    low, high = float(np.nanmin(column)), float(np.nanmax(column))
    (field,) = (f for f in known_fields(SPEC.conditions, [labelled]) if f.name == "temp")
    assert (field.low, field.high) == (low, high)
    for inside in (low, high, str(high), (low + high) / 2):
        assert not list(beyond_training([field], {"temp": inside, "ec": "c"}))
    for outside in (low - 1, f"{high + 100}", 1e300):
        (line,) = beyond_training([field], {"temp": outside})
        assert f"{float(outside):g}" in line
        assert f"{low:g} to {high:g}" in line
    assert not list(beyond_training([dataclasses.replace(field, low=None, high=None)], {"temp": 1e9}))


def test_a_condition_is_read_as_the_network_knows_it(labelled):
    fields = known_fields(SPEC.conditions, [labelled])
    row = condition_row(fields, {"temp": "55", "ec": "c"})
    assert fields[0].values[int(row[0])] == "c"
    assert row[1] == pytest.approx((55 - fields[1].mean) / fields[1].std, abs=1e-6)
    assert np.isnan(condition_row(fields, {"temp": 55})[0])
    for condition, said in (
        ({"tmp": 1}, "no condition 'tmp': it has ec, temp"),
        ({"ec": "e"}, "condition ec is 'e', which is none of the 4 values"),
        ({"ec": 3.2}, "a number, not one of its values"),
        ({"temp": "hot"}, "it must be a number"),
    ):
        with pytest.raises(UsageError, match=said):
            condition_row(fields, condition)
    with pytest.raises(UsageError, match="trained without conditions"):
        condition_row((), {"ec": "a"})


def test_labels_of_a_parent_mean_the_same_where_a_store_has_more_values_behind_them():
    family = KnownField(name="family", kind="category", values=("x", "y"))
    heat = KnownField(name="heat", kind="number", mean=3.0, std=2.0)
    more = dataclasses.replace(family, values=("x", "y", "z"))
    assert label_mismatch((family, heat), (more, dataclasses.replace(heat, low=0.0))) is None
    for own, told in (
        (dataclasses.replace(family, values=("y", "x")), "other values of 'family' than"),
        (dataclasses.replace(family, values=("x",)), "other values of 'family' than"),
        (dataclasses.replace(heat, mean=3.5), "'heat' is 3.5 ± 2 in this spec's store"),
    ):
        ours = [own if own.name == field.name else field for field in (family, heat)]
        found = label_mismatch((family, heat), ours)
        assert found is not None
        assert told in found[0]
