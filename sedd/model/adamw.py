"""torch's AdamW without torch's compiler.

Torch decorates an optimiser's methods so that `torch.compile` leaves them alone. At their first call the decorators
import the compiler, and with it sympy: a second of a core at the start of a training, and a quarter of one at its end.
Nothing here compiles an optimiser.
"""

import inspect

import torch
from torch.optim import Optimizer


class PlainOptimizer(Optimizer):
    """An optimiser whose methods are torch's own, without those decorators; subclasses bring their `step`."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class AdamW(PlainOptimizer, torch.optim.AdamW):
    """torch's AdamW: the same steps to the bit, and the same state."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
