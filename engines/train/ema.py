"""A running mean of weights, which does better on new data than the weights of any one step."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn


class Mean:
    """A copy of a network, in evaluation mode, whose weights and statistics follow those of the one that learns.

    Polyak and Juditsky 1992, https://doi.org/10.1137/0330046, exponentially weighted; whole numbers are copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = deepcopy(model).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def follow(self, model: nn.Module, decay: float) -> None:
        """Keep *decay* of the mean, and take the rest from *model*."""
        mine, theirs = self.model.state_dict(), model.state_dict()
        names = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in names], [theirs[n] for n in names], 1 - decay)
        for name in mine.keys() - set(names):
            mine[name].copy_(theirs[name])


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store a state dict's fractions as float16 on the CPU, in memory of their own.

    Raises OverflowError, with the first name, where one is too large for it.
    """
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    for name, value in halves.items():
        if not value.isfinite().all():
            raise OverflowError(name)
    return {name: value.contiguous().cpu().clone() for name, value in halves.items()}
