"""tools/bench_quality.py on a toy: its split, its results, and that it goes on where it was cut short."""

import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sedd.data.alphabet import encode
from sedd.data.records import read_records
from sedd.data.store import TokenStore
from sedd.launch.local_processes import wait_until
from sedd.rundir.find import list_runs
from sedd.spec.load import load_resolved

PROJECT = Path(__file__).parents[2]
FASTA, CLUSTERS = PROJECT / "jobs/data/uniprot2k.fasta.gz", PROJECT / "jobs/data/uniprot2k_clusters.tsv"


def bench(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "tools/bench_quality.py"), "--tiny", "-o", str(folder)]
    more = ["--residues", "12000", "--draws", "2", "--set", "training.validation.residues=3000"]
    done = subprocess.run(
        [*command, *more, *map(str, arguments)], capture_output=True, text=True, timeout=280, cwd=PROJECT
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("my bench")


def test_without_time_nothing_is_trained_and_the_rest_is_left(folder: Path):
    done = bench(folder, "--arms", "score", "--minutes", 0)
    assert (done.returncode, "resumes here" in done.stdout) == (1, True)
    assert list_runs(folder) == []


def test_relatives_of_a_representative_by_its_hash_are_validation(folder: Path):
    bench(folder, "--arms", "score", "--minutes", 0)
    pairs = (line.split("\t") for line in CLUSTERS.read_text().splitlines())
    held_out = {
        member for name, member in pairs if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100 < 5
    }
    proteins = list(read_records(FASTA))
    expected = [encode(p.text) for p in proteins if p.name.split("|")[1] in held_out]
    split = TokenStore.open(folder / "proteins.store").split("validation")
    found = [split.tokens(number) for number in range(split.sequences)]
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected))
    assert 0.02 < len(found) / len(proteins) < 0.08


def test_each_arm_is_judged_once_beside_the_baselines_and_drawn(folder: Path):
    done = bench(folder, "--arms", "score")
    assert done.returncode == 0, done.stderr
    first = json.loads((folder / "quality.json").read_text())
    assert (
        15 < first["baselines"]["trigram"] < first["baselines"]["bigram"] < first["baselines"]["unigram"] < 19
    )
    done = bench(folder, "--arms", "score", "subs-uniform", "adamw", "--parallel", 2)
    assert done.returncode == 0, done.stderr
    both = json.loads((folder / "quality.json").read_text())
    assert set(both["arms"]) == {"score", "subs-uniform", "adamw"}
    assert both["arms"]["score"] == first["arms"]["score"]
    assert len(list_runs(folder)) == 3, "a finished arm is not trained again"
    for arm in both["arms"].values():
        assert arm["nats"] == pytest.approx(np.log(arm["perplexity"]))
        assert 10 < arm["perplexity"] < 40
        assert arm["curve"][-1][0] == arm["residues"]
    texts = [e.text for e in ElementTree.fromstring((folder / "quality.svg").read_text()).iter() if e.text]
    assert any("subs-uniform" in text for text in texts)
    assert any(text.endswith("trigram") for text in texts)


def test_ctrl_c_lets_the_training_save(tmp_path: Path):
    command = [sys.executable, str(PROJECT / "tools/bench_quality.py"), "--tiny", "-o", str(tmp_path)]
    command += ["--residues", "2e7", "--set", "training.log_every_steps=1"]
    log = tmp_path / "score.log"
    with subprocess.Popen([*command, "--arms", "score"], stderr=subprocess.PIPE, text=True) as process:
        has_begun = wait_until(lambda: log.exists() and "step 2/" in log.read_text(), timeout_s=120)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert has_begun
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped, and saved; the same command resumes here"
    assert re.search(r"interrupted by SIGTERM, saved at step [1-9]", log.read_text())


def test_joined_arms_have_the_changes_of_each_and_the_last_word_on_the_schedule(folder: Path):
    done = bench(folder, "--arms", "power+decay-0.1+dropout-0+warmup-1000", "--minutes", 0)
    assert done.returncode == 1, done.stderr
    spec = load_resolved(folder / "power-decay-0.1-dropout-0-warmup-1000.yaml")
    assert (spec.diffusion.parameterization, spec.diffusion.time_power) == ("subs", 2.0)
    assert (spec.model.dropout, spec.training.weight_decay, spec.training.warmup_steps) == (0.0, 0.1, 1000)


def test_an_arm_that_does_not_exist_is_one_line(folder: Path):
    done = bench(folder, "--arms", "score+socre")
    assert (done.returncode, done.stderr.startswith("error: there is no arm 'socre'\nhint: ")) == (2, True)
