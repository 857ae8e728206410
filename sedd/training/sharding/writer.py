"""Write a checkpoint by all ranks at once: each its own part, then rank 0 the file that makes them one checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from sedd.errors import CheckpointError, CheckpointUnavailableError, RunError, SeddError
from sedd.training.checkpoint_file import (
    Part,
    Seal,
    State,
    checkpoint_path,
    write_checkpoint,
    write_state,
)
from sedd.training.distributed import TIMEOUT, Ranks
from sedd.training.sharding.part_files import OF_RANKS, RANKS, SHARDED, part_path


class ShardWriter:
    """Takes the place of `write_checkpoint` where each rank has a part of the state.

    All ranks call it for the same saves, from one thread each. A save fails on all ranks if it fails on one.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._group = dist.new_group(
            backend="gloo", timeout=TIMEOUT
        )  # its own: it is used beside the training

    def __call__(
        self, folder: Path, step: int, state: State, *, before_publishing: Callable[[], None]
    ) -> Seal:
        """Write this rank's part; returns when the whole checkpoint is sealed.

        Raises:
            CheckpointError: any rank could not write its part, or rank 0 the checkpoint.
            RunError: another rank is gone.
        """
        path = checkpoint_path(folder, step)
        part = {key: state[key] for key in OF_RANKS}
        parts = self.on_all(
            lambda: write_state(part_path(path, self._ranks.rank, self._ranks.size), part, before_publishing)
        )
        description = {key: value for key, value in state.items() if key not in OF_RANKS}
        description[SHARDED] = {RANKS: self._ranks.size}

        def publish() -> Seal | None:
            if not self._ranks.is_first:
                return None
            return write_checkpoint(
                folder, step, description, parts=parts, before_publishing=before_publishing
            )

        seal = self.on_all(publish)[0]
        assert isinstance(seal, Seal), "rank 0 has written it"
        return seal

    def give_up(self, problem: str) -> None:
        """Take part in a save that this rank cannot make, so that the others hear of it."""

        def fail() -> Part:
            raise CheckpointUnavailableError(problem)

        try:
            self.on_all(fail)
        except CheckpointError:
            return  # as told

    def on_all(self, work: Callable[[], Any]) -> list[Any]:
        """What `work` returns on each rank, once it has on all; a part of a save that all ranks make.

        Raises:
            CheckpointError, RunError, OSError: on every rank, what it raised on any; or another rank is gone.
        """
        problem: SeddError | OSError | None = None
        result: Any = None
        try:
            result = work()
        except (SeddError, OSError) as e:
            problem = e
        told: list[Any] = [None] * self._ranks.size
        mine = (None if problem is None else f"rank {self._ranks.rank}: {problem}", result)
        try:
            dist.all_gather_object(told, mine, group=self._group)
        except RuntimeError as e:
            raise RunError("another rank ended while a checkpoint was written") from (problem or e)
        if problem is not None:
            raise problem
        if told_problems := [text for text, _ in told if text]:
            raise CheckpointUnavailableError(told_problems[0])
        return [each for _, each in told]
