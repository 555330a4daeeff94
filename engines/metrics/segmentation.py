"""How well the pixels of images are labelled: accuracy, IoU and Dice, from one confusion matrix over all images.

Accuracy and mean IoU: Long et al. 2015, "Fully Convolutional Networks for Semantic Segmentation", section 5,
https://arxiv.org/abs/1411.4038. Dice 1945, "Measures of the Amount of Ecologic Association Between Species".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.types import Bool, Int

Double = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

BACKGROUND = 0  # the class of pixels that no object covers
IGNORED = -1  # the label of pixels that count nowhere


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Each in 0..1; of a class that is nowhere NaN, and left out of the means."""

    pixel_accuracy: float
    mean_class_accuracy: float  # over the classes that are true somewhere
    mean_iou: float  # over those that are true or found somewhere
    mean_dice: float
    class_accuracy: Double  # (C,)
    iou: Double  # (C,)
    dice: Double  # (C,)


class Confusion:
    """Count pixels by their true class and by the one that was found."""

    def __init__(self, classes: int) -> None:
        self.pixels: Counts = np.zeros((classes, classes), np.int64)  # true, found

    def add(self, truth: Int, found: Int) -> None:
        """Compare two label maps (H, W), labels 0 to C - 1; where the truth is IGNORED, nothing counts.

        Raises ValueError for maps of two sizes, and for other labels.
        """
        classes = len(self.pixels)
        if truth.shape != found.shape:
            raise ValueError(f"the truth is {truth.shape}, but what was found {found.shape}")
        counts = truth != IGNORED
        true, given = truth[counts].astype(np.int64), found[counts].astype(np.int64)
        for name, labels in (("truth", true), ("found", given)):
            if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
                raise ValueError(f"{name} has labels {labels.min()} to {labels.max()}, but there are {classes} classes")
        self.pixels += np.bincount(true * classes + given, minlength=classes**2).reshape(classes, classes)

    def figures(self) -> Figures:
        """Measure all that was added."""
        right, true, found = self.pixels.diagonal(), self.pixels.sum(axis=1), self.pixels.sum(axis=0)
        accuracy, iou, dice = (
            _share(part, whole)
            for part, whole in ((right, true), (right, true + found - right), (2 * right, true + found))
        )
        all_pixels = float(right.sum() / true.sum()) if true.any() else float("nan")
        return Figures(all_pixels, _mean(accuracy), _mean(iou), _mean(dice), accuracy, iou, dice)


def paint(masks: Iterable[tuple[int, Bool]], size: Size) -> Int:
    """Make a label map (H, W) of instances, each a label and a mask (H, W): the later one is on top."""
    labels = np.full(size, BACKGROUND, np.int32)
    for label, mask in masks:
        labels[mask] = label
    return labels


def _share(part: Counts, whole: Counts) -> Double:
    share: Double = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return share


def _mean(values: Double) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")
