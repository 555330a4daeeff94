"""Optical flow that anybody has at hand: what a network must beat to be worth its time.

Kroeger et al. 2016, "Fast Optical Flow using Dense Inverse Search", https://arxiv.org/abs/1603.03590; Farnebäck 2003,
"Two-Frame Motion Estimation Based on Polynomial Expansion".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from engines.types import Float, Image

Estimate = Callable[[Image, Image], Float]  # two RGB images (H, W, 3) to the motion between them, (H, W, 2) in pixels

_SMALLEST = 16  # pixels a side that dense inverse search needs for its patches


def nothing_moves(before: Image, _after: Image) -> Float:
    """Say that nothing moves: the error is then how much does."""
    return np.zeros((*before.shape[:2], 2), np.float32)


def dense_inverse_search(before: Image, after: Image) -> Float:
    """Search at the images' own size, with the preset of medium quality; images are 16 pixels a side, or larger."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    # Without a field to start from, as the stubs of OpenCV do not know that one may.
    return np.asarray(search.calc(_grey(before), _grey(after), None), np.float32)  # type: ignore[call-overload]


def farneback(before: Image, after: Image) -> Float:
    """Expand polynomials, with the settings of OpenCV's tutorial."""
    settings = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2}
    found = cv2.calcOpticalFlowFarneback(_grey(before), _grey(after), None, flags=0, **settings)  # type: ignore[call-overload]  # as above
    return np.asarray(found, np.float32)


BASELINES: Mapping[str, Estimate] = {
    "zero": nothing_moves,
    "dis": dense_inverse_search,
    "farneback": farneback,
}


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
