"""Values that cross the engines boundary: arrays with names, frozen, their columns checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Array = npt.NDArray[Any]
Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]
Rows = slice | npt.NDArray[np.integer[Any]] | Bool  # what selects among N


def check(name: str, array: Array, shape: tuple[int | None, ...], dtype: npt.DTypeLike) -> None:
    """Raise ValueError unless *array* has *dtype* and *shape* (None matches any size)."""
    ok = array.dtype == dtype and array.ndim == len(shape)
    if not ok or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """N soft masks, each aligned to its own box; painted to full size only where somebody needs pixels."""

    probs: Float  # (N, M, M) in 0..1

    def __post_init__(self) -> None:
        check("probs", self.probs, (len(self.probs), None, None), np.float32)

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, rows: Rows) -> Masks:
        return Masks(self.probs[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N objects in one image, column by column; boxes in pixels of the source image."""

    xyxy: Float  # (N, 4)
    class_id: Int  # (N,)
    confidence: Float  # (N,) in 0..1
    track_id: Int | None = None  # (N,)
    masks: Masks | None = None  # N of them
    regions: Bool | None = None  # (N, R): object n stands in the r-th region; only where regions are asked for

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        check("xyxy", self.xyxy, (n, 4), np.float32)
        check("class_id", self.class_id, (n,), np.int32)
        check("confidence", self.confidence, (n,), np.float32)
        if self.track_id is not None:
            check("track_id", self.track_id, (n,), np.int32)
        if self.masks is not None and len(self.masks) != n:
            raise ValueError(f"masks: expected {n}, got {len(self.masks)}")
        if self.regions is not None:
            check("regions", self.regions, (n, None), np.bool_)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, rows: Rows) -> Detections:
        """Select rows of every column; an integer would drop an axis, so it is not accepted."""
        return Detections(
            self.xyxy[rows],
            self.class_id[rows],
            self.confidence[rows],
            None if self.track_id is None else self.track_id[rows],
            None if self.masks is None else self.masks[rows],
            None if self.regions is None else self.regions[rows],
        )

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Motion from the previous image to this one, in pixels of the source image.

    The grid lies over all of the source image, as fine as the network made it: often a quarter of its input.
    """

    uv: Float  # (h, w, 2): to the right, and down
    seconds: float | None = None  # between both images, where it is known

    def __post_init__(self) -> None:
        check("uv", self.uv, (None, None, 2), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """T consecutive images, and the flow into each of them if the model wants it."""

    rgb: Image  # (T, H, W, 3)
    flow: Float | None = None  # (T, H, W, 2)

    def __post_init__(self) -> None:
        check("rgb", self.rgb, (None, None, None, 3), np.uint8)
        if self.flow is not None:
            check("flow", self.flow, (*self.rgb.shape[:3], 2), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Class probabilities of one clip."""

    probs: Float  # (C,)

    def __post_init__(self) -> None:
        check("probs", self.probs, (None,), np.float32)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, type and shape of one network input or output; None is a dynamic axis."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class PixelInput:
    """What a network expects of its pixels: (rgb_or_bgr - mean) / std, NCHW. The served graph does it."""

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Geometry:
    """One image's placement: out = in * scale + offset, x and y apart."""

    source_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_source(self, xyxy: Float) -> Float:
        """Map boxes (N, 4) from network-input pixels to source pixels, clipped to the image."""
        height, width = self.source_hw
        limit = np.array((width, height) * 2, np.float32)
        out: Float = np.clip(self.unclipped(xyxy), 0, limit).astype(np.float32, copy=False)
        return out

    def unclipped(self, xyxy: Float) -> Float:
        """Map boxes (N, 4) from network-input pixels to source pixels, wherever they lie."""
        return (xyxy - self._offset) / self._scale

    def to_input(self, xyxy: Float) -> Float:
        """Map boxes (N, 4) from source pixels to network-input pixels."""
        return xyxy * self._scale + self._offset

    @property
    def _scale(self) -> Float:
        return np.array(self.scale_xy * 2, np.float32)

    @property
    def _offset(self) -> Float:
        return np.array(self.offset_xy * 2, np.float32)
