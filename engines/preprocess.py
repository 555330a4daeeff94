"""Images to network inputs, doing only what the runtime does not do itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from engines.errors import ModelError
from engines.geometry import Align, Resize, letterbox, placed_hw, stretch
from engines.runtimes.base import PixelInput, Runtime
from engines.types import Array, Geometry, Image

Slices = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a network was fed when it was trained."""

    size: tuple[int, int]  # height, width
    resize: Resize = "letterbox"
    align: Align = "center"
    pad: int = 114
    pixels: PixelInput = field(default_factory=PixelInput)


class Preprocess:
    """Turn RGB images (H, W, 3) uint8 of any size into one feed, and say how each was placed.

    Buffers are reused: a feed is good until the next call.
    """

    def __init__(self, spec: PreprocessSpec, runtime: Runtime) -> None:
        """Read from the runtime's only input what is left to do. Raises ModelError when it takes no images."""
        (tensor,) = runtime.inputs[:1]
        self._spec, self._name = spec, tensor.name
        self._canvas = np.full((runtime.max_batch, *spec.size, 3), spec.pad, np.uint8)
        self._placed: list[tuple[int, int] | None] = [None] * runtime.max_batch
        self._planar = tensor.dtype != np.uint8
        expected = (3, *spec.size) if self._planar else (*spec.size, 3)
        if len(tensor.shape) != 4 or any(n not in (None, m) for n, m in zip(tensor.shape[1:], expected, strict=True)):
            raise ModelError(
                f"input {tensor.name!r} is {tensor.dtype} {tensor.shape}, but the manifest says {expected}; correct 'size'"
            )
        self._feed = np.empty((runtime.max_batch, *expected), np.float32) if self._planar else None

    def __call__(self, items: Sequence[Image]) -> tuple[Mapping[str, Array], list[Geometry]]:
        geometry = [self._place(row, image) for row, image in enumerate(items)]
        if self._feed is None:
            return {self._name: self._canvas[: len(items)]}, geometry
        for row in range(len(items)):
            self._normalise(row, self._feed[row])
        return {self._name: self._feed[: len(items)]}, geometry

    def _place(self, row: int, image: Image) -> Geometry:
        """Resize straight into the row; paint its border only when another size was there before."""
        source_hw = image.shape[:2]
        spec, canvas = self._spec, self._canvas[row]
        if spec.resize == "stretch":
            cv2.resize(image, spec.size[::-1], dst=canvas, interpolation=cv2.INTER_LINEAR)
            return stretch(source_hw, spec.size)
        geometry = letterbox(source_hw, spec.size, spec.align)
        height, width = placed_hw(source_hw, spec.size)
        if self._placed[row] != (height, width):
            canvas[:] = spec.pad
            self._placed[row] = height, width
        left, top = map(int, geometry.offset_xy)
        inner = canvas[top : top + height, left : left + width]
        small = cv2.resize(image, (width, height), dst=inner, interpolation=cv2.INTER_LINEAR)
        if small is not inner:  # OpenCV took a buffer of its own: a view with gaps between rows did not suit it
            inner[:] = small
        return geometry

    def _normalise(self, row: int, out: Array) -> None:
        """(value - mean) / std, planar, in the network's order of channels."""
        pixels = self._spec.pixels
        order = (0, 1, 2) if pixels.channels == "rgb" else (2, 1, 0)
        for plane, (channel, mean, std) in enumerate(zip(order, pixels.mean, pixels.std, strict=True)):
            np.subtract(self._canvas[row, :, :, channel], mean, out=out[plane], dtype=np.float32)
            if std != 1.0:
                out[plane] /= std
