"""Embeddings: what they are, that packing does not change them, and what the files hold."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch

from sedd.cli.main import COMMANDS
from sedd.data.alphabet import encode
from sedd.diffusion.conditional import cleanest_level
from sedd.errors import SeddError, UsageError
from sedd.inference.embed import embed
from sedd.inference.embedding_file import WRITERS, write_embeddings
from sedd.spec.inference import EmbedOptions
from tests.command_line import call, sedd
from tests.inference.networks import small_network, write_small_checkpoint

SEQUENCES = [
    encode(text) for text in ("MKTAYIAKQRQISF", "ACD", "W", "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "ACD")
]
ALL = EmbedOptions(layers=(0, 1, 2), pooling="none")


def test_packed_proteins_have_the_states_of_proteins_one_by_one(tmp_path: Path):
    network = small_network(tmp_path)
    packed = embed(network, SEQUENCES, ALL)
    alone = [embed(network, [tokens], ALL) for tokens in SEQUENCES]
    for name, rows in packed.items():
        assert rows.shape == (sum(map(len, SEQUENCES)), 16)
        np.testing.assert_allclose(rows, np.concatenate([one[name] for one in alone]), atol=1e-5)


def test_the_mean_is_that_of_a_proteins_own_residues(tmp_path: Path):
    network = small_network(tmp_path)
    states, means = (
        embed(network, SEQUENCES, ALL.model_copy(update={"pooling": p})) for p in ("none", "mean")
    )
    edges = np.cumsum([len(tokens) for tokens in SEQUENCES])[:-1]
    for name in states:
        expected = [part.mean(0) for part in np.split(states[name], edges)]
        np.testing.assert_allclose(means[name], expected, atol=1e-6)


def test_layers_are_what_the_network_computes_on_its_way(tmp_path: Path):
    """The last layer, through the final norm and output, is the network's own output; the first is the embedding."""
    network = small_network(tmp_path)
    found = embed(network, SEQUENCES[:1], ALL)
    tokens = torch.from_numpy(SEQUENCES[0]).long()
    assert np.array_equal(found["layer_0"], network.model.embedding.weight[tokens].numpy())
    borders = torch.tensor([0, len(tokens)], dtype=torch.int32)
    level = torch.tensor([cleanest_level(network.objective.noise)])
    raw = network.network(borders, len(tokens))(tokens, level)
    final, last = network.model.final, torch.from_numpy(found["layer_2"])
    scale = 1 + final.modulation(network.model.noise_level(level))
    torch.testing.assert_close(final.output(final.norm(last) * scale), raw, atol=1e-4, rtol=1e-4)


def test_negative_layers_count_from_the_end_and_others_are_refused(tmp_path: Path):
    network = small_network(tmp_path)
    assert list(embed(network, SEQUENCES, EmbedOptions(layers=(-1, 2, -3)))) == ["layer_2", "layer_0"]
    for layer in (3, -4):
        with pytest.raises(UsageError, match=f"no layer {layer}"):
            embed(network, SEQUENCES, EmbedOptions(layers=(layer,)))


def test_the_noise_level_reaches_the_network(tmp_path: Path):
    network = small_network(tmp_path)
    low, high = (embed(network, SEQUENCES, EmbedOptions(sigma_bar=level))["layer_2"] for level in (1e-3, 2.0))
    assert np.abs(low - high).max() > 1e-3


def read_back(path: Path) -> tuple[list[str], np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as found:
            return found["names"].tolist(), found["layer_2"]
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, "numpy") as found:
            return json.loads(found.metadata()["names"]), found.get_tensor("layer_2")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    return table["name"].to_pylist(), np.array(table["layer_2"].to_pylist(), np.float32)


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_hold_names_and_states_in_order(tmp_path: Path, suffix: str):
    names = ["b", "a", "ü", "d", "a"]
    states = embed(small_network(tmp_path), SEQUENCES, EmbedOptions())
    parts = [(names[:2], SEQUENCES[:2], {n: r[:2] for n, r in states.items()})]
    parts += [(names[2:], SEQUENCES[2:], {n: r[2:] for n, r in states.items()})]
    write_embeddings(tmp_path / f"e{suffix}", parts, pooled=True)
    found, rows = read_back(tmp_path / f"e{suffix}")
    assert found == names
    assert np.array_equal(rows, states["layer_2"])


def test_parquet_has_a_row_a_residue_where_nothing_is_averaged(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    states = embed(small_network(tmp_path), SEQUENCES[:2], EmbedOptions(pooling="none"))
    write_embeddings(tmp_path / "e.parquet", [(["a", "b"], SEQUENCES[:2], states)], pooled=False)
    table = parquet.read_table(tmp_path / "e.parquet")
    assert "".join(table["residue"].to_pylist()) == "MKTAYIAKQRQISFACD"
    assert table["position"].to_pylist() == [*range(1, 15), 1, 2, 3]
    assert table["name"].to_pylist() == ["a"] * 14 + ["b"] * 3


def test_the_command_writes_the_proteins_of_its_files(tmp_path: Path):
    write_small_checkpoint(tmp_path / "n.pt")
    (tmp_path / "p.fasta").write_text(">one\nMKTAYIAKQRQISF\n>two\nAC-D\n")
    done = sedd(
        "embed", tmp_path / "n.pt", "--fasta", tmp_path / "p.fasta", "-o", tmp_path / "e.npz", "--layer", 2
    )
    assert done.returncode == 0, done.stderr
    assert "layer_2 [2, 16]" in done.stderr.replace("\n", " ")
    names, rows = read_back(tmp_path / "e.npz")
    assert names == ["one", "two"]
    expected = embed(small_network(tmp_path), [SEQUENCES[0], encode("ACD")], EmbedOptions())
    assert np.array_equal(rows, expected["layer_2"])
    for arguments, word in (
        (["-o", tmp_path / "e.csv"], r"must end in \.parquet, \.npz or \.safetensors"),
        (["-o", tmp_path / "e.npz"], "already exists"),
        (["-o", tmp_path / "f.npz", "--pooling", "max"], "--pooling"),
        (["-o", tmp_path / "f.npz", "--layer", 9], "no layer 9"),
    ):
        with pytest.raises(SeddError, match=word) as caught:
            call("embed", tmp_path / "n.pt", "--fasta", tmp_path / "p.fasta", *arguments)
        assert caught.value.exit_code == 2


def test_without_pyarrow_the_hint_names_what_the_command_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    for arguments, instead in (
        (("embed", "-o", tmp_path / "e.parquet"), ".npz or .safetensors"),
        (("evaluate", "--per-sequence", tmp_path / "e.parquet"), ".csv"),
    ):
        command, *options = arguments
        with pytest.raises(UsageError, match="not installed") as caught:
            call(command, "nobody", "--fasta", "p.fasta", *options)
        assert str(caught.value.hint).endswith(f"or a name that ends in {instead}")


def test_no_example_of_a_help_needs_a_package_that_the_quickstart_does_not_install():
    modules = [importlib.import_module(f"sedd.cli.{name}") for name in COMMANDS]
    documented = [
        each for module in modules for each in vars(module).values() if callable(each) and each.__doc__
    ]
    examples = re.findall("Example: .*", "\n".join(each.__doc__ for each in documented))
    assert len(examples) > 20
    assert [example for example in examples if ".parquet" in example] == []
