"""Heads of networks that move anchors: SSD and RetinaNet."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var
from spox.opset.ai.onnx.v18 import reduce_max  # of 17, it cannot be brought to a newer opset

from engines.anchors import default_boxes, level_anchors
from engines.build.heads.base import (
    BOX,
    BOX_WORDS,
    Candidates,
    Head,
    Place,
    around,
    best_rows,
    columns,
    ints,
    length_of,
    one,
    pairs,
    scalar,
    shape_of,
    take,
)
from engines.geometry import Size
from engines.outputs import Decoder, RetinaNetDecoder, SsdDecoder
from engines.types import Float

_STEEPEST = math.log(1000 / 16)  # of a logarithm of sizes: no box becomes so large that it is no number


def _ssd(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Classes that exclude each other, 0 of them background: Liu et al. 2016, https://arxiv.org/abs/1512.02325."""
    assert isinstance(decoder, SsdDecoder)  # noqa: S101 - by the table
    anchors = _default_boxes(decoder, place.size) if decoder.boxes == "offsets" else None
    scores, boxes = _two(raw, decoder.kind, None if anchors is None else len(anchors), place.classes)
    if decoder.scores == "logits":
        scores = op.softmax(scores, axis=2)
    objects = columns(scores, 1, None)
    top = best_rows(reduce_max(objects, ints(2), keepdims=0), min(decoder.candidates, length_of(scores, 1)))
    near = take(boxes, top)
    sure = _where_numbers(near, take(objects, top))
    if anchors is not None:
        near = _moved(near, op.gather(op.const(_centred(anchors)), top), decoder.weights)
    elif decoder.boxes == "shares":
        near = op.mul(near, _limits(place.size))
    found = pairs(_clipped(near, place.size), sure, place.classes - 1)
    return Candidates(found.boxes, found.scores, op.add(found.classes, op.const(np.int32(1))))


def _retinanet(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Classes that are asked for one by one: Lin et al. 2017, https://arxiv.org/abs/1708.02002."""
    assert isinstance(decoder, RetinaNetDecoder)  # noqa: S101 - by the table
    ratios = [decoder.ratios] * len(decoder.strides)
    anchors = np.concatenate(level_anchors(place.size, decoder.strides, decoder.sizes, ratios))
    logits, offsets = _two(raw, decoder.kind, len(anchors), place.classes)
    # The sigmoid comes after the maximum, for there are hundreds of thousands of anchors.
    best = op.sigmoid(reduce_max(logits, ints(2), keepdims=0))
    top = best_rows(best, min(decoder.candidates, len(anchors)))
    near = take(offsets, top)
    boxes = _moved(near, op.gather(op.const(_centred(anchors)), top), (1.0, 1.0))
    sure = _where_numbers(near, op.sigmoid(take(logits, top)))
    return pairs(_clipped(boxes, place.size), sure, place.classes)


def _two(raw: Mapping[str, Var], kind: str, count: int | None, classes: int) -> tuple[Var, Var]:
    """Find the outputs that are scores and boxes; where shapes do not tell them apart, names do, and then the order."""
    if classes != BOX:
        return one(raw, kind, (count, classes)), one(raw, kind, (count, BOX))
    fitting = [name for name, var in raw.items() if (shape_of(var) or ())[2:] == (BOX,)]
    named = [name for name in fitting if any(word in name.lower() for word in BOX_WORDS)]
    boxes = [*named, *reversed(fitting)][:1]
    return (
        one({name: raw[name] for name in fitting if name not in boxes}, kind, (count, classes)),
        one({name: raw[name] for name in fitting if name in boxes}, kind, (count, BOX)),
    )


def _default_boxes(decoder: SsdDecoder, size: Size) -> Float:
    return default_boxes(size, decoder.maps, decoder.scales, decoder.ratios, decoder.steps)


def _centred(xyxy: Float) -> Float:
    """Write boxes (A, 4) as centre and size."""
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], 1)


def _moved(offsets: Var, anchors: Var, weights: tuple[float, float]) -> Var:
    """Move and stretch anchors (N, K, 4), centre and size, by offsets (N, K, 4) over *weights*: to xyxy.

    Girshick et al. 2013, https://arxiv.org/abs/1311.2524, appendix C.
    """
    centre, size = columns(anchors, 0, 2), columns(anchors, 2, None)
    shift = op.mul(columns(offsets, 0, 2), scalar(1 / weights[0]))
    stretch = op.min([op.mul(columns(offsets, 2, None), scalar(1 / weights[1])), scalar(_STEEPEST)])
    half = op.mul(op.exp(stretch), op.mul(size, scalar(0.5)))
    return around(op.add(op.mul(shift, size), centre), half)


def _where_numbers(boxes: Var, scores: Var) -> Var:
    """Let scores (N, K, C) stand where the box (N, K, 4) has no NaN: of it, some runtimes make a finite one."""
    wrong = op.isnan(op.reduce_sum(boxes, ints(2), keepdims=1))
    return op.where(wrong, scalar(-1), scores)


def _clipped(boxes: Var, size: Size) -> Var:
    """Cut off what lies outside the input."""
    return op.min([op.max([boxes, scalar(0)]), _limits(size)])


def _limits(size: Size) -> Var:
    height, width = size
    return op.const(np.array([width, height, width, height], np.float32))


HEADS: dict[str, Head] = {"ssd": _ssd, "retinanet": _retinanet}
