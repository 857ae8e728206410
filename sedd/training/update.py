"""Take one optimiser step: forward, backward, clipping, optimiser, EMA, without a wait on the GPU."""

import contextlib
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from sedd.spec.experiment import Experiment
from sedd.training.distributed import Ranks
from sedd.training.graphs import GradientGraphs
from sedd.training.loader import DeviceBatch
from sedd.training.network import LossInputs, Network
from sedd.training.one_pass import OnePassAdamW
from sedd.training.reduction.afterwards import SumAfterwards
from sedd.training.reduction.ordered import OrderedSum, pairing
from sedd.training.schedule import learning_rate
from sedd.training.seeds import DROPOUT, NOISE, TIMES, counter_seed, unit_interval
from sedd.training.sharding.step import clip_and_step as sharded_clip_and_step
from sedd.training.train_state import TrainState


class Update:
    """Makes steps of one experiment."""

    def __init__(
        self,
        experiment: Experiment,
        network: Network,
        ranks: Ranks,
        *,
        on_computed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_computed` is called when this rank's gradient is computed, before it waits for other ranks'."""
        self.experiment, self.network, self.ranks = experiment, network, ranks
        self._on_computed = on_computed
        self._graphs: GradientGraphs | None = None
        self._ordered: OrderedSum | None = None
        self._afterwards: SumAfterwards | None = None

    def __call__(self, state: TrainState, batches: Sequence[DeviceBatch]) -> torch.Tensor:
        """Take the next step; returns the gradient's norm before clipping, still on the device."""
        step = state.step + 1
        loss = self.accumulate_gradient(state, batches, step)
        state.loss_sum += self._over_ranks(loss)
        state.loss_steps += 1
        norm = self._apply(state, learning_rate(step, self.experiment.training))
        state.step = step
        return norm

    def accumulate_gradient(
        self, state: TrainState, batches: Sequence[DeviceBatch], step: int
    ) -> torch.Tensor:
        """Accumulate, in `grad` of the weights, the gradient of the global batch's mean loss per residue.

        Returns this rank's share of that loss; with an ordered sum one entry a micro-batch, zero for other ranks'.
        """
        device = state.loss_sum.device
        if self.experiment.training.reduction == "ordered":
            return self._accumulate_in_order(state, batches, step)
        total = torch.zeros((), dtype=torch.float64, device=device)
        if self.network.is_replayed:
            for batch in batches:
                total += self._replayed(state, batch, step, is_alone=len(batches) == 1)
            self._on_computed()
            if self.ranks.size > 1:
                self._sum_afterwards()
            return total
        for place, batch in enumerate(batches):
            last = place == len(batches) - 1
            with contextlib.nullcontext() if last else self.network.no_sync():
                inputs = self._inputs(batch, step)
                total += self._gradient(state, inputs, max_length=batch.max_length, step=step)
        if not self.network.is_averaged:
            self._on_computed()
        return total

    def _sum_afterwards(self) -> None:
        if self._afterwards is None:
            self._afterwards = SumAfterwards(self._trained())
        self._afterwards()

    def _trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.network.model.parameters() if p.requires_grad]

    def _accumulate_in_order(
        self, state: TrainState, batches: Sequence[DeviceBatch], step: int
    ) -> torch.Tensor:
        device, parts = state.loss_sum.device, self.experiment.training.micro_batches_per_step
        is_replayed = self.network.is_replayed
        if self._ordered is None:
            self._ordered = OrderedSum(self._trained(), parts, self.ranks, in_place=not is_replayed)
        losses = torch.zeros(parts, dtype=torch.float64, device=device)
        by_number = {batch.number % parts: batch for batch in batches}
        is_alone = pairing(parts) == parts

        def add_gradient(number: int) -> None:
            batch = by_number[number]
            if is_replayed:
                losses[number] = self._replayed(state, batch, step, is_alone=is_alone)
            else:
                inputs = self._inputs(batch, step)
                losses[number] = self._gradient(state, inputs, max_length=batch.max_length, step=step)

        self._ordered(add_gradient, self._on_computed)
        return losses

    def _replayed(self, state: TrainState, batch: DeviceBatch, step: int, *, is_alone: bool) -> torch.Tensor:
        """A micro-batch's gradient by a CUDA graph."""
        if self._graphs is None:
            longest = self.experiment.data.max_length

            def gradient(inputs: LossInputs) -> torch.Tensor:
                return self._gradient(state, inputs, max_length=longest, step=0)  # without a curriculum, any

            self._graphs = GradientGraphs(self.network.model, gradient)
        return self._graphs(self._inputs(batch, step), is_alone=is_alone)

    def _gradient(self, state: TrainState, inputs: LossInputs, *, max_length: int, step: int) -> torch.Tensor:
        """Add a micro-batch's gradient to the parameters'; returns its share of the loss."""
        loss = self.network.loss_of(inputs, max_length=max_length, step=step)
        loss = loss / self.experiment.training.residues_per_step
        # DDP averages over the ranks; the loss is a sum over them.
        averaged = self.ranks.size if self.network.is_averaged else 1
        scaled = state.scaler.scale(loss * averaged)
        if self.network.is_averaged:
            scaled.register_hook(lambda _: _call_after_backward(self._on_computed))  # type: ignore[no-untyped-call]
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _inputs(self, batch: DeviceBatch, step: int) -> LossInputs:
        """What the loss of a micro-batch depends on; also seeds what is drawn while it is computed."""
        seed, parts = self.experiment.seed, self.experiment.training.micro_batches_per_step
        torch.manual_seed(counter_seed(seed, DROPOUT, batch.number))
        return self.network.loss_inputs(
            batch,
            part=(batch.number % parts, parts),
            time_offset=unit_interval(seed, TIMES, step),
            noise_seed=counter_seed(seed, NOISE, batch.number),
        )

    def _apply(self, state: TrainState, rate: float) -> torch.Tensor:
        """Clip, step and average, unless the gradient is not finite: then the weights stay, and it is counted."""
        optimizer, clip_norm = state.optimizer, self.experiment.training.clip_norm
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_scale", 1.0)
        if state.shards is not None:
            norm = sharded_clip_and_step(state, state.shards, clip_norm)
        elif isinstance(optimizer, OnePassAdamW):
            norm = optimizer.clip_and_step(rate, state.scaler, state.ema, clip_norm)
        else:
            norm = self._clip_and_step(state, clip_norm)
        state.bad_steps.copy_(torch.where(torch.isfinite(norm), 0, state.bad_steps + 1))
        state.drop_gradients()
        return norm

    def _clip_and_step(self, state: TrainState, clip_norm: float) -> torch.Tensor:
        """The same by torch's operators."""
        optimizer, scaler = state.optimizer, state.scaler
        scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
        state.step_and_average(norm)
        return norm

    def _over_ranks(self, loss: torch.Tensor) -> torch.Tensor:
        if self.ranks.size > 1:
            dist.all_reduce(loss)
        return loss.sum()


def _call_after_backward(function: Callable[[], None]) -> None:
    """Have a function called when all gradients of the running backward pass are computed.

    The engine calls such functions in the order in which they came: this one, of the pass's beginning, before that of
    DDP, of its end, which waits for the other ranks.
    """
    torch.autograd.Variable._execution_engine.queue_callback(function)  # as FSDP does
