"""Hash the first batch of a run; every machine that reads the same data gets the same hash."""

import hashlib

from sedd.preflight.context import Answers
from sedd.spec.experiment import Experiment
from sedd.spec.task import TaskSpec

Question = tuple[str, str, int, int]


def first_batch(experiment: Experiment, answers: Answers) -> str:
    """Hash of micro-batch 0: tokens and borders. Raises: DataError, OSError."""
    return answers.once(_question(experiment), lambda: _first_batch(experiment))


def known_first_batch(experiment: TaskSpec, answers: Answers) -> str | None:
    """What `first_batch` has found already; None: no training, or it was not asked, has failed or is still reading."""
    return answers.known(_question(experiment), str) if isinstance(experiment, Experiment) else None


def _question(experiment: Experiment) -> Question:
    """All that the first batch depends on."""
    return (
        "first batch",
        experiment.data.model_dump_json(exclude={"stage"}),
        experiment.training.micro_batch_residues,
        experiment.seed,
    )


def _first_batch(experiment: Experiment) -> str:
    from sedd.data.mixture import training_batches
    from sedd.data.store import TokenStore

    batches = training_batches(
        [TokenStore.open(path) for path in experiment.data.stores],
        experiment.data,
        residues=experiment.training.micro_batch_residues,
        seed=experiment.seed,
    )
    batch = batches.micro_batch(0)
    found = hashlib.sha256(batch.tokens.astype("<i8").tobytes())
    found.update(batch.cu_seqlens.astype("<i4").tobytes())
    return found.hexdigest()[:16]
