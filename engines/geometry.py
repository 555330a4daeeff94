"""Placing an image into a network's input."""

from __future__ import annotations

from typing import Literal

from engines.types import Geometry

Align = Literal["top-left", "center"]
Resize = Literal["letterbox", "stretch"]


def placed_hw(source_hw: tuple[int, int], target_hw: tuple[int, int]) -> tuple[int, int]:
    """The size of an image once it fits into the target with its shape kept; rounded down, at least one pixel."""
    scale = min(target_hw[0] / source_hw[0], target_hw[1] / source_hw[1])
    return max(1, int(source_hw[0] * scale)), max(1, int(source_hw[1] * scale))


def letterbox(source_hw: tuple[int, int], target_hw: tuple[int, int], align: Align) -> Geometry:
    """Fit an image into the target with its shape kept, the rest to be padded."""
    scale = min(target_hw[0] / source_hw[0], target_hw[1] / source_hw[1])
    height, width = placed_hw(source_hw, target_hw)
    if align == "top-left":
        return Geometry(source_hw, (scale, scale), (0.0, 0.0))
    return Geometry(
        source_hw, (scale, scale), (float((target_hw[1] - width) // 2), float((target_hw[0] - height) // 2))
    )


def stretch(source_hw: tuple[int, int], target_hw: tuple[int, int]) -> Geometry:
    """Fill the target, whatever becomes of the shape."""
    return Geometry(source_hw, (target_hw[1] / source_hw[1], target_hw[0] / source_hw[0]), (0.0, 0.0))
