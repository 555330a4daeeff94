"""One image and what is in it; and where images come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from engines.types import Bool, Float, Image, Int

Random = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An image with N objects."""

    image: Image  # (H, W, 3) RGB
    boxes: Float  # (N, 4) xyxy, in its pixels
    classes: Int  # (N,) rows of the data's labels
    hidden: Bool  # (N,): it is neither right nor wrong to find it, for hardly anything of it is seen

    def only(self, rows: Bool) -> Scene:
        """Leave out all other objects."""
        return replace(self, boxes=self.boxes[rows], classes=self.classes[rows], hidden=self.hidden[rows])


class Scenes(Protocol):
    """Images to learn from, and others to be measured by."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def learn(self, number: int) -> Scene:
        """Give an image of an endless row, augmented: a pure function of *number*."""
        ...

    def calm(self, number: int) -> Scene:
        """Give the same, without what distorts it most: for the end of a training."""
        ...

    def held_out(self) -> Sequence[Scene]:
        """Give images that `learn` never shows."""
        ...
