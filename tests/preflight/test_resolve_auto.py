"""residues_per_gpu: auto becomes the most that a card holds, and says so where it cannot."""

import pytest

from sedd.cluster.profile import LocalProfile, Profile, SlurmProfile
from sedd.errors import SpecError
from sedd.preflight.read.footprint import FITS, activation_bytes, state_bytes
from sedd.preflight.resolve_auto import resolve_auto
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request

GIB = 1 << 30


def site(memory: str | None) -> Profile:
    gpu = {"type": "v100"} | ({"memory": memory} if memory else {})
    return SlurmProfile.model_validate({"executor": "slurm", "partition": "gpu", "gpu": gpu})


def asked(gpus: int = 4, **training: object) -> Experiment:
    training = {"steps": 10, "residues_per_step": 1_048_576, "residues_per_gpu": "auto"} | training
    model = {"hidden": 768, "cond": 128, "blocks": 12, "heads": 12}
    resources = {"gpus_per_node": gpus}
    document = {"name": "x", "data": {"store": "/"}, "model": model, "training": training}
    return Experiment.model_validate(document | {"resources": resources})


def settled(experiment: Experiment, profile: Profile) -> int:
    (found,) = resolve_auto(
        Request(experiments=(experiment,), points=({},), parallel=None), profile
    ).experiments
    assert isinstance(found, Experiment)
    assert isinstance(found.training.residues_per_gpu, int)
    return found.training.residues_per_gpu


@pytest.mark.parametrize("memory", [16, 32])
def test_it_is_the_most_that_fits_and_shares_the_batch_among_the_ranks(memory: int) -> None:
    experiment = asked()
    residues = settled(experiment, site(f"{memory}GiB"))
    state = state_bytes(experiment, capability=None)
    assert 1_048_576 % (residues * 4) == 0
    assert state + activation_bytes(experiment, residues) <= FITS * memory * GIB
    # The next larger share of the batch would not fit.
    more = next(1_048_576 // n for n in range(1_048_576 // residues - 4, 0, -4) if 1_048_576 % n == 0)
    assert state + activation_bytes(experiment, more) > FITS * memory * GIB


def test_a_larger_card_or_recomputed_blocks_take_more() -> None:
    small, large = (settled(asked(), site(memory)) for memory in ("16GiB", "32GiB"))
    assert small < large
    assert small < settled(asked(activation_checkpointing=True), site("16GiB"))


def test_a_number_is_left_alone() -> None:
    assert settled(asked(residues_per_gpu=8192), site(None)) == 8192


def test_a_cpu_takes_a_share_of_the_batch() -> None:
    assert settled(asked(gpus=0), LocalProfile(executor="local")) == 16_384


@pytest.mark.parametrize(("memory", "problem"), [(None, "not known"), ("1GiB", "fits into 1")])
def test_where_it_cannot_be_known_the_spec_is_refused_with_what_to_do(memory: str, problem: str) -> None:
    with pytest.raises(SpecError, match=problem) as error:
        settled(asked(), site(memory))
    assert error.value.hint
