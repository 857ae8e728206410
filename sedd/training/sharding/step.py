"""What follows the gradient, on shards: unscale, clip, step, average, and give the others what has changed."""

import torch
from torch import Tensor

from sedd.training.sharding.shards import Shards
from sedd.training.train_state import TrainState


def clip_and_step(state: TrainState, shards: Shards, clip_norm: float) -> Tensor:
    """As `Update` does without shards; returns the gradient's norm, on the device.

    A gradient that is not finite anywhere leaves the weights of every rank as they are: the norm is that of all
    ranks' rows, and the scaler adds up over the ranks what it has found.
    """
    optimizer, scaler = state.optimizer, state.scaler
    owns = [own for group in optimizer.param_groups for own in group["params"]]
    shards.bring_gradients()
    norm = shards.gradient_norm(owns)  # of what is scaled: `unscale_` touches this rank's rows alone
    scaler.unscale_(optimizer)
    if scaler.is_enabled():
        scale = scaler._get_scale_async()
        assert scale is not None, "there was a backward pass"
        norm = norm / scale
    torch.nn.utils.clip_grads_with_norm_(owns, clip_norm, norm, foreach=True)
    state.step_and_average(norm)
    shards.spread_weights()
    return norm
