"""Muon: steps that change a matrix in all its directions alike, so that what is rare is learnt as what is frequent.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", https://kellerjordan.github.io/posts/muon/;
the length of steps is that of Liu et al. 2025, "Muon is Scalable for LLM Training", https://arxiv.org/abs/2502.16982,
section 2.2, so that what suits AdamW as a rate suits it too. Torch has one, for two axes only; the tests compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic that brings singular values near 1
_ROUNDS = 5
_LENGTH = 0.2  # of a step, per element: what AdamW's steps have
_TINY = 1e-7
_WIDE = 16  # channels on both sides


class Muon(Optimizer):
    """Learn kernels and matrices so, each flattened to (outputs, the rest)."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step by the gradients that there are."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    way = self._way(weight, weight.grad, group["momentum"])
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(way, alpha=-group["lr"])
        return loss

    def _way(self, weight: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        state = self.state[weight]
        mean: Tensor = state.setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(mean, momentum).flatten(1)  # as Nesterov looks
        way: Tensor = orthogonal(ahead) * (_LENGTH * max(ahead.shape) ** 0.5)
        return way.reshape(weight.shape)


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring the singular values of a matrix (R, C) near 1, in its directions: Newton and Schulz's way, in bfloat16."""
    rows, columns = matrix.shape
    x = matrix.bfloat16() if rows <= columns else matrix.bfloat16().T
    x = x / x.norm().clamp(min=_TINY)
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if rows <= columns else x.T).to(matrix.dtype)


def is_inner(weight: Tensor) -> bool:
    """Say whether Muon suits a weight: not a bias, a first or a last layer, nor a kernel for each channel by itself."""
    return weight.ndim > 1 and min(weight.shape[:2]) >= _WIDE


class Together:
    """Several optimisers, each for its own weights, used as one."""

    def __init__(self, *parts: Optimizer) -> None:
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self._parts for group in part.param_groups]

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for part, mine in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(mine)
