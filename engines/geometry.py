"""Where an image lies inside a network's input, and the way back."""

from __future__ import annotations

from typing import Literal

from engines.types import Geometry

Align = Literal["top-left", "center"]
Size = tuple[int, int]  # height, width


def placed_hw(source_hw: Size, target_hw: Size) -> Size:
    """Find the largest size of the source's shape that fits into the target, rounded down as YOLOX does."""
    _check(source_hw, target_hw)
    (height, width), (target_height, target_width) = source_hw, target_hw
    ratio = min(target_height / height, target_width / width)
    return max(int(height * ratio), 1), max(int(width * ratio), 1)


def letterbox(source_hw: Size, target_hw: Size, align: Align) -> Geometry:
    """Place an image into the target with its shape kept; `placed_hw` is the size that it takes there.

    Scales are those of the placed image, so what rounding took from it moves no box.
    """
    size = placed_hw(source_hw, target_hw)
    dy, dx = (0, 0) if align == "top-left" else ((t - p) // 2 for t, p in zip(target_hw, size, strict=True))
    return Geometry(source_hw, _scale(source_hw, size), (float(dx), float(dy)))


def stretch(source_hw: Size, target_hw: Size) -> Geometry:
    """Place an image over all of the target, its shape lost."""
    _check(source_hw, target_hw)
    return Geometry(source_hw, _scale(source_hw, target_hw), (0.0, 0.0))


def _scale(source_hw: Size, size: Size) -> tuple[float, float]:
    return size[1] / source_hw[1], size[0] / source_hw[0]


def _check(source_hw: Size, target_hw: Size) -> None:
    if min(*source_hw, *target_hw) < 1:
        raise ValueError(
            f"cannot place an image of {source_hw} pixels into {target_hw}: both need a height and a width"
        )
