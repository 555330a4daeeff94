"""How long and how fast to learn: everything about a training that is not its task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from engines.geometry import Size

Precision = Literal["fp32", "bf16"]
Optimiser = Literal["adamw", "muon", "sgd"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A training's length, rate and pace; the same plan and task give the same weights on the same machine."""

    steps: int
    batch: int = 16  # items a step
    lr: float = 1e-3  # at the top of the schedule
    warmup: int = 100  # steps that the rate rises for
    floor: float = 0.02  # of the rate, that it falls to
    weight_decay: float = 0.02  # of matrices and kernels; biases and normalisations have none
    optimiser: Optimiser = "adamw"
    ema: float = 0.998  # how much of the mean stays, a step
    clip: float = 10.0  # the longest that the gradient may be
    precision: Precision = "bf16"  # what forward passes compute in, where torch finds it safe
    device: str = "cpu"
    seed: int = 0
    size: Size | None = None  # (height, width) of images while it learns; None: as it is served
    workers: int = 1  # processes that make batches; 0: the training itself does
    log_every: int = 20  # steps
    evaluate_every: int = 1000
    save_every: int = 500

    def rate(self, step: int) -> float:
        """Tell the learning rate of a step: it rises in a line, then falls along half a cosine.

        Loshchilov and Hutter 2016, "SGDR", https://arxiv.org/abs/1608.03983
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.lr * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2)

    def decay(self, step: int) -> float:
        """Tell how much of the mean of weights stays in a step: less at first, for what it began with means nothing."""
        return self.ema * (1 - math.exp(-(step + 1) * (1 - self.ema) * 4))


# What may differ between the halves of one training: it changes nothing that is learnt.
PACE = frozenset({"device", "workers", "log_every", "evaluate_every", "save_every"})
