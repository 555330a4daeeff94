"""What is left to do when a served graph has answered: selection, suppression, geometry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Which of the found objects are wanted."""

    confidence: float = 0.3  # more than this
    iou: float = 0.45  # of two objects of a class that overlap by more, the better one stays
    classes: tuple[int, ...] | None = None  # None: all
    max_detections: int = 300  # the best of an image
