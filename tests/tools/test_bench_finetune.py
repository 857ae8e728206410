"""tools/bench_finetune.py on a toy: its split keeps relatives on one side, and all of its table is filled."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def relatives() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_relatives", PROJECT / "tools/_relatives.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_relatives"] = module
    spec.loader.exec_module(module)
    return module


def test_no_two_sequences_on_different_sides_are_alike(relatives: ModuleType, tmp_path: Path) -> None:
    random, letters = np.random.default_rng(1), np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    rows = [
        "".join(np.where(random.random(80) < 0.3, random.choice(letters, 80), ancestor))
        for ancestor in random.choice(letters, (12, 80))
        for _ in range(8)
    ]
    (tmp_path / "f.a3m").write_text("".join(f">{n}\n{row[:40]}kk{row[40:]}\n" for n, row in enumerate(rows)))
    family = relatives.read_family(tmp_path / "f.a3m")
    assert set(family.sides) == {"train", "validation", "test"}
    assert family.sequences[0] == f"{rows[0][:40]}KK{rows[0][40:]}"
    for a, side in zip(rows, family.sides, strict=True):
        for b, other in zip(rows, family.sides, strict=True):
            if side != other:
                assert sum(x == y for x, y in zip(a, b, strict=True)) / 80 < family.identity


def test_identity_is_over_the_shorter_ones_residues(relatives: ModuleType) -> None:
    found = relatives.identities(["ACDE", "AC--", "--DF"])
    assert np.allclose(found, [[1, 1, 0.5], [1, 1, 0], [0.5, 0, 1]])


def test_relatives_and_their_clusters_are_left_out(relatives: ModuleType) -> None:
    member = "MKTAYIAKQRQISFVKSHFS"
    family = relatives.Family(name="f", sequences=(member,), sides=("train",), identity=0.3)
    proteins = {"near": "GGG" + member[:9] + "GGG", "its": "WWWWWWWW", "far": "GGG" + member[:8] + "GGG"}
    assert relatives.without_relatives(proteins, {"near": "near", "its": "near"}, [family]) == (["far"], 2)


def test_the_toy_fills_the_table(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "tools/bench_finetune.py"), "--tiny", "-o", str(tmp_path / "o")]
    small = ["--seeds", "1", "--steps", "5", "--draws", "2", "--parent-residues", "9000"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    (family,) = json.loads((tmp_path / "o/finetune.json").read_text())["families"]
    assert family["train"] + family["validation"] + family["test"] == 80
    assert list(family["arms"]) == ["parent", "from scratch", "fine-tuned", "LoRA, rank 16"]
    assert family["arms"]["parent"]["gained"] == 0
    for arm in ("fine-tuned", "LoRA, rank 16"):
        found = family["arms"][arm]
        assert found["gained"] == pytest.approx(family["arms"]["parent"]["nats"] - found["nats"])
        assert "forgotten" in found
    assert (tmp_path / "o/finetune.md").read_text().count("\n") == 9
