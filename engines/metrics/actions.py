"""How often the right class is among the best: top-1, top-5, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.types import Float

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """Accuracies in 0..1, NaN over no clips; and how often each true class (row) was taken for each class (column)."""

    top1: float
    top5: float
    confusion: Counts  # (C, C)

    @property
    def class_accuracy(self) -> npt.NDArray[np.float64]:
        """The share of each class's clips that was recognised, (C,); NaN for a class without any."""
        totals = self.confusion.sum(1)
        with np.errstate(invalid="ignore"):
            share: npt.NDArray[np.float64] = np.diagonal(self.confusion) / totals
        return share

    @property
    def mean_class_accuracy(self) -> float:
        """The mean over the classes that some clip truly shows: large classes weigh no more than small ones."""
        there = self.class_accuracy[self.confusion.sum(1) > 0]
        return float(there.mean()) if there.size else float("nan")


def top_k(truth: Sequence[int], probs: Float) -> TopK:
    """Measure scores (N, C) of clips whose true classes are *truth* (N); of equal scores the lower class counts first.

    Raises ValueError when they are not as many, or a class is beyond the scores.
    """
    true = np.asarray(truth, np.int64)
    if probs.ndim != 2 or len(true) != len(probs):
        raise ValueError(f"{len(true)} clips have a true class, but the scores are {probs.shape}")
    classes = probs.shape[1]
    if true.min(initial=0) < 0 or true.max(initial=-1) >= classes:
        raise ValueError(f"true classes {true.min()} to {true.max()} are not among the {classes} of the scores")
    best = np.argsort(-np.nan_to_num(probs, nan=-np.inf), axis=1, kind="stable")[:, :5]
    confusion = np.bincount(true * classes + best[:, 0], minlength=classes**2).reshape(classes, classes)
    right = best == true[:, None]
    mean = [float(right[:, :k].any(1).mean()) if len(true) else float("nan") for k in (1, 5)]
    return TopK(mean[0], mean[1], confusion)
