"""Heads of the YOLO family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var
from spox.opset.ai.onnx.v18 import reduce_max  # of 17, it cannot be brought to a newer opset

from engines.build.heads.base import (
    BOX,
    Candidates,
    Head,
    Place,
    around,
    best_rows,
    centred,
    columns,
    ints,
    length_of,
    one,
    ordered,
    pairs,
    scalar,
    single,
    take,
)
from engines.geometry import Size
from engines.outputs import Decoder, YoloV5Decoder, YoloV8Decoder, YoloV10Decoder, YoloxDecoder
from engines.types import Float

_OBJECTNESS = 1  # columns


def grid(size: Size, strides: Sequence[int]) -> Float:
    """List the anchor points (A, 3) of every level, row by row: x, y of the cell's corner and its stride, in pixels."""
    levels = []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        levels.append(np.stack([x.ravel() * stride, y.ravel() * stride, np.full(x.size, stride)], 1))
    return np.concatenate(levels).astype(np.float32)


def _yolox(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Offsets and log sizes in strides: Ge et al. 2021, https://arxiv.org/abs/2107.08430; several classes a box."""
    assert isinstance(decoder, YoloxDecoder)  # noqa: S101 - by the table
    points = grid(place.size, decoder.strides)
    rows = one(raw, decoder.kind, (len(points), BOX + _OBJECTNESS + place.classes))
    top = best_rows(_with_objectness(rows, place.classes), min(decoder.candidates, len(points)))
    near, where = take(rows, top), op.gather(op.const(points), top)
    corner, stride = columns(where, 0, 2), columns(where, 2, 3)
    centre = op.add(op.mul(columns(near, 0, 2), stride), corner)
    half = op.mul(op.exp(columns(near, 2, 4)), op.mul(stride, scalar(0.5)))
    scores = op.mul(columns(near, 4, 5), columns(near, 5, None))
    return pairs(around(centre, half), scores, place.classes)


def _yolov5(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Centre and size in pixels, objectness, classes: of each anchor the best class."""
    assert isinstance(decoder, YoloV5Decoder)  # noqa: S101 - by the table
    rows = one(raw, decoder.kind, (None, BOX + _OBJECTNESS + place.classes))
    top = best_rows(_with_objectness(rows, place.classes), min(decoder.candidates, length_of(rows, 1)))
    near = take(rows, top)
    return single(centred(near), op.mul(columns(near, 4, 5), columns(near, 5, None)))


def _yolov8(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Centre and size in pixels, classes, one column an anchor point: of each the best class."""
    assert isinstance(decoder, YoloV8Decoder)  # noqa: S101 - by the table
    raws = one(raw, decoder.kind, (BOX + place.classes, None))
    _, classes = op.split(raws, ints(BOX, place.classes), outputs_count=2, axis=1)
    top = best_rows(reduce_max(classes, ints(1), keepdims=0), min(decoder.candidates, length_of(raws, 2)))
    index = op.expand(op.unsqueeze(top, ints(1)), ints(1, BOX + place.classes, 1))
    # Turned around only here: what is taken is small, all of it is not.
    near = op.transpose(op.gather_elements(raws, index, axis=2), perm=[0, 2, 1])
    return single(centred(near), columns(near, 4, None))


def _yolov10(raw: Mapping[str, Var], decoder: Decoder, _place: Place) -> Candidates:
    """Finished objects, in the network's order, which is best first: xyxy in pixels, score, class."""
    assert isinstance(decoder, YoloV10Decoder)  # noqa: S101 - by the table
    rows = one(raw, decoder.kind, (None, BOX + 2))
    scores, classes = op.squeeze(columns(rows, 4, 5), ints(2)), op.squeeze(columns(rows, 5, 6), ints(2))
    return Candidates(columns(rows, 0, 4), ordered(scores), op.cast(classes, to=np.int32))


def _with_objectness(rows: Var, classes: int) -> Var:
    """Score every anchor (N, A) by its best class."""
    _, objectness, scores = op.split(rows, ints(BOX, _OBJECTNESS, classes), outputs_count=3, axis=2)
    return op.mul(op.squeeze(objectness, ints(2)), reduce_max(scores, ints(2), keepdims=0))


HEADS: dict[str, Head] = {"yolox": _yolox, "yolov5": _yolov5, "yolov8": _yolov8, "yolov10": _yolov10}
