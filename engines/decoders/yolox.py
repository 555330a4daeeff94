"""YOLOX: one row an anchor point, offsets and log sizes in units of its stride, scores after the sigmoid.

Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021", https://arxiv.org/abs/2107.08430
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.boxes import nms
from engines.decoders import DetectOptions
from engines.errors import ManifestError, ModelError
from engines.geometry import Size
from engines.types import Array, Detections, Float, Geometry

_OBJECTNESS, _CLASSES = 4, 5  # columns; the box comes before them
_HIGHEST = 1.01  # of a score: some kernels overshoot one by a rounding


def open_yolox(settings: Mapping[str, Any], classes: int, options: DetectOptions, size: Size) -> DecodeYolox:
    """Make the decoder from its *settings* in the manifest: `strides`, one a level, in the network's order."""
    strides = tuple(settings.get("strides", (8, 16, 32)))
    if not strides or not all(isinstance(stride, int) and stride > 0 for stride in strides):
        raise ManifestError(f"decoder yolox: strides {strides} must be whole numbers above zero, such as [8, 16, 32]")
    return DecodeYolox(strides, classes, options, size)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """The anchor points of one input size, in input pixels."""

    origin: Float  # (A, 2)
    stride: Float  # (A, 1)

    def decode(self, raw: Float, rows: npt.NDArray[np.intp]) -> Float:
        """Make xyxy of the raw boxes (K, 4) of these anchor points."""
        origin, stride = self.origin[rows], self.stride[rows]
        centre = raw[:, :2] * stride + origin
        half = np.exp(raw[:, 2:]) * (stride / 2)
        return np.concatenate([centre - half, centre + half], 1)


def _make_grid(size: Size, strides: tuple[int, ...]) -> _Grid:
    origins, columns = [], []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        origins.append(np.stack([x.ravel(), y.ravel()], 1) * stride)
        columns.append(np.full((x.size, 1), stride))
    return _Grid(np.concatenate(origins).astype(np.float32), np.concatenate(columns).astype(np.float32))


class DecodeYolox:
    """Decode outputs (N, A, 5 + classes): an anchor point gives an object for each class that it is confident of.

    Only what passes the confidence is decoded. Scores that are NaN never pass; boxes that are not finite, or outside
    the image, are left out. Scores above one raise ModelError: the exported graph lacks the sigmoid.
    """

    def __init__(self, strides: tuple[int, ...], classes: int, options: DetectOptions, size: Size) -> None:
        self._strides, self._classes, self._options, self._size = strides, classes, options, size
        self._wanted = np.arange(classes) if options.classes is None else np.array(options.classes, np.intp)
        self._grid = _make_grid(size, strides)

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Detections]:
        """Decode each row with its geometry; boxes in pixels of the source images, best first."""
        raw = self._check(outputs, len(geometry))
        with np.errstate(over="ignore", invalid="ignore"):  # left out below
            return [self._decode(row, place) for row, place in zip(raw, geometry, strict=True)]

    def _check(self, outputs: Mapping[str, Array], rows: int) -> Array:
        """Find the one output, and see whether it is what the manifest promises."""
        wanted = rows, len(self._grid.origin), _CLASSES + self._classes
        if [array.shape for array in outputs.values()] != [wanted]:
            given = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
            raise ModelError(
                f"decoder yolox expects one output {wanted} for {self._classes} classes, inputs of {list(self._size)} "
                f"and strides {list(self._strides)}, but the network gives {given}: correct the manifest"
            )
        return next(iter(outputs.values()))

    def _decode(self, raw: Array, geometry: Geometry) -> Detections:
        threshold = self._options.confidence
        points = np.flatnonzero(raw[:, _OBJECTNESS] > threshold)  # no class score can lift the rest over it
        near: Float = raw[points].astype(np.float32, copy=False)
        scores = near[:, _OBJECTNESS, None] * near[:, _CLASSES + self._wanted]
        row, column = np.nonzero(scores > threshold)
        confidence = scores[row, column]
        if confidence.max(initial=0) > _HIGHEST:
            raise ModelError(
                f"decoder yolox expects scores in 0..1, but the network gives {confidence.max():.3g}: export it with "
                "the sigmoid in the graph"
            )
        xyxy = self._grid.decode(near[:, :4], points)[row]
        return self._select(xyxy, self._wanted[column].astype(np.int32), np.minimum(confidence, 1), geometry)

    def _select(self, xyxy: Float, class_id: npt.NDArray[np.int32], scores: Float, geometry: Geometry) -> Detections:
        """Drop what no image can hold and what is found twice, and keep the best."""
        kept = nms(xyxy, scores, class_id, self._options.iou)
        placed = geometry.to_source(xyxy[kept])
        inside = (placed[:, :2] < placed[:, 2:]).all(1)
        best = kept[inside][: self._options.max_detections]
        return Detections(placed[inside][: len(best)], class_id[best], scores[best])
