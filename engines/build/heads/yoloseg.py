"""Head of the YOLOs that segment: their boxes, and of what each mask is the sum."""

from __future__ import annotations

from collections.abc import Mapping

import spox.opset.ai.onnx.v17 as op
from spox import Var
from spox.opset.ai.onnx.v18 import reduce_max  # of 17, it cannot be brought to a newer opset

from engines.build.heads.base import (
    BOX,
    Candidates,
    Head,
    Place,
    best_rows,
    centred,
    columns,
    ints,
    length_of,
    shape_of,
    single,
)
from engines.build.roles import Prototyped, Told, prototyped
from engines.errors import BuildError
from engines.outputs import Decoder, YoloV8SegDecoder
from engines.runtimes.checks import shown


def _yolov8_seg(raw: Mapping[str, Var], decoder: Decoder, place: Place) -> Candidates:
    """As yolov8, with the coefficients of every kept anchor, and the prototypes that all of them weigh."""
    assert isinstance(decoder, YoloV8SegDecoder)  # noqa: S101 - by the table
    found = _pair(raw, place.classes)
    table, width = raw[found.columns], BOX + place.classes + found.width
    _, classes, _ = op.split(table, ints(BOX, place.classes, found.width), outputs_count=3, axis=1)
    top = best_rows(reduce_max(classes, ints(1), keepdims=0), min(decoder.candidates, length_of(table, 2)))
    index = op.expand(op.unsqueeze(top, ints(1)), ints(1, width, 1))
    near = op.transpose(op.gather_elements(table, index, axis=2), perm=[0, 2, 1])
    kept = single(centred(near), columns(near, BOX, BOX + place.classes))
    extras = {"coefficients": columns(near, BOX + place.classes, None), "prototypes": raw[found.prototypes]}
    return Candidates(kept.boxes, kept.scores, kept.classes, extras)


def _pair(raw: Mapping[str, Var], classes: int) -> Prototyped:
    """Find what the manifest promises: as many columns as there are classes. Raises BuildError."""
    shapes = {name: shape_of(var) for name, var in raw.items()}
    found = prototyped({name: Told(shape) for name, shape in shapes.items()})
    if found is not None and (shapes[found.columns] or ())[1] == BOX + classes + found.width:
        return found
    given = " and ".join("one of unknown shape" if shape is None else shown(shape) for shape in shapes.values())
    raise BuildError(
        f"decoder yolov8-seg reads an output (?, {BOX + classes} + C, ?) and prototypes (?, C, ?, ?), but the network "
        f"gives {given}: correct labels or decoder in the manifest"
    )


HEADS: dict[str, Head] = {"yolov8-seg": _yolov8_seg}
