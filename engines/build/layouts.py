"""Ways to read a network's outputs: each layout of the public exports is known by their types, shapes and names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import onnx

from engines.build.anchored import Anchored, anchored
from engines.build.onnxfile import OnnxFile
from engines.build.roles import Told, finished, prototyped
from engines.build.shapes import Shape, described, known_shape
from engines.geometry import Size
from engines.manifest import Manifest, Task

GIVES = {  # in words, by decoder
    "yolox": "(1, cells, 5 + classes)",
    "yolov5": "(1, boxes, 5 + classes)",
    "yolov8": "(1, 4 + classes, boxes)",
    "yolov10": "(1, boxes, 6)",
    "yolov8-seg": "(1, 4 + classes + C, boxes) and (1, C, height, width)",
    "ssd": "(1, boxes, classes) and (1, boxes, 4)",
    "retinanet": "(1, anchors, classes) and (1, anchors, 4)",
    "torchvision-maskrcnn": "boxes (?, 4), whole labels (?), scores (?) and perhaps masks (?, 1, height, width)",
}
_LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # strides; the first are the usual ones
_FINISHED = (6, 1000)  # columns of a finished object, and the most of them that anybody lets a network give
_INTEGERS = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a network's outputs."""

    decoder: str
    classes: int | None  # None: the outputs do not say
    why: str
    task: Task = "detect"
    like: Manifest | None = None  # a network of ours with the same anchors


def readings(file: OnnxFile) -> list[Reading]:
    """List every way to read the file's outputs; where the number of boxes is unusual, nothing is certain."""
    alone = chain.from_iterable(_of_output(value, file) for value in file.outputs)
    return [*_finished(file), *_prototyped(file, usual=True), *_anchored(file), *alone]


def as_said(file: OnnxFile, kind: str) -> Reading | None:
    """Read the outputs as the user says, be the number of boxes unusual; None where they cannot be that."""
    return next(iter(_AS_SAID.get(kind, _alone)(file, kind)), None)


# --- several outputs ---


def _finished(file: OnnxFile, _kind: str = "") -> list[Reading]:
    """See whether the network finds objects by itself, a row an object."""
    found = finished(_told(file))
    if found is None:
        return []
    names = [name for name in (found.boxes, found.labels, found.scores, found.masks) if name is not None]
    why = f"{_described(file, names)}: finished objects, as many as there are"
    return [Reading("torchvision-maskrcnn", None, why, "segment" if found.masks else "detect")]


def _prototyped(file: OnnxFile, *, usual: bool) -> list[Reading]:
    """See whether the network gives mask coefficients behind its classes, and prototypes."""
    found = prototyped(_told(file))
    if found is None:
        return []
    _, rows, columns = _shape(file, found.columns)
    if rows is None or not (columns in _many(file.size) if usual else columns is None or columns >= rows):
        return []
    why = f"{_described(file, (found.columns, found.prototypes))}: a cell a column, each 4 + classes + {found.width}"
    return [Reading("yolov8-seg", rows - 4 - found.width, why, "segment")]


def _anchored(file: OnnxFile, kind: str | None = None) -> list[Reading]:
    """See whether the network gives scores and boxes of anchors."""
    found = anchored(file, kind)
    return [] if found is None else [_of_anchors(file, found)]


def _of_anchors(file: OnnxFile, found: Anchored) -> Reading:
    whose = f"the anchors of {found.like.name}" if found.like else "an anchor a row"
    why = f"{_described(file, (found.scores, found.boxes))}: {whose}, their classes and their boxes"
    return Reading(found.decoder, found.classes, why, like=found.like)


def _told(file: OnnxFile) -> Mapping[str, Told]:
    return {value.name: Told(_shape_or_none(value), _is_whole(value)) for value in file.outputs}


def _shape_or_none(value: onnx.ValueInfoProto) -> Shape | None:
    return known_shape(value) if value.type.tensor_type.HasField("shape") else None


def _is_whole(value: onnx.ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type in _INTEGERS


def _shape(file: OnnxFile, name: str) -> Shape:
    return next(known_shape(value) for value in file.outputs if value.name == name)


def _described(file: OnnxFile, names: Sequence[str]) -> str:
    return "outputs " + " and ".join(described(value) for value in file.outputs if value.name in names)


# --- one output ---


def _of_output(value: onnx.ValueInfoProto, file: OnnxFile) -> list[Reading]:
    shape = known_shape(value)
    if len(shape) != 3:
        return []
    _, rows, columns = shape
    cells = _many(file.size)
    found = []
    if columns == _FINISHED[0] and (rows is None or rows <= _FINISHED[1]) and rows not in [3 * n for n in cells]:
        found.append(_reading("yolov10", None, value, "finished objects: box, score and class"))
    if columns and columns > 5 and rows and rows in [3 * n for n in cells]:
        found.append(_reading("yolov5", columns - 5, value, "three anchors a cell, each 4 + 1 + classes"))
    if columns and columns > 5 and rows == cells[0]:
        if "names" not in file.metadata:
            found.append(_reading("yolox", columns - 5, value, "a cell a row, each 4 + 1 + classes, in cells"))
        found.append(_reading("yolov5", columns - 5, value, "a cell a row, each 4 + 1 + classes, in pixels"))
    if rows and rows > 4 and columns in cells:
        found.append(_reading("yolov8", rows - 4, value, "a cell a column, each 4 + classes"))
    return found


def _alone(file: OnnxFile, kind: str) -> list[Reading]:
    """See which output can be of this kind."""
    found = []
    for value in file.outputs:
        shape = known_shape(value)
        classes = _classes(kind, shape, file.size) if len(shape) == 3 else None
        if classes is not None:
            why = "not a usual number of boxes, but as --decoder says"
            found.append(_reading(kind, classes or None, value, why))
    return found


def _classes(kind: str, shape: Shape, size: Size) -> int | None:
    """Count the classes of an output that could be of this kind; 0 where it does not say, None where it cannot be."""
    _, rows, columns = shape
    if kind == "yolov10":
        return 0 if columns == _FINISHED[0] else None
    if kind == "yolox" and rows != _cells(size, _LEVELS[0]):
        return None
    width, boxes, fixed = (rows, columns, 4) if kind == "yolov8" else (columns, rows, 5)
    plausible = width is not None and width > fixed and (boxes is None or boxes >= width)
    return width - fixed if plausible and width is not None else None


def _many(size: Size) -> list[int]:
    return [_cells(size, strides) for strides in _LEVELS]


def _cells(size: Size, strides: Sequence[int]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def _reading(decoder: str, classes: int | None, value: onnx.ValueInfoProto, why: str) -> Reading:
    return Reading(decoder, classes, f"output {described(value)}: {why}")


_AS_SAID: dict[str, Callable[[OnnxFile, str], list[Reading]]] = {
    "torchvision-maskrcnn": _finished,
    "yolov8-seg": lambda file, _kind: _prototyped(file, usual=False),
    "ssd": _anchored,
    "retinanet": _anchored,
}
