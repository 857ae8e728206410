"""Exports without this package: the README's thirty lines of torch, and transformers with code of its own."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sedd
from sedd.data.alphabet import TOKENS, encode
from sedd.errors import CheckpointError
from sedd.finetune.parent import read_parent
from sedd.inference.export import write_export
from sedd.inference.export_transformers import write_transformers_export
from sedd.rundir.layout import RunDir
from sedd.training.checkpoint_file import read_checkpoint
from tests.inference.networks import write_small_checkpoint

SEQUENCES = ["MKTAY_AKQR", "MK_AW", "ACDEFGHIKLMNPQRSTVWY", "MK"]


def saved(folder: Path, **kind: Any):
    return read_checkpoint(write_small_checkpoint(folder / "small.pt", **kind))


@pytest.mark.parametrize("token_shift", [0, 3])
def test_the_readme_of_an_export_computes_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token_shift: int
):
    write_export(saved(tmp_path, hidden=32, token_shift=token_shift), tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    monkeypatch.chdir(tmp_path / "out")
    space: dict[str, object] = {}
    exec(code, space)
    net = sedd.load(tmp_path / "small.pt", device="cpu")
    for sequence in SEQUENCES[2:]:  # one shorter than the token shift reaches
        tokens = torch.from_numpy(encode(sequence)).long()
        found = space["logits"](tokens, 0.3).numpy()  # type: ignore[operator]
        (expected,) = net.logits(sequence, sigma_bar=0.3)
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)


def folder_of(tmp_path: Path, **kind: Any) -> Path:
    write_transformers_export(saved(tmp_path, **kind), tmp_path / "hf")
    return tmp_path / "hf"


def test_an_export_for_transformers_is_told_to_be_one(tmp_path: Path):
    folder = folder_of(tmp_path)
    for read in (sedd.load, read_parent):
        with pytest.raises(CheckpointError, match=r"--format hf.*reads plain exports") as caught:
            read(folder)
        assert caught.value.hint == "sedd export RUN -o FOLDER"


def test_no_export_tells_where_it_was_made(tmp_path: Path):
    write_export(saved(tmp_path), tmp_path / "plain")
    for folder in (folder_of(tmp_path), tmp_path / "plain"):
        for path in folder.iterdir():
            assert b"/nowhere" not in path.read_bytes(), path.name
            assert os.fsencode(tmp_path) not in path.read_bytes(), path.name


def test_the_tokenizer_has_our_tokens_in_their_order(tmp_path: Path):
    assert (folder_of(tmp_path) / "vocab.txt").read_text().split() == list(TOKENS)


def test_the_code_of_an_export_imports_torch_and_transformers_alone(tmp_path: Path):
    code = (folder_of(tmp_path) / "modeling_sedd.py").read_text()
    modules = set(re.findall(r"^(?:from|import) (\w+)", code, re.M))
    assert modules == {"math", "dataclasses", "torch", "transformers"}
    compile(code, "modeling_sedd.py", "exec")


def test_the_card_says_what_the_run_and_its_evaluation_found(tmp_path: Path):
    run = RunDir(tmp_path / "runs/small/1")
    run.checkpoints.mkdir(parents=True)
    run.manifest.write_text(json.dumps({"git": {"commit": "abc123", "dirty": None}, "gpus": 2}))
    network = saved(tmp_path)
    found = {"step": network["step"], "nats_per_residue": 2.5, "standard_error": 0.01}
    run.evaluation.write_text(json.dumps(found))
    run.events.write_text(
        '{"t": "2026-11-29T08:00:00.000+00:00", "event": "attempt_started", "attempt": 1}\n'
        '{"t": "2026-11-29T09:30:00.000+00:00", "event": "completed", "attempt": 1}\n'
    )
    write_transformers_export(network, tmp_path / "hf", run=run, license_name="mit")
    card = (tmp_path / "hf/README.md").read_text()
    for word in (
        "license: mit",
        "abc123",
        "2.5000 ± 0.0100",
        "| used | 3.00 GPU-hours |",
        "| residues seen | 2,048 |",
        "0" * 32,
        "What it is not for",
    ):
        assert word in card


CHECK = """
import json, sys
import torch
from transformers import AutoModel, AutoTokenizer
assert "sedd" not in sys.modules
folder, texts = sys.argv[1], json.loads(sys.argv[2])
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
texts = [text.replace("_", "<mask>") for text in texts]
with torch.no_grad():
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    together = model(**batch).logits
    bare = [tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"] for text in texts]
    alone = [model(ids).logits[0] for ids in bare]
    assert model(**batch).hidden_states is None
    whole = tokenizer([text for text in texts if "<" not in text], return_tensors="pt", padding=True)
    states = model(**whole, output_hidden_states=True).hidden_states
    assert len(states) == model.config.num_hidden_layers + 1
    for layer, state in enumerate(states):
        for row, expected in zip(state, json.loads(sys.argv[3])[f"layer_{layer}"], strict=True):
            assert (row[1 : 1 + len(expected)] - torch.tensor(expected)).abs().max() < 2e-4
assert tokenizer.model_max_length == model.config.max_length + 2
packed = [row[1 : 1 + len(one)] for row, one in zip(together, alone)]
if model.config.graph == "absorbing":
    from transformers import AutoModelForMaskedLM, pipeline
    filler = AutoModelForMaskedLM.from_pretrained(folder, trust_remote_code=True).eval()
    rows = pipeline("fill-mask", model=filler, tokenizer=tokenizer, top_k=33)(texts[0])
    hidden = model(**tokenizer(texts[0], return_tensors="pt")).logits[0, 1 + texts[0].index("<")]
    expected = torch.softmax(hidden[:32], -1)
    for row in rows:
        share = expected[row["token"]].item() if row["token"] < 32 else 0.0
        assert abs(row["score"] - share) < 1e-5, (row, share)
print(json.dumps({"alone": [one.tolist() for one in alone], "packed": [one.tolist() for one in packed]}))
"""


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="pip install transformers")
@pytest.mark.parametrize(("graph", "token_shift"), [("absorbing", 0), ("uniform", 0), ("absorbing", 3)])
def test_transformers_loads_it_and_computes_our_logits(tmp_path: Path, graph: str, token_shift: int):
    folder = folder_of(tmp_path, graph=graph, hidden=32, token_shift=token_shift)
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    texts = SEQUENCES if graph == "absorbing" else [text.replace("_", "A") for text in SEQUENCES]
    net = sedd.load(tmp_path / "small.pt", device="cpu")
    kept = [text for text in texts if "_" not in text]
    states = net.embed(kept, layers=(0, 1, 2), pooling="none")
    told = json.dumps({name: [row.tolist() for row in rows] for name, rows in states.items()})
    command = [sys.executable, "-P", "-c", CHECK, str(folder), json.dumps(texts), told]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for kind in ("alone", "packed"):
        for one, expected in zip(
            found[kind], sedd.load(tmp_path / "small.pt", device="cpu").logits(texts), strict=True
        ):
            np.testing.assert_allclose(one, expected, atol=2e-5, rtol=1e-5)
