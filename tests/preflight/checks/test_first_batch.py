"""The node's first batch is the login node's, or the job does not train."""

import datetime as dt
import json
import os
import shutil
import time

import pytest

from sedd.data.batches import Batches
from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.preflight.checks import first_batch as check
from sedd.preflight.context import Answers, Side
from sedd.preflight.finding import Fault, Status
from sedd.preflight.read.batch_hash import first_batch, known_first_batch
from sedd.rundir.layout import RunDir


@pytest.fixture
def run_of(tmp_path):
    def make(first):
        run = RunDir(tmp_path / "run")
        run.path.mkdir()
        run.manifest.write_text(json.dumps({"first_batch": first} if first else {}))
        return run

    return make


def look(context):
    return check.judge(check.gather(context))


def test_login_and_node_read_the_same_first_batch(make_context, run_of):
    login = make_context()
    assert look(login).status is Status.OK
    told = known_first_batch(login.experiment, login.answers)
    verdict = look(make_context(side=Side.NODE, run=run_of(told)))
    assert verdict.status is Status.OK
    assert verdict.saw == f"the same as on the login node; its checksum is {told}"


def test_other_data_at_the_same_place_fails(make_context, run_of, built_store, tmp_path):
    own = shutil.copytree(built_store, tmp_path / "own.store")
    spec = {"data.store": str(own)}
    told = first_batch(make_context(spec).experiment, Answers())
    shutil.rmtree(own)
    fasta = built_store.parent / "p.fasta"
    (tmp_path / "p.fasta").write_text(fasta.read_text().replace("A", "C"))
    build_store([tmp_path / "p.fasta"], own, workers=1)
    verdict = look(make_context(spec, side=Side.NODE, run=run_of(told)))
    assert verdict.status is Status.FAIL
    assert told in verdict.saw
    assert str(own) in verdict.saw
    assert check.CHECK.fault is Fault.NODE
    assert verdict.fault is None, "this node may see other data than the others"


@pytest.mark.parametrize(("minutes", "fault"), [(-10, Fault.JOB), (10, None), (0, None)])
def test_a_store_that_was_built_after_the_submission_is_the_jobs_fault(
    make_context, run_of, built_store, tmp_path, minutes, fault
):
    """By what it says of itself: of a copy on this node, which may be damaged, all files are newer."""
    run, copy = run_of("0123456789abcdef"), shutil.copytree(built_store, tmp_path / "copy.store")
    later = time.time() + 3600
    os.utime(copy / "manifest.json", (later, later))
    built = dt.datetime.fromisoformat(TokenStore.open(copy).manifest.created)
    created = built + dt.timedelta(minutes=minutes)
    run.manifest.write_text(json.dumps({"first_batch": "0123456789abcdef", "created": created.isoformat()}))
    verdict = look(make_context({"data.store": str(copy)}, side=Side.NODE, run=run))
    assert (verdict.status, verdict.fault) == (Status.FAIL, fault)


def test_the_hash_is_of_the_very_batch_that_training_takes_first(make_context, monkeypatch):
    experiment = make_context().experiment
    taken = []
    real = Batches.micro_batch
    monkeypatch.setattr(Batches, "micro_batch", lambda self, n: taken.append((self, n)) or real(self, n))
    first_batch(experiment, Answers())
    ((batches, number),) = taken
    assert (number, batches.residues, batches.seed) == (0, 512, experiment.seed)
    longest = TokenStore.open(experiment.data.store).split("train").longest
    assert batches.max_length == min(experiment.data.max_length, longest)


@pytest.mark.parametrize("change", [{"seed": 1}, {"data.max_length": 32}, {"training.residues_per_gpu": 256}])
def test_the_hash_depends_on_all_that_the_batch_does(make_context, change):
    experiment, changed = make_context().experiment, make_context(change).experiment
    assert first_batch(changed, Answers()) != first_batch(experiment, Answers())


def test_the_login_side_reads_it_for_every_seed_of_a_sweep(make_context):
    one = make_context().experiment
    request = tuple(one.model_copy(update={"seed": seed}) for seed in range(3))
    context = make_context(request=request)
    check.gather(context)
    assert len({known_first_batch(experiment, context.answers) for experiment in request} - {None}) == 3


def test_what_was_not_read_is_not_known(make_context):
    assert known_first_batch(make_context().experiment, Answers()) is None


def test_without_the_login_nodes_hash_the_nodes_own_is_said(make_context, run_of):
    assert look(make_context(side=Side.NODE, run=run_of(None))).status is Status.OK


def test_missing_data_is_left_to_the_check_of_the_store(make_context, tmp_path):
    assert check.gather(make_context({"data.store": str(tmp_path / "none.store")})) is None
    assert check.gather(make_context(side=Side.NODE, rank=1)) is None
