"""What all heads share: what they give, and the operators that they are written in.

A head gives `boxes` (N, K, 4) xyxy in pixels of the network's input, `scores` (N, K) best first, and `classes` (N, K).
Only the K best anchors are decoded. Everything is float32, whatever the network computes in: a half holds no pixel
beyond 512 exactly. A score that is NaN counts as -1: it comes last, and no threshold lets it pass.
The operators are those that every runtime takes: top-k, gathers, arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var
from spox.opset.ai.onnx.v18 import reduce_max  # of 17, it cannot be brought to a newer opset

from engines.errors import BuildError
from engines.geometry import Size
from engines.outputs import Decoder
from engines.runtimes.checks import shown

BOX = 4  # columns
BOX_WORDS = ("box", "loc", "reg", "offset", "delta")  # in the name of an output
_END = np.iinfo(np.int64).max  # of an axis, to a slice


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a head gives; see above. A segmenter gives `masks`, or `coefficients` and `prototypes`, besides."""

    boxes: Var
    scores: Var
    classes: Var
    extras: Mapping[str, Var] = field(default_factory=lambda: MappingProxyType({}))  # graph outputs by name


@dataclass(frozen=True, slots=True)
class Place:
    """What a head must know besides its own settings."""

    classes: int
    size: Size  # of the network's input: height, width


Head = Callable[[Mapping[str, Var], Decoder, Place], Candidates]


def one(raw: Mapping[str, Var], kind: str, wanted: tuple[int | None, int | None]) -> Var:
    """Find the one output that is what the manifest promises; others beside it are left alone."""
    known = [shape_of(var) for var in raw.values()]
    fitting = [var for var, shape in zip(raw.values(), known, strict=True) if _fits(shape, wanted)]
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


def shape_of(var: Var) -> tuple[int | None, ...] | None:
    shape = var.unwrap_tensor().shape
    return None if shape is None else tuple(n if isinstance(n, int) else None for n in shape)


def length_of(var: Var, axis: int) -> int:
    shape = shape_of(var)
    length = shape[axis] if shape else None
    if length is None:
        raise BuildError(
            f"the network does not say how many boxes it gives {shown(shape or ())}: export it for one size"
        )
    return length


def best_rows(scores: Var, count: int) -> Var:
    """Find the rows (N, count) with the highest of the scores (N, A), best first."""
    return op.top_k(ordered(scores), ints(count), axis=1)[1]


def ordered(scores: Var) -> Var:
    """Put -1 in the place of NaN: it would come out of a top-k anywhere, even first."""
    return op.where(op.isnan(scores), scalar(-1), scores)


def take(values: Var, rows: Var) -> Var:
    """Gather rows (N, K) of values (N, A, W)."""
    shape = shape_of(values)
    assert shape is not None, "checked by _one"  # noqa: S101 - for the type checker
    width = shape[2]
    index = op.expand(op.unsqueeze(rows, ints(2)), ints(1, 1, int(str(width))))
    return op.gather_elements(values, index, axis=1)


def pairs(boxes: Var, scores: Var, classes: int) -> Candidates:
    """Let each box (N, K, 4) count for every class of its scores (N, K, C): the K best of all these pairs."""
    count = length_of(boxes, 1)
    flat = ordered(op.reshape(scores, ints(-1, count * classes)))
    values, pair = op.top_k(flat, ints(count), axis=1)
    row = op.div(pair, ints(classes))
    return Candidates(take(boxes, row), values, op.cast(op.sub(pair, op.mul(row, ints(classes))), to=np.int32))


def single(boxes: Var, scores: Var) -> Candidates:
    """Let each box count for its best class; they come best first already."""
    best = ordered(reduce_max(scores, ints(2), keepdims=0))
    return Candidates(boxes, best, op.cast(op.arg_max(scores, axis=2, keepdims=0), to=np.int32))


def centred(rows: Var) -> Var:
    return around(columns(rows, 0, 2), op.mul(columns(rows, 2, 4), scalar(0.5)))


def around(centre: Var, half: Var) -> Var:
    return op.concat([op.sub(centre, half), op.add(centre, half)], axis=2)


def columns(rows: Var, start: int, stop: int | None) -> Var:
    """Cut columns out of the last of three axes."""
    return op.slice(rows, ints(start), ints(_END if stop is None else stop), ints(2))


def ints(*values: int) -> Var:
    return op.const(np.array(values, np.int64))


def scalar(value: float) -> Var:
    return op.const(np.array(value, np.float32))
