"""What is truly there at one time, and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.types import Bool, Float, Image, Int

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scene:
    """N objects that are seen at a time, from the farthest to the nearest, and the picture of them.

    A pixel is an object's where it is the nearest one that covers half of it. The picture is painted when it is first
    asked for.
    """

    t: float  # seconds
    labels: Labels  # (H, W): the row of the object that each pixel shows, plus one; 0: the ground
    xyxy: Float  # (N, 4) around the pixels that are seen
    whole: Float  # (N, 4) around the whole outline, also beyond the picture and behind others
    visible: Float  # (N,) share of its pixels that is seen, 0..1
    class_id: Int  # (N,) of CLASSES
    track_id: Int  # (N,)
    action: Int  # (N,) of ACTIONS
    paint: Callable[[], Image] = field(repr=False)

    def __len__(self) -> int:
        return len(self.track_id)

    @property
    def size(self) -> Size:
        height, width = self.labels.shape
        return height, width

    @cached_property
    def image(self) -> Image:
        """The picture, read-only RGB (H, W, 3)."""
        image = self.paint()
        image.flags.writeable = False
        return image

    def mask(self, row: int) -> tuple[int, int, Bool]:
        """Say which pixels of an object are seen: (top, left, Bool (h, w)), of its box."""
        left, top, right, bottom = (int(edge) for edge in self.xyxy[row])
        return top, left, self.labels[top:bottom, left:right] == row + 1
