"""Draw what was found onto a copy of the image."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from engines.types import Detections, Image

Colour = tuple[int, int, int]  # RGB

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.618033988749895  # of the circle of hues: neighbours in class id are far apart, and no two are the same
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes that look the same on any image."""

    line: int  # pixels
    text: float  # OpenCV's font scale

    @classmethod
    def for_image(cls, image: Image) -> Pen:
        short = min(image.shape[:2])
        return cls(max(1, round(short / 360)), max(0.35, short / 1200))


def draw(image: Image, found: Sequence[tuple[Detections, Sequence[str]]], caption: str = "") -> Image:
    """Draw boxes with labels, and *caption* in the upper left corner; *image* itself stays as it is.

    Each of *found* comes with the labels of its classes. Boxes may reach beyond the image; their labels never do.
    """
    canvas = np.ascontiguousarray(image).copy()
    pen = Pen.for_image(canvas)
    for detections, labels in found:
        _draw_detections(canvas, detections, labels, pen)
    if caption:
        _write(canvas, caption, (0, 0), _BLACK, pen)
    return canvas


@lru_cache(maxsize=1024)
def colour(class_id: int) -> Colour:
    """Give each class its colour, the same in every run."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def describe(detections: Detections, row: int, labels: Sequence[str]) -> str:
    """Say what one box is: ``#7 person 0.91``."""
    class_id = int(detections.class_id[row])
    label = labels[class_id] if 0 <= class_id < len(labels) else f"class {class_id}"
    track = "" if detections.track_id is None else f"#{detections.track_id[row]} "
    return f"{track}{label} {detections.confidence[row]:.2f}"


def _draw_detections(canvas: Image, detections: Detections, labels: Sequence[str], pen: Pen) -> None:
    for row in np.argsort(detections.confidence):  # the surest last, on top
        tint = colour(int(detections.class_id[row]))
        left, top, right, bottom = (int(v) for v in np.rint(detections.xyxy[row]))
        cv2.rectangle(canvas, (left, top), (right, bottom), tint, pen.line)
        _write(canvas, describe(detections, row, labels), (left, top), tint, pen)


def _write(canvas: Image, text: str, above: tuple[int, int], background: Colour, pen: Pen) -> None:
    """Write on a plate that stands on the point *above*, moved to where it is within the image."""
    shown = text.encode("ascii", "replace").decode()  # OpenCV's fonts know no more
    (width, height), below = cv2.getTextSize(shown, _FONT, pen.text, pen.line)
    margin = pen.line + 1
    plate_w, plate_h = width + 2 * margin, height + below + 2 * margin
    left = max(0, min(above[0], canvas.shape[1] - plate_w))
    top = max(0, min(above[1] - plate_h, canvas.shape[0] - plate_h))
    cv2.rectangle(canvas, (left, top), (left + plate_w, top + plate_h), background, cv2.FILLED)
    place = (left + margin, top + margin + height)
    cv2.putText(canvas, shown, place, _FONT, pen.text, _ink(background), pen.line, cv2.LINE_AA)


def _ink(background: Colour) -> Colour:
    """Black or white, whichever is read more easily (luma of BT.601)."""
    red, green, blue = background
    return _BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _WHITE
