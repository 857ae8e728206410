"""A mixture whose stores were split in different ways trains on what it is validated on."""

from pathlib import Path

import pytest

from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.preflight.checks.mixture_split import gather, judge
from sedd.preflight.finding import Status
from sedd.spec.build import BuildOptions


@pytest.fixture
def stores(built_store: Path, tmp_path: Path) -> dict[str, Path]:
    """The same proteins split in the same way, with more in validation, and other proteins."""
    fasta = built_store.parent / "p.fasta"
    (tmp_path / "other.fasta").write_text(
        "".join(f">o{n}\nMKV{'ACDEFGHIKL' * 3}{'A' * n}\n" for n in range(1, 60))
    )
    ways = {"same": (fasta, 0.5), "all train": (fasta, 0.0), "other": (tmp_path / "other.fasta", 0.5)}
    return {
        name: build_store([source], tmp_path / name, BuildOptions(validation_fraction=share)).path
        for name, (source, share) in ways.items()
    }


def hashes(path: Path, split: str) -> set[int]:
    return set(TokenStore.open(path).split(split).hashes.tolist())


def test_the_overlap_is_counted_as_sets_of_sequences_say(make_context, stores: dict[str, Path]) -> None:
    for first in ("same", "other"):
        others = [name for name in stores if name != first]
        mixture = {"stores": [str(stores[name]) for name in others]}
        facts = gather(make_context({"data.store": str(stores[first]), "data.mixture": mixture}))
        held_out = hashes(stores[first], "validation")
        trained_on = held_out & set().union(*(hashes(stores[name], "train") for name in others))
        assert (facts.validation, facts.trained_on) == (len(held_out), len(trained_on))
        verdict = judge(facts)
        assert verdict.status is (Status.WARN if first == "same" else Status.OK)
        assert first != "same" or f"{len(trained_on)} of {len(held_out)} proteins" in verdict.saw
        assert facts.store == (str(stores["all train"]) if first == "same" else "")


def test_one_store_alone_is_not_looked_at(make_context) -> None:
    assert gather(make_context()) is None


def test_a_store_that_is_not_there_is_told_by_another_check(make_context, stores: dict[str, Path]) -> None:
    mixture = {"stores": [str(stores["other"]), "/nowhere"]}
    assert gather(make_context({"data.mixture": mixture})) is None
