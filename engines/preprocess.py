"""Images to network inputs: placed and padded. What is arithmetic with pixels, the served graph does."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from engines.errors import ModelError
from engines.geometry import Align, Size, letterbox, placed_hw, stretch
from engines.runtimes.base import Overlapping, Runtime
from engines.types import Array, Geometry, Image, TensorSpec, check

_KNOWN_SIZES = 256  # placements remembered; cameras have few sizes


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a network wants its images."""

    size: Size  # height, width
    resize: Literal["letterbox", "stretch"] = "letterbox"
    align: Align = "center"  # where a letterboxed image lies
    pad: int | tuple[int, int, int] = 114  # three are R, G, B


@dataclass(frozen=True, slots=True)
class _Place:
    """The rectangle of the input that an image fills."""

    rows: slice
    columns: slice
    size_wh: tuple[int, int]
    geometry: Geometry


@lru_cache(_KNOWN_SIZES)
def _place(source_hw: Size, spec: PreprocessSpec) -> _Place:
    if spec.resize == "stretch":
        (height, width), geometry = spec.size, stretch(source_hw, spec.size)
    else:
        (height, width), geometry = placed_hw(source_hw, spec.size), letterbox(source_hw, spec.size, spec.align)
    left, top = (int(offset) for offset in geometry.offset_xy)
    return _Place(slice(top, top + height), slice(left, left + width), (width, height), geometry)


def place(image: Image, spec: PreprocessSpec) -> tuple[Image, Geometry]:
    """Place one RGB image (H, W, 3) of any size, in memory of its own."""
    pixels, (geometry,) = _Canvas(spec, 1).put([image])
    alone: Image = pixels[0]
    return alone, geometry


def placed(image: Image, spec: PreprocessSpec) -> Image:
    """Place one RGB image (H, W, 3) of any size, in memory of its own, and forget where it lies."""
    return place(image, spec)[0]


class Preprocess:
    """Place RGB images (H, W, 3) of any size into one buffer that is used again and again.

    The served graph takes the placed bytes as they are. The arrays are valid until the next call; for a runtime that
    overlaps, until as many calls later as it has lanes. Raises ModelError when the runtime's input does not fit *spec*.
    """

    def __init__(self, spec: PreprocessSpec, runtime: Runtime) -> None:
        self.spec = spec
        self._input = _image_input(runtime, spec)
        lanes = runtime.lanes if isinstance(runtime, Overlapping) else 1
        self._canvases = deque(_Canvas(spec, runtime.max_batch) for _ in range(lanes))

    def __call__(self, images: Sequence[Image], /) -> tuple[Mapping[str, Array], list[Geometry]]:
        """Place 1 to the runtime's `max_batch` images; returns the feeds and where each image lies."""
        self._canvases.rotate(-1)
        placed, geometry = self._canvases[-1].put(images)
        return {self._input.name: placed}, geometry


class _Canvas:
    """The memory of one batch."""

    def __init__(self, spec: PreprocessSpec, rows: int) -> None:
        self._spec = spec
        self._pixels: Image = np.full((rows, *spec.size, 3), spec.pad, np.uint8)
        self._places: list[_Place | None] = [None] * rows

    def put(self, images: Sequence[Image]) -> tuple[Array, list[Geometry]]:
        if len(images) > len(self._pixels):
            raise ValueError(f"{len(images)} images are more than the {len(self._pixels)} that the runtime takes")
        geometry = [self._put(row, image) for row, image in enumerate(images)]
        return self._pixels[: len(images)], geometry

    def _put(self, row: int, image: Image) -> Geometry:
        check("image", image, (None, None, 3), np.uint8)
        height, width = image.shape[:2]
        place = _place((height, width), self._spec)
        if place is not self._places[row]:
            self._pixels[row] = self._spec.pad
            self._places[row] = place
        into = self._pixels[row, place.rows, place.columns]
        cv2.resize(image, place.size_wh, dst=into, interpolation=cv2.INTER_LINEAR)
        return place.geometry


def _image_input(runtime: Runtime, spec: PreprocessSpec) -> TensorSpec:
    """Find the one input, and see whether the images can be made for it."""
    if len(runtime.inputs) != 1:
        names = ", ".join(spec.name for spec in runtime.inputs) or "none"
        raise ModelError(f"the network has {len(runtime.inputs)} inputs ({names}), but one image can feed just one")
    (found,) = runtime.inputs
    wanted = (*spec.size, 3)
    fits = len(found.shape) == 4 and all(n in (None, w) for n, w in zip(found.shape[1:], wanted, strict=True))
    if not fits or found.dtype != np.uint8:
        raise ModelError(
            f"the network's input {found.name!r} is {found.dtype} {found.shape}, but images are fed as uint8 "
            f"{(None, *wanted)}: build it anew from its manifest"
        )
    return found
