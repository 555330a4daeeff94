"""What is left to do when a served graph has answered: selection, suppression, geometry, masks."""

from __future__ import annotations

from dataclasses import dataclass

from engines.boxes import Suppression
from engines.regions import Region


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Which of the found objects are wanted."""

    confidence: float = 0.3  # more than this
    suppression: Suppression = Suppression()  # noqa: RUF009 - frozen, so all may share it
    classes: tuple[int, ...] | None = None  # None: all
    max_detections: int = 300  # the best of an image
    min_size: float = 0.0  # of the box's shorter side, in source pixels
    regions: tuple[Region, ...] = ()  # objects that stand in none of them are left out
