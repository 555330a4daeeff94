"""Candidates with masks, as served segmenters give them, to detections with box-aligned masks.

Masks are made of what is wanted in the end: what is suppressed, or too small, costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from engines.decoders import DetectOptions
from engines.decoders.candidates import candidates
from engines.decoders.numbers import check_numbers
from engines.decoders.selection import Picked, pick
from engines.errors import ModelError
from engines.geometry import Size
from engines.masks import realign
from engines.types import Array, Detections, Float, Geometry, Masks

RESOLUTION = 56  # cells a side, of masks that are made of prototypes: twice an R-CNN's


class DecodeInstances:
    """Select as `DecodeCandidates` does, with the mask of each object.

    Besides candidates the graph gives either `masks` (N, K, M, M), probabilities aligned to the boxes (He et al. 2017,
    https://arxiv.org/abs/1703.06870); or `coefficients` (N, K, C) and `prototypes` (N, C, h, w), which lie over all of
    the network's input of *input_size* (height, width): an object's mask is the sigmoid of its mixture of them, inside
    its box (Bolya et al. 2019, https://arxiv.org/abs/1904.02689), here of *resolution* cells a side.
    """

    def __init__(self, classes: int, options: DetectOptions, input_size: Size, resolution: int = RESOLUTION) -> None:
        self._classes, self._options = classes, options
        self._input_size, self._resolution = input_size, resolution

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Detections]:
        """Decode each row with its geometry; in pixels of the source images, best first. Raises ModelError."""
        rows = candidates(outputs, len(geometry))
        _check(outputs)
        found = []
        for image, (row, place) in enumerate(zip(rows, geometry, strict=True)):
            picked = pick(row, self._classes, self._options, place)
            found.append(replace(picked.found, masks=self._masks(outputs, image, picked, place)))
        return found

    def _masks(self, outputs: Mapping[str, Array], image: int, picked: Picked, place: Geometry) -> Masks:
        if "masks" in outputs:
            masks = Masks(outputs["masks"][image, picked.rows])
            check_numbers("masks", masks.probs)
            return _seen(masks, outputs["boxes"][image, picked.rows], picked, place)
        boxes = place.to_input(picked.found.xyxy)
        coefficients = outputs["coefficients"][image, picked.rows]
        check_numbers("coefficients", coefficients)
        return self._mixed(coefficients, outputs["prototypes"][image], boxes)

    def _mixed(self, coefficients: Float, prototypes: Float, boxes: Float) -> Masks:
        """Make masks of N objects by their coefficients (N, C), prototypes (C, h, w) and boxes (N, 4) in input pixels.

        Sampling is bilinear, and before the sigmoid: an outline runs smoothly between the prototypes' coarse pixels.
        """
        (height, width), (rows, columns) = self._input_size, prototypes.shape[1:]
        across = _middles(boxes[:, ::2] * (columns / width), self._resolution, columns)
        down = _middles(boxes[:, 1::2] * (rows / height), self._resolution, rows)
        probs = np.empty((len(boxes), self._resolution, self._resolution), np.float32)
        with np.errstate(invalid="ignore"):  # said below, as an error
            for mixture, x, y, out in zip(coefficients, across, down, probs, strict=True):
                _sample(mixture, prototypes, x, y, out)
        check_numbers("prototypes", probs)  # before the sigmoid makes sound masks of infinities
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and its inverse is zero: so be it
            np.exp(np.negative(probs, out=probs), out=probs)
        return Masks(np.reciprocal(1 + probs))


def _check(outputs: Mapping[str, Array]) -> None:
    """Raise ModelError unless the graph gives one of the two kinds of masks, as many as there are candidates."""
    count = outputs["scores"].shape
    shapes = {name: array.shape for name, array in outputs.items()}
    masks, mixed, basis = (shapes.get(name, ()) for name in ("masks", "coefficients", "prototypes"))
    aligned = len(masks) == 4 and masks[:2] == count and masks[2] == masks[3]
    linear = len(mixed) == 3 and len(basis) == 4 and mixed[:2] == count and (count[0], mixed[2]) == basis[:2]
    if not (aligned or linear):
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ModelError(
            "a served segmenter gives square masks for its boxes, or coefficients and prototypes, but this file gives "
            f"{given}: build it anew, or say 'task: detect' in its manifest"
        )


def _seen(masks: Masks, boxes: Float, picked: Picked, place: Geometry) -> Masks:
    """Cut masks of whole boxes (N, 4), in input pixels, to what the image's border leaves of them."""
    whole, xyxy = place.unclipped(boxes), picked.found.xyxy
    cut = np.flatnonzero((whole != xyxy).any(1))
    if not len(cut):
        return masks
    probs = masks.probs.copy()
    probs[cut] = realign(masks[cut], whole[cut], xyxy[cut]).probs
    return Masks(probs)


def _middles(edges: Float, count: int, size: int) -> Float:
    """Find the middles (N, count) of equal cells between edges (N, 2), counted from the middle of an axis' first pixel.

    What lies beyond the border of its *size* pixels is moved there.
    """
    places = edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * ((np.arange(count) + 0.5) / count)
    out: Float = np.clip(places - 0.5, 0, size - 1).astype(np.float32)
    return out


def _sample(mixture: Float, prototypes: Float, x: Float, y: Float, out: Float) -> None:
    """Mix prototypes (C, h, w) by (C,), and sample at *x* (M,) and *y* (M,), which rise; into *out* (M, M)."""
    (left, across), (top, down) = _taps(x), _taps(y)
    part = prototypes[:, top : top + down.shape[1], left : left + across.shape[1]]
    logits = (mixture @ part.reshape(len(part), -1)).reshape(part.shape[1:])
    np.matmul(down @ logits, across.T, out=out)


def _taps(places: Float) -> tuple[int, Float]:
    """Say which pixels are sampled, from the first of them, and how much each counts in each place (M, pixels)."""
    first, stop = int(places[0]), math.ceil(places[-1]) + 1
    weights: Float = np.abs(places[:, None] - np.arange(first, stop, dtype=np.float32))
    return first, np.maximum(0, np.subtract(1, weights, out=weights), out=weights)
