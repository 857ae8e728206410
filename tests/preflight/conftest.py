"""A small real store, and contexts that look at it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sedd.cluster.profile import LocalProfile, Profile
from sedd.preflight.context import CheckContext, Side, Slurm
from sedd.spec.experiment import Experiment


@pytest.fixture(scope="session")
def built_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sedd.data.build import build_store

    folder = tmp_path_factory.mktemp("with space")
    letters = random.Random(0)
    records = [f">p{i}\n{''.join(letters.choices('ACDEFGHIKLMNPQRSTVWY', k=60))}\n" for i in range(200)]
    (folder / "p.fasta").write_text("".join(records))
    build_store([folder / "p.fasta"], folder / "p.store", workers=1)
    return folder / "p.store"


def no_slurm() -> Any:
    raise AssertionError("asked SLURM without need")


@pytest.fixture
def make_context(tmp_path: Path, built_store: Path) -> Callable[..., CheckContext]:
    """A context; `spec` holds dotted overrides of a small experiment, further keywords are the context's own."""

    def make(
        spec: dict[str, Any] | None = None, *, profile: Profile | None = None, **context: Any
    ) -> CheckContext:
        document: dict[str, Any] = {
            "name": "small",
            "data": {"store": str(built_store)},
            "model": {"hidden": 64, "cond": 32, "blocks": 1, "heads": 2},
            "training": {
                "steps": 10,
                "residues_per_step": 512,
                "residues_per_gpu": 512,
                "validation": {"residues": 64},
            },
            "resources": {"gpus_per_node": 0},
        }
        for dotted, value in (spec or {}).items():
            *sections, key = dotted.split(".")
            where = document
            for section in sections:
                where = where.setdefault(section, {})
            where[key] = value
        settings: dict[str, Any] = {
            "side": Side.LOGIN,
            "folder": tmp_path,
            "environ": {"HOME": str(tmp_path)},
            "slurm": Slurm(config=no_slurm, partitions=no_slurm, nodes=no_slurm),
        }
        return CheckContext(
            experiment=Experiment.model_validate(document),
            profile=profile or LocalProfile(executor="local"),
            **settings | context,
        )

    return make
