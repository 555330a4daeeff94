"""YOLOX: anchor-free, one row a cell of each stride (Ge et al., 2021, arXiv:2107.08430)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engines.boxes import nms
from engines.decoders import DetectOptions
from engines.errors import ModelError
from engines.types import Array, Detections, Float, Geometry


class Yolox:
    """Decode (N, A, 5 + classes): x, y, log w, log h relative to cell and stride, objectness and classes in 0..1.

    An anchor counts once for every class whose score passes, as in the public implementation. Scores that are not
    numbers never pass.
    """

    def __init__(
        self, classes: int, size: tuple[int, int], options: DetectOptions, strides: Sequence[int] = (8, 16, 32)
    ) -> None:
        """*size* is the network's input, height and width in pixels."""
        self._options = options
        self._grid, self._stride = cells(size, strides)
        self._shape = len(self._grid), 5 + classes

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry]) -> list[Detections]:
        output: Float = next(iter(outputs.values()))
        if output.shape[1:] != self._shape:
            raise ModelError(
                f"the output is {output.shape[1:]}, but by size, strides and labels it should be {self._shape}; "
                "correct the manifest"
            )
        return [self._image(rows, place) for rows, place in zip(output, geometry, strict=True)]

    def _image(self, rows: Float, place: Geometry) -> Detections:
        options, grid, stride = self._options, self._grid, self._stride
        candidates = np.flatnonzero(rows[:, 4] > options.confidence)  # no class score exceeds 1
        scores = rows[candidates, 4:5] * rows[candidates, 5:]
        anchor, class_id = np.nonzero(scores > options.confidence)
        if options.classes is not None:
            wanted = np.isin(class_id, options.classes)
            anchor, class_id = anchor[wanted], class_id[wanted]
        confidence, chosen = scores[anchor, class_id], candidates[anchor]
        centre = (rows[chosen, :2] + grid[chosen]) * stride[chosen]
        half = np.exp(rows[chosen, 2:4]) * (stride[chosen] / 2)
        xyxy = np.concatenate([centre - half, centre + half], axis=1)
        ids = class_id.astype(np.int32)
        kept = nms(xyxy, confidence, ids, options.iou)[: options.max_detections]
        return Detections(place.to_source(xyxy[kept]), ids[kept], confidence[kept])


def cells(size: tuple[int, int], strides: Sequence[int]) -> tuple[Float, Float]:
    """Column and row (A, 2) of each anchor's cell, and its stride (A, 1)."""
    grids, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(sizes).astype(np.float32)
