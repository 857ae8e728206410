"""Small stores of made-up proteins; what they hold is known."""

from collections.abc import Callable
from pathlib import Path

import pytest
from proteins import write_fasta

from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.spec.build import BuildOptions


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., TokenStore]:
    """`make_store(sequences, **options)`: a store of these sequences, all in train unless said otherwise."""

    def make(sequences: list[str], **options: object) -> TokenStore:
        number = len(list(tmp_path.glob("store*")))
        fasta = write_fasta(tmp_path / f"made-up-{number}.fasta", sequences)
        chosen = BuildOptions(**{"validation_fraction": 0.0, **options})
        return TokenStore.open(build_store([fasta], tmp_path / f"store{number}", chosen).path)

    return make
