"""Random weights to begin with, as the authors of detectors chose them."""

from __future__ import annotations

from typing import Literal

from torch import nn

_LITTLE = 0.01


def kaiming(module: nn.Module, before: Literal["relu", "linear"] = "relu") -> None:
    """Keep the spread of what goes through convolutions, *before* ReLUs or nothing.

    He et al. 2015, https://arxiv.org/abs/1502.01852.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity=before)
            _without_bias(layer)


def little(module: nn.Module, spread: float = _LITTLE) -> None:
    """Say next to nothing at first: Ren et al. 2015, https://arxiv.org/abs/1506.01497."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=spread)
            _without_bias(layer)


def _without_bias(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
