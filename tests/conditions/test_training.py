"""A small network that is told which of two populations a sequence is of, from the table to the sample."""

import json
import random
import warnings
from pathlib import Path

import pytest
import torch

import sedd
from sedd.errors import UsageError
from sedd.inference.export import write_export
from sedd.inference.work import WORK, Job
from sedd.rundir.layout import RunDir, create_run
from sedd.spec.inference import EmbedTask, EvaluateTask, SampleTask, ScoreTask
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint_file import read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.loop import Outcome, train
from sedd.training.stop import StopFlag
from tests.command_line import call
from tests.conditions.made_up import build, write_table
from tests.tiny import tiny_spec, train_process

LETTERS = {"acid": "ACDE", "basic": "KLMR"}
CONDITIONS = {
    "fields": {"family": {"kind": "category", "values": 3}, "heat": {"kind": "number", "drop": 0.3}}
}


def tiny_run(folder: Path, **training: object) -> RunDir:
    """A run on two populations of 150 proteins, each of its own letters; `heat` is 20 in one and 80 in the other."""
    folder.mkdir(exist_ok=True)
    draw, of, rows = random.Random(0), {}, {}
    for number in range(300):
        family = ("acid", "basic")[number % 2]
        of[f"P{number}"] = "".join(draw.choices(LETTERS[family], k=draw.randint(20, 40)))
        rows[f"P{number}"] = [family, str(20 + 60 * (number % 2))]
    table = write_table(folder / "labels.tsv", ["family", "heat"], rows)
    store = build(folder, "store", of, labels=table, label_numbers=("heat",), validation_fraction=0.1)
    spec = tiny_spec(store.path, **training)
    shape = spec.model.model_validate({**spec.model.model_dump(), "hidden": 32, "conditions": CONDITIONS})
    experiment = spec.model_copy(update={"model": shape})
    return create_run(folder / "runs", "tiny", "run", dump_resolved(experiment))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = tiny_run(
        tmp_path_factory.mktemp("learnt"),
        steps=260,
        learning_rate=1e-2,
        residues_per_gpu=512,
        ema_decay=0.98,
        checkpoint={"every_steps": 260},
        validation={"every_steps": 260, "residues": 512},
    )
    assert (
        train(run, attempt=1, ranks=Ranks(), stop=StopFlag(), notify=lambda text: None) is Outcome.COMPLETED
    )
    return run


def share(sequences: list[str], family: str) -> float:
    """Of their residues, those with letters of a family."""
    return sum(letter in LETTERS[family] for s in sequences for letter in s) / sum(map(len, sequences))


def network(run: RunDir) -> "sedd.inference.api.Network":  # type: ignore[name-defined]
    return sedd.load(next(run.checkpoints.glob("*.pt")))


HOW = {"length": 30, "steps": 20, "seed": 1}


def test_samples_are_of_the_population_that_the_label_names(learnt: RunDir):
    net = network(learnt)
    for family in LETTERS:
        assert share(net.sample(20, condition={"family": family}, **HOW), family) > 0.9
        assert share(net.sample(20, condition={"family": family}, guidance=3, **HOW), family) > 0.97
    assert share(net.sample(20, condition={"heat": 80}, guidance=2, **HOW), "basic") > 0.9
    assert share(net.sample(20, condition={"heat": 20, "family": "acid"}, **HOW), "acid") > 0.9


def test_guidance_0_and_1_are_the_unconditional_and_the_conditional_samples_to_the_bit(learnt: RunDir):
    net, acid = network(learnt), {"family": "acid"}
    assert net.sample(4, condition=acid, guidance=0, **HOW) == net.sample(4, **HOW)
    assert net.sample(4, condition=acid, guidance=1, **HOW) == net.sample(4, condition=acid, **HOW)
    assert net.sample(4, condition=acid, **HOW) == net.under(acid).sample(4, **HOW)
    assert repr(net.under(acid)) == f"{repr(net)[:-1]}, under family=acid>"
    assert net.sample(4, condition=acid, **HOW) != net.sample(4, **HOW)


def test_a_call_changes_of_condition_and_guidance_what_it_names_and_the_rest_stays(learnt: RunDir):
    net, acid, guide = network(learnt), {"family": "acid"}, {"guide": "tests.conditions.charge_guide:make=W"}
    both = net.sample(4, condition=acid, guidance=2, **guide, **HOW)
    assert net.under(acid, guidance=2).sample(4, **guide, **HOW) == both
    assert net.under({}, **guide).sample(4, condition=acid, guidance=2, **HOW) == both
    assert net.under({}, **guide).under(acid).sample(4, guidance=2, **HOW) == both
    assert net.under(acid, guidance=3, **guide).sample(4, guidance=2, **HOW) == both
    assert net.under(acid, guidance=2).sample(4, guidance=1, **HOW) == net.sample(4, condition=acid, **HOW)
    assert net.under(acid).sample(4, condition={}, **HOW) == net.sample(4, **HOW)
    parent, far = "KRNQKRNQKRNQ", {"noise": 0.9, "steps": 8, "seed": 1}
    told = net.redesign(parent, 3, condition=acid, **guide, **far)
    assert net.under(acid).redesign(parent, 3, **guide, **far) == told
    assert told != net.redesign(parent, 3, **guide, **far)


def test_likelihoods_and_scores_under_a_label_favour_its_own_population(learnt: RunDir):
    net = network(learnt)
    acid = ["ACDEACDDEECA", "CADDECAACDEE"]
    told = {f: net.evaluate(acid, condition={"family": f}, draws=8).bound.nats_per_residue for f in LETTERS}
    untold = net.evaluate(acid, draws=8).bound.nats_per_residue
    assert told["acid"] < untold < told["basic"]
    by = {f: net.score("ACDEACDDEECA", ["A1K"], condition={"family": f}).score("masked")[0] for f in LETTERS}
    assert by["acid"] < by["basic"]
    one, other = (net.embed(acid, condition={"family": f})["layer_1"] for f in LETTERS)
    assert abs(one - other).max() > 1e-3
    assert (net.under({"family": "acid"}).embed(acid)["layer_1"] == one).all()


def test_infilling_follows_the_label_and_keeps_what_is_given(learnt: RunDir):
    found = network(learnt).sample(8, template="W{12}_W", condition={"family": "basic"}, guidance=2, steps=20)
    assert all(s[0] == s[-1] == "W" for s in found)
    assert share([s[1:-1] for s in found], "basic") > 0.9


def test_an_export_keeps_what_the_network_knows_of_labels(learnt: RunDir, tmp_path: Path):
    saved = read_checkpoint(next(learnt.checkpoints.glob("*.pt")))
    assert [field["name"] for field in saved["conditions"]] == ["family", "heat"]
    write_export(saved, tmp_path / "export")
    condition = {"family": "basic", "heat": 75}
    exported, own = sedd.load(tmp_path / "export"), network(learnt)
    assert exported.trained.conditions == own.trained.conditions
    assert exported.sample(2, condition=condition, **HOW) == own.sample(2, condition=condition, **HOW)
    sequence = "ACDEKLMR"
    tokens = torch.tensor([5, 23, 13, 9, 15, 4, 20, 10])  # as the alphabet has them
    lines = (tmp_path / "export/README.md").read_text().split("```")[1].removeprefix("python\n")
    names: dict[str, object] = {}
    exec(
        lines.replace('"config.json"', f'"{tmp_path}/export/config.json"').replace(
            '"model.safetensors"', f'"{tmp_path}/export/model.safetensors"'
        ),
        names,
    )
    (wanted,) = exported.logits(sequence, sigma_bar=0.5)
    torch.testing.assert_close(names["logits"](tokens, 0.5), torch.from_numpy(wanted), atol=1e-4, rtol=1e-4)


def test_the_commands_take_labels(learnt: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint, fasta = next(learnt.checkpoints.glob("*.pt")), tmp_path / "out.fasta"
    labels = ("--condition", "family=basic", "--condition", "heat=80")
    call(
        "sample",
        checkpoint,
        "-n",
        6,
        "--length",
        30,
        "--steps",
        20,
        *labels,
        "--guidance",
        "2.0",
        "-o",
        fasta,
    )
    header, *_ = fasta.read_text().splitlines()
    assert " family=basic heat=80 guidance=2 " in header
    sequences = [line for line in fasta.read_text().splitlines() if not line.startswith(">")]
    assert share(sequences, "basic") > 0.9
    capsys.readouterr()
    call("evaluate", checkpoint, "--fasta", fasta, "--draws", 4, "--json", *labels, "--against", checkpoint)
    found = json.loads(capsys.readouterr().out)
    assert found["condition"] == {"family": "basic", "heat": "80"}
    assert found["against"]["bound"]["nats_per_residue"] < 0
    call("evaluate", checkpoint, "--fasta", fasta, "--draws", 2, *labels, "--against", checkpoint)
    first, _, compared, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(", given family=basic, heat=80")
    assert compared.endswith(", without the condition (below 0: better):")
    for bad, said in (("family", "--condition is 'family'"), ("heat=", "--condition is 'heat='")):
        with pytest.raises(UsageError, match=said):
            call("sample", checkpoint, "--condition", bad)
    with pytest.raises(UsageError, match="names 'heat' twice"):
        call("sample", checkpoint, "--condition", "heat=1", "--condition", "heat=2")


def test_a_job_draws_what_the_command_draws(learnt: RunDir, tmp_path: Path):
    checkpoint, fasta = next(learnt.checkpoints.glob("*.pt")), tmp_path / "out.fasta"
    wanted = {"count": 3, "length": 20, "steps": 8, "report": False}
    asked = {"condition": {"family": "acid", "heat": 20}, "guidance": 1.5}
    task = SampleTask.model_validate(
        {"name": "s", "task": "sample", "sample": {"network": str(checkpoint), **wanted, **asked}}
    )
    run = create_run(tmp_path / "runs", "s", "run", dump_resolved(task))
    WORK["sample"].do(Job(run, task, lambda done, of: None, print))
    labels = ("--condition", "family=acid", "--condition", "heat=20", "--guidance", 1.5)
    call("sample", checkpoint, "-n", 3, "--length", 20, "--steps", 8, *labels, "-o", fasta)
    assert (run.samples / "samples.fasta").read_text() == fasta.read_text()


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"fam": "acid"}, "no condition 'fam': it has family, heat"),
        ({"family": "neutral"}, "condition family is 'neutral', which is none of the 2 values"),
        ({"heat": "warm"}, "must be a number"),
    ],
)
def test_a_label_that_the_network_does_not_know_is_one_clear_line(learnt: RunDir, condition: dict, said: str):
    with pytest.raises(UsageError) as error:
        network(learnt).sample(1, condition=condition)
    assert said in error.value.message
    with pytest.raises(UsageError, match="guidance weights a condition, and there is none"):
        network(learnt).sample(1, guidance=2)


def test_every_way_to_ask_remarks_on_a_number_beyond_the_training_data(learnt: RunDir, tmp_path: Path):
    """`heat` is 20 or 80 there."""
    net, far, said = (
        network(learnt),
        {"heat": 200},
        "condition heat is 200, and the network has seen 20 to 80",
    )
    asked = (
        lambda how: net.sample(1, condition=how, **HOW),
        lambda how: net.evaluate("ACDE", condition=how),
        lambda how: net.score("ACDE", ["A1K"], condition=how),
        lambda how: net.embed("ACDE", condition=how),
        lambda how: net.under(how),
    )
    for ask in asked:
        with pytest.warns(UserWarning, match=said):
            ask(far)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ask({"heat": 80})
    proteins = tmp_path / "p.fasta"
    proteins.write_text(">a\nACDEACDEAC\n")
    lines: list[str] = []
    checkpoint = next(learnt.checkpoints.glob("*.pt"))
    for task, section in (
        (SampleTask, {"count": 1, "length": 10, "steps": 4, "report": False}),
        (EvaluateTask, {"fasta": [proteins]}),
        (ScoreTask, {"wild_types": [proteins], "page": False}),
        (EmbedTask, {"fasta": [proteins]}),
    ):
        name = task.model_fields["task"].annotation.__args__[0]
        spec = {"name": "a", "task": name, name: {"network": checkpoint, "condition": far, **section}}
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        WORK[name].do(Job(run, task.model_validate(spec), lambda done, of: None, lines.append))
    assert [line.startswith(f"note: {said}") for line in lines] == [True] * 4


def test_an_interrupted_training_with_labels_is_the_undisturbed_one_to_the_bit(tmp_path: Path):
    short = {
        "steps": 12,
        "checkpoint": {"every_steps": 4},
        "validation": {"every_steps": 12, "residues": 512},
    }
    whole, broken = tiny_run(tmp_path, **short), tiny_run(tmp_path / "again", **short)
    assert train_process(whole) == 0
    assert train_process(broken, end="kill:6") != 0
    assert train_process(broken, attempt=2) == 0
    one, other = (read_checkpoint(run.checkpoints / "step-00000012.pt") for run in (whole, broken))
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    told = [name for name in one["model"] if name.startswith("conditions.")]
    assert all(one["model"][name].abs().sum() > 0 for name in told)
    assert len(told) == 2
    # Two ranks hide the same labels and add up the same gradient, but for the order of its sums.
    shared = tiny_run(tmp_path / "shared", **short)
    assert train_process(shared, ranks=2) == 0
    by_two = read_checkpoint(shared.checkpoints / "step-00000012.pt")
    for name, weight in one["model"].items():
        torch.testing.assert_close(by_two["model"][name], weight, atol=1e-4, rtol=1e-3)
