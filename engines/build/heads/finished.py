"""Head of networks that find objects by themselves, as many as there are: their rows become a fixed number.

They are torchvision's and their like, for one image at a time. What is inside them (NonZero, NonMaxSuppression,
RoiAlign, loops) runs in ONNX Runtime and in OpenVINO, not in TensorRT; so RoiAlign is at hand here as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var

from engines.build.heads.base import BOX, Candidates, Head, Place, ints, scalar, shape_of
from engines.build.roles import Finished, Told, finished
from engines.errors import BuildError
from engines.geometry import Size
from engines.outputs import Decoder, TorchvisionRcnnDecoder
from engines.runtimes.checks import shown

_CELLS = 28  # of a mask that is sampled back, along each side: as many as it was made of


def _torchvision(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """Sort by score, and cut or fill up to *detections* rows: those that are none score 0; where one is NaN, all -1."""
    assert isinstance(decoder, TorchvisionRcnnDecoder)  # noqa: S101 - by the table
    found, count = _named(raw), decoder.detections
    told = raw[found.scores]
    # What is none comes behind what is found: of equals the first is taken, and only they are 0.
    wrong = op.isnan(told)
    best, rows = op.top_k(_filled(op.where(wrong, scalar(0), told), count), ints(count), axis=0)
    scores = op.where(op.greater(_number_of(wrong), ints(0)), scalar(-1), best)
    boxes = op.gather(_filled(raw[found.boxes], count, BOX), rows)
    classes = op.gather(_filled(op.cast(raw[found.labels], to=np.int32), count), rows)
    extras = {}
    if found.masks is not None:
        extras["masks"] = _masks(raw[found.masks], _Kept(boxes, scores, rows, count), place.size)
    boxes, scores, classes = (op.unsqueeze(var, ints(0)) for var in (boxes, scores, classes))
    return Candidates(boxes, scores, classes, extras)


class _Kept:
    """The rows that are left: boxes (D, 4), scores (D,), and where each was among all."""

    def __init__(self, boxes: Var, scores: Var, rows: Var, count: int) -> None:
        self.boxes, self.rows, self.count = boxes, rows, count
        self._real = _number_of(op.greater(scores, scalar(0)))  # of objects; they are the first

    def real(self, values: Var) -> Var:
        """Cut off the rows that are none."""
        return op.slice(values, ints(0), self._real, ints(0))


def _masks(masks: Var, kept: _Kept, size: Size) -> Var:
    """Give masks (1, D, M, M), each on its box, of such ones, or of masks of the whole image."""
    height, width = (shape_of(masks) or (None,) * 4)[2:]
    if height in (None, size[0]) and width in (None, size[1]):
        cells, found = _CELLS, _sampled(masks, kept, size)
    elif height is not None and height == width:
        cells, found = height, op.gather(_filled(masks, kept.count, 1, height, height), kept.rows)
    else:
        raise BuildError(
            f"the network gives masks {shown(shape_of(masks) or ())}, but those of the whole image are "
            f"{shown((None, 1, *size))}, and those of a box square: correct size in the manifest"
        )
    filled = op.slice(_filled(found, kept.count, 1, cells, cells), ints(0), ints(kept.count), ints(0))
    return op.reshape(filled, ints(1, kept.count, cells, cells))


def _sampled(masks: Var, kept: _Kept, size: Size) -> Var:
    """Take masks of the whole image (K, 1, H, W) back to the cells that torchvision made them of.

    It puts one cell of zeros around a mask, widens its box by as much, and rounds that to whole pixels.
    """
    boxes = kept.real(kept.boxes)
    bounds = np.array([*size[::-1]] * 2, np.float32)
    # A coordinate that is no number would be read as an address.
    safe = op.min([op.max([op.where(op.isnan(boxes), scalar(0), boxes), op.const(-bounds)]), op.const(2 * bounds)])
    low, high = op.split(safe, ints(2, 2), outputs_count=2, axis=1)
    middle, half = op.mul(op.add(low, high), scalar(0.5)), op.mul(op.sub(high, low), scalar(0.5 * _WIDER))
    first, last = _whole(op.sub(middle, half)), _whole(op.add(middle, half))
    cell = op.mul(op.add(op.sub(last, first), scalar(1)), scalar(1 / (_CELLS + 2)))
    regions = op.concat([op.add(first, cell), op.sub(op.add(last, scalar(1)), cell)], axis=1)
    return op.roi_align(
        masks, regions, kept.real(kept.rows), output_height=_CELLS, output_width=_CELLS, sampling_ratio=1
    )


_WIDER = (_CELLS + 2) / _CELLS


def _number_of(these: Var) -> Var:
    """Count what is true (K,): (1,)."""
    return op.reduce_sum(op.cast(these, to=np.int64), ints(0), keepdims=1)


def _whole(values: Var) -> Var:
    return op.cast(op.cast(values, to=np.int64), to=np.float32)


def _filled(values: Var, count: int, *row: int) -> Var:
    """Put *count* rows of nothing behind the values."""
    dtype = values.unwrap_tensor().dtype
    return op.concat([values, op.constant_of_shape(ints(count, *row), value=np.zeros(1, dtype))], axis=0)


def _named(raw: Mapping[str, Var]) -> Finished:
    told = {name: Told(shape_of(var), var.unwrap_tensor().dtype.kind in "iu") for name, var in raw.items()}
    found = finished(told)
    if found is None:
        given = " and ".join(f"{name} {shown(each.shape or ())}" for name, each in told.items()) or "nothing"
        raise BuildError(
            "decoder torchvision-maskrcnn reads boxes (?, 4), integer labels (?), scores (?) and perhaps masks "
            f"(?, 1, height, width), but the network gives {given}: correct decoder in the manifest, or export it again"
        )
    return found


HEADS: dict[str, Head] = {"torchvision-maskrcnn": _torchvision}
