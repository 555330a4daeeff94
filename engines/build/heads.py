"""What turns a family's raw outputs into candidates, as part of the graph: so little leaves the device.

A head gives `boxes` (N, K, 4) xyxy in pixels of the network's input, `scores` (N, K) best first, and `classes` (N, K).
Only the K best anchors are decoded. Everything is float32, whatever the network computes in: a half holds no pixel
beyond 512 exactly. A score that is NaN counts as -1: it comes last, and no threshold lets it pass.
The operators are those that every runtime takes: top-k, gathers, arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var
from spox.opset.ai.onnx.v18 import reduce_max  # of 17, it cannot be brought to a newer opset

from engines.errors import BuildError
from engines.geometry import Size
from engines.manifest import Decoder, YoloV5Decoder, YoloV8Decoder, YoloV10Decoder, YoloxDecoder
from engines.runtimes.checks import shown
from engines.types import Float

_BOX, _OBJECTNESS = 4, 1  # columns
_END = np.iinfo(np.int64).max  # of an axis, to a slice


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a head gives; see above."""

    boxes: Var
    scores: Var
    classes: Var


@dataclass(frozen=True, slots=True)
class Place:
    """What a head must know besides its own settings."""

    classes: int
    size: Size  # of the network's input: height, width


Head = Callable[[Sequence[Var], Decoder, Place], Candidates]


def decode(raw: Sequence[Var], decoder: Decoder, place: Place) -> Candidates:
    """Add the head that the manifest names. Raises BuildError when the network's outputs are not what it reads."""
    return _HEADS[decoder.kind]([op.cast(output, to=np.float32) for output in raw], decoder, place)


def grid(size: Size, strides: Sequence[int]) -> Float:
    """List the anchor points (A, 3) of every level, row by row: x, y of the cell's corner and its stride, in pixels."""
    levels = []
    for stride in strides:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        levels.append(np.stack([x.ravel() * stride, y.ravel() * stride, np.full(x.size, stride)], 1))
    return np.concatenate(levels).astype(np.float32)


def _yolox(raw: Sequence[Var], decoder: Decoder, place: Place) -> Candidates:
    """Offsets and log sizes in strides: Ge et al. 2021, https://arxiv.org/abs/2107.08430; several classes a box."""
    assert isinstance(decoder, YoloxDecoder)  # noqa: S101 - by the table
    points = grid(place.size, decoder.strides)
    rows = _one(raw, decoder.kind, (len(points), _BOX + _OBJECTNESS + place.classes))
    best = _best(_with_objectness(rows, place.classes), min(decoder.candidates, len(points)))
    near, where = _take(rows, best), op.gather(op.const(points), best)
    corner, stride = _columns(where, 0, 2), _columns(where, 2, 3)
    centre = op.add(op.mul(_columns(near, 0, 2), stride), corner)
    half = op.mul(op.exp(_columns(near, 2, 4)), op.mul(stride, _scalar(0.5)))
    scores = op.mul(_columns(near, 4, 5), _columns(near, 5, None))
    return _pairs(_around(centre, half), scores, place.classes)


def _yolov5(raw: Sequence[Var], decoder: Decoder, place: Place) -> Candidates:
    """Centre and size in pixels, objectness, classes: of each anchor the best class."""
    assert isinstance(decoder, YoloV5Decoder)  # noqa: S101 - by the table
    rows = _one(raw, decoder.kind, (None, _BOX + _OBJECTNESS + place.classes))
    best = _best(_with_objectness(rows, place.classes), min(decoder.candidates, _length(rows, 1)))
    near = _take(rows, best)
    return _single(_centred(near), op.mul(_columns(near, 4, 5), _columns(near, 5, None)))


def _yolov8(raw: Sequence[Var], decoder: Decoder, place: Place) -> Candidates:
    """Centre and size in pixels, classes, one column an anchor point: of each the best class."""
    assert isinstance(decoder, YoloV8Decoder)  # noqa: S101 - by the table
    columns = _one(raw, decoder.kind, (_BOX + place.classes, None))
    _, classes = op.split(columns, _ints(_BOX, place.classes), outputs_count=2, axis=1)
    best = _best(reduce_max(classes, _ints(1), keepdims=0), min(decoder.candidates, _length(columns, 2)))
    index = op.expand(op.unsqueeze(best, _ints(1)), _ints(1, _BOX + place.classes, 1))
    # Turned around only here: what is taken is small, all of it is not.
    near = op.transpose(op.gather_elements(columns, index, axis=2), perm=[0, 2, 1])
    return _single(_centred(near), _columns(near, 4, None))


def _yolov10(raw: Sequence[Var], decoder: Decoder, _place: Place) -> Candidates:
    """Finished objects, in the network's order, which is best first: xyxy in pixels, score, class."""
    assert isinstance(decoder, YoloV10Decoder)  # noqa: S101 - by the table
    rows = _one(raw, decoder.kind, (None, _BOX + 2))
    scores, classes = op.squeeze(_columns(rows, 4, 5), _ints(2)), op.squeeze(_columns(rows, 5, 6), _ints(2))
    return Candidates(_columns(rows, 0, 4), _ordered(scores), op.cast(classes, to=np.int32))


_HEADS: dict[str, Head] = {"yolox": _yolox, "yolov5": _yolov5, "yolov8": _yolov8, "yolov10": _yolov10}


def _one(raw: Sequence[Var], kind: str, wanted: tuple[int | None, int | None]) -> Var:
    """Find the one output that is what the manifest promises; others beside it are left alone."""
    known = [_shape(var) for var in raw]
    fitting = [var for var, shape in zip(raw, known, strict=True) if _fits(shape, wanted)]
    if len(fitting) == 1:
        return fitting[0]
    given = " and ".join("one of unknown shape" if s is None else shown(s) for s in known)
    raise BuildError(
        f"decoder {kind} reads one output {shown((None, *wanted))}, but the network gives {given}: correct size, "
        "labels or decoder in the manifest"
    )


def _fits(shape: tuple[int | None, ...] | None, wanted: tuple[int | None, int | None]) -> bool:
    if shape is None or len(shape) != 3:
        return False
    return all(want is None or got in (None, want) for got, want in zip(shape[1:], wanted, strict=True))


def _shape(var: Var) -> tuple[int | None, ...] | None:
    shape = var.unwrap_tensor().shape
    return None if shape is None else tuple(n if isinstance(n, int) else None for n in shape)


def _length(var: Var, axis: int) -> int:
    shape = _shape(var)
    length = shape[axis] if shape else None
    if length is None:
        raise BuildError(
            f"the network does not say how many boxes it gives {shown(shape or ())}: export it for one size"
        )
    return length


def _with_objectness(rows: Var, classes: int) -> Var:
    """Score every anchor (N, A) by its best class."""
    _, objectness, scores = op.split(rows, _ints(_BOX, _OBJECTNESS, classes), outputs_count=3, axis=2)
    return op.mul(op.squeeze(objectness, _ints(2)), reduce_max(scores, _ints(2), keepdims=0))


def _best(scores: Var, count: int) -> Var:
    """Find the rows (N, count) with the highest of the scores (N, A), best first."""
    return op.top_k(_ordered(scores), _ints(count), axis=1)[1]


def _ordered(scores: Var) -> Var:
    """Put -1 in the place of NaN: it would come out of a top-k anywhere, even first."""
    return op.where(op.isnan(scores), _scalar(-1), scores)


def _take(values: Var, rows: Var) -> Var:
    """Gather rows (N, K) of values (N, A, W)."""
    shape = _shape(values)
    assert shape is not None, "checked by _one"  # noqa: S101 - for the type checker
    width = shape[2]
    index = op.expand(op.unsqueeze(rows, _ints(2)), _ints(1, 1, int(str(width))))
    return op.gather_elements(values, index, axis=1)


def _pairs(boxes: Var, scores: Var, classes: int) -> Candidates:
    """Let each box (N, K, 4) count for every class of its scores (N, K, C): the K best of all these pairs."""
    count = _length(boxes, 1)
    flat = _ordered(op.reshape(scores, _ints(-1, count * classes)))
    values, pair = op.top_k(flat, _ints(count), axis=1)
    row = op.div(pair, _ints(classes))
    return Candidates(_take(boxes, row), values, op.cast(op.sub(pair, op.mul(row, _ints(classes))), to=np.int32))


def _single(boxes: Var, scores: Var) -> Candidates:
    """Let each box count for its best class; they come best first already."""
    best = _ordered(reduce_max(scores, _ints(2), keepdims=0))
    return Candidates(boxes, best, op.cast(op.arg_max(scores, axis=2, keepdims=0), to=np.int32))


def _centred(rows: Var) -> Var:
    return _around(_columns(rows, 0, 2), op.mul(_columns(rows, 2, 4), _scalar(0.5)))


def _around(centre: Var, half: Var) -> Var:
    return op.concat([op.sub(centre, half), op.add(centre, half)], axis=2)


def _columns(rows: Var, start: int, stop: int | None) -> Var:
    """Cut columns out of the last of three axes."""
    return op.slice(rows, _ints(start), _ints(_END if stop is None else stop), _ints(2))


def _ints(*values: int) -> Var:
    return op.const(np.array(values, np.int64))


def _scalar(value: float) -> Var:
    return op.const(np.array(value, np.float32))
