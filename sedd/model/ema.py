"""Exponential moving average of the weights, used for validation, evaluation and sampling."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """Averages of those of `module`'s parameters that are trained, updated in a few fused kernels.

    The decay warms up as min(decay, (1 + updates) / (10 + updates)), so that the random start is soon forgotten.
    """

    def __init__(
        self,
        module: nn.Module,
        decay: float,
        *,
        rows: Sequence[tuple[str, nn.Parameter]] | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """`rows`: one rank's of each trained parameter, where it averages only those.

        `on_change` is called when they were changed to averages, or back.
        """
        self.decay = decay
        self.updates = 0
        self._on_change = on_change
        every = module.named_parameters() if rows is None else rows
        trained = [(name, each) for name, each in every if each.requires_grad]
        self._names = [name for name, _ in trained]
        self._live = [parameter for _, parameter in trained]
        self._averages = [parameter.detach().clone() for parameter in self._live]
        self._places = {id(parameter): place for place, parameter in enumerate(self._live)}

    @torch.no_grad()
    def update(self) -> None:
        """Move each average towards its parameter by 1 - decay."""
        self.move(moved=set())

    def next_share(self) -> float:
        """The share, 1 - decay, by which the next update moves averages towards their parameters."""
        return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))

    def average_of(self, parameter: Tensor) -> Tensor:
        """The average itself: who moves it tells `move`."""
        return self._averages[self._places[id(parameter)]]

    @torch.no_grad()
    def move(self, moved: set[int]) -> None:
        """Count an update, and move the averages of all parameters but those, by id, that somebody else has moved."""
        rest = [place for place, parameter in enumerate(self._live) if id(parameter) not in moved]
        if rest:
            averages, live = [self._averages[n] for n in rest], [self._live[n].detach() for n in rest]
            torch._foreach_lerp_(averages, live, self.next_share())
        self.updates += 1

    def restart(self) -> None:
        """Begin again at the parameters as they are now."""
        torch._foreach_copy_(self._averages, [p.detach() for p in self._live])
        self.updates = 0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module computes with the averages; afterwards with its own parameters again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        own = [parameter.detach().clone() for parameter in self._live]
        torch._foreach_copy_([p.detach() for p in self._live], self._averages)
        torch._foreach_copy_(self._averages, own)
        self._on_change()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only: loads with weights_only=True. Not to be taken inside `applied`."""
        return {
            "decay": self.decay,
            "updates": self.updates,
            "averages": dict(zip(self._names, self._averages, strict=True)),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the averages and the number of updates; the decay stays this object's own.

        Raises:
            ValueError: the state is of a network with other parameters.
        """
        averages: dict[str, Tensor] = state["averages"]
        if set(averages) != set(self._names):
            odd = sorted(set(averages) ^ set(self._names))
            raise ValueError(f"EMA state of another network: {odd[0]} is not in both")
        for name, average in zip(self._names, self._averages, strict=True):
            average.copy_(averages[name])
        self.updates = int(state["updates"])
