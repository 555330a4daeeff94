"""What is drawn, and how: masks, what is marked in the scene, tails, boxes and labels."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from engines.masks import paint
from engines.regions import Region
from engines.track.lines import Line
from engines.types import Array, Detections, Image
from streamer.draw.tails import Tail

Colour = tuple[int, int, int]  # RGB

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GOLDEN = 0.618033988749895  # of the circle of hues: neighbours in number are far apart, and no two are the same
_BLACK: Colour = (0, 0, 0)
_WHITE: Colour = (255, 255, 255)
_OPACITY = 0.45  # of masks: what is under them stays to be seen
_FAR = 1e5  # pixels: beyond any image, and within what OpenCV counts with


@dataclass(frozen=True, slots=True)
class Pen:
    """Sizes that look the same on any image."""

    line: int  # pixels
    text: float  # OpenCV's font scale

    @classmethod
    def for_image(cls, image: Image) -> Pen:
        short = min(image.shape[:2])
        return cls(max(1, round(short / 360)), max(0.35, short / 1200))


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What one node found in the image."""

    found: Detections
    labels: Sequence[str] = ()  # of its classes
    tails: Sequence[Tail] = ()
    captions: Mapping[int, str] = field(default_factory=dict)  # of tracks: what is known of them besides


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the scene, and what is written there."""

    shape: Region | Line
    text: str


def draw(image: Image, layers: Sequence[Layer], marks: Sequence[Mark] = (), caption: str = "") -> Image:
    """Draw what was found, outline *marks*, and write *caption* into the upper left corner; *image* stays as it is.

    Objects may reach beyond the image; what is written never does.
    """
    canvas = np.ascontiguousarray(image).copy()
    pen = Pen.for_image(canvas)
    layers = [replace(layer, found=_surest_last(layer.found)) for layer in layers]
    for layer in layers:
        _draw_masks(canvas, layer.found)
    for mark in marks:
        _draw_mark(canvas, mark, pen)
    for layer in layers:
        _draw_tails(canvas, layer.tails, pen)
        _draw_boxes(canvas, layer, pen)
    if caption:
        _write(canvas, caption, (0, 0), _BLACK, pen)
    return canvas


@lru_cache(maxsize=4096)
def colour(number: int) -> Colour:
    """Give each track, or each class, its colour, the same in every run."""
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def describe(detections: Detections, row: int, labels: Sequence[str]) -> str:
    """Say what one box is: ``#7 person 0.91``."""
    class_id = int(detections.class_id[row])
    label = labels[class_id] if 0 <= class_id < len(labels) else f"class {class_id}"
    track = "" if detections.track_id is None else f"#{detections.track_id[row]} "
    return f"{track}{label} {detections.confidence[row]:.2f}"


def _surest_last(found: Detections) -> Detections:
    """Sort so that the surest object is drawn on top."""
    return found[np.argsort(found.confidence, kind="stable")]


def _tints(found: Detections) -> list[Colour]:
    """A tracked object keeps the colour of its track; others have that of their class."""
    return [colour(n) for n in (found.class_id if found.track_id is None else found.track_id).tolist()]


def _draw_masks(canvas: Image, found: Detections) -> None:
    if found.masks is None:
        return
    height, width = canvas.shape[:2]
    painted = paint(found.masks, found.xyxy, (height, width))
    for (top, left, pixels), tint in zip(painted, _tints(found), strict=True):
        if pixels.size:
            under = canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            cv2.copyTo(cv2.LUT(under, _through(tint)), np.ascontiguousarray(pixels).view(np.uint8), under)


@lru_cache(maxsize=256)
def _through(tint: Colour) -> npt.NDArray[np.uint8]:
    """Tell how each level of each channel looks through a mask of this colour: (1, 256, 3)."""
    levels = np.arange(256)[None, :, None] * (1 - _OPACITY) + np.array(tint) * _OPACITY
    seen: npt.NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
    return seen


def _draw_mark(canvas: Image, mark: Mark, pen: Pen) -> None:
    height, width = canvas.shape[:2]
    size, closed = (height, width), isinstance(mark.shape, Region)
    points = _pixels(mark.shape.corners(size) if isinstance(mark.shape, Region) else mark.shape.ends(size))
    cv2.polylines(canvas, [points], closed, _WHITE, pen.line, cv2.LINE_AA)
    x, y = points[points[:, 1].argmin()]
    _write(canvas, mark.text, (int(x), int(y)), _WHITE, pen)


def _draw_tails(canvas: Image, tails: Sequence[Tail], pen: Pen) -> None:
    for tail in tails:
        cv2.polylines(canvas, [_pixels(tail.points)], False, colour(tail.track_id), pen.line, cv2.LINE_AA)


def _draw_boxes(canvas: Image, layer: Layer, pen: Pen) -> None:
    found = layer.found
    for row, (tint, box) in enumerate(zip(_tints(found), _pixels(found.xyxy).tolist(), strict=True)):
        cv2.rectangle(canvas, box[:2], box[2:], tint, pen.line)
        _write(canvas, describe(found, row, layer.labels), (box[0], box[1]), tint, pen)
        if found.track_id is not None and (more := layer.captions.get(int(found.track_id[row]))):
            _write(canvas, more, (box[0], box[3]), tint, pen)


def _pixels(points: Array) -> npt.NDArray[np.int32]:
    """Round coordinates to pixels that OpenCV can count to."""
    near: npt.NDArray[np.int32] = np.rint(np.clip(np.nan_to_num(points), -_FAR, _FAR)).astype(np.int32)
    return near


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
