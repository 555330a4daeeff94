"""What a stranger's ONNX file says about itself, and the manifest that follows from it, with the reasons in words.

Layouts are those of the public exports, each known by its outputs: A is how many cells there are at strides 8, 16 and
32. Exports of Ultralytics also carry `names`, `imgsz`, `task` and the like: str() of a Python value each.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import onnx

from engines.build.shapes import Shape, described, image_input, known_shape, static
from engines.errors import BuildError, ModelError
from engines.geometry import Size
from engines.manifest import Preprocess
from engines.runtimes.checks import check_file
from engines.yamlsource import suggest

DECODERS = ("yolox", "yolov5", "yolov8", "yolov10")
_ALSO = {  # networks whose exports have the outputs of another
    "yolov3": "yolov5", "yolov6": "yolov5", "yolov7": "yolov5", "yolov9": "yolov8", "yolov11": "yolov8",
    "yolo11": "yolov8", "yolov12": "yolov8", "yolo12": "yolov8", "yolo26": "yolov10",
}  # fmt: skip
_LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))  # strides; the first are the usual ones
_FINISHED = (6, 1000)  # columns of a finished object, and the most of them that anybody lets a network give
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger"}
_LONGEST = 1_000_000  # characters of metadata that are read


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to write into a manifest, and why: *reasons* by the manifest's key."""

    decoder: str
    preprocess: Preprocess
    labels: tuple[str, ...]
    named_inside: bool  # labels are from the file itself
    any_batch: bool
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read an output."""

    decoder: str
    classes: int | None  # None: the output does not say
    why: str


@dataclass(frozen=True, slots=True)
class _File:
    """What is in the file, for images of one size."""

    path: Path
    image: onnx.ValueInfoProto
    size: Size
    size_from: str
    outputs: tuple[onnx.ValueInfoProto, ...]
    metadata: Mapping[str, str]
    quantised: bool


def propose(
    path: Path, decoder: str | None = None, labels: Sequence[str] | None = None, size: Size | None = None
) -> Proposal:
    """Look at an ONNX file and say what its manifest must be.

    *labels* and *decoder* are what the user says of it, *size* (height, width) what a network for images of any size
    is to be used for. Raises ModelError when it is no ONNX file, BuildError when it is nothing that we can serve, or
    what it has contradicts what is said.
    """
    kind = None if decoder is None else _known(decoder)
    file = _look(path, size)
    _refuse_other_tasks(file)
    named = _names(file.metadata)
    readings = _readings(file)
    reading = _pick(file, readings, labels or named) if kind is None else _confirm(file, readings, kind)
    found = _labelled(file, reading, labels, named)
    preprocess, why = _preprocess(file, reading.decoder)
    batch = known_shape(file.image)[0]
    reasons = {
        "decoder": reading.why,
        "labels": "from the file's metadata" if labels is None else "as given",
        "size": file.size_from,
        "pixels": why,
        "weights": _about(file, any_batch=batch is None),
    }
    return Proposal(reading.decoder, preprocess, found, labels is None, batch is None, reasons)


# --- the file ---


def _look(path: Path, size: Size | None) -> _File:
    model = _read(path)
    image = image_input(model, path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    told, why = _size(path, image, metadata, size)
    fixed = static(model, image, (known_shape(image)[0], 3, *told))
    quantised = any(node.op_type in _QUANTISED for node in model.graph.node)
    return _File(path, image, told, why, tuple(fixed.graph.output), metadata, quantised)


def _read(path: Path) -> onnx.ModelProto:
    check_file(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path} is not called .onnx: export your network to ONNX, and give that file")
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors have no base of their own
        reason = str(error).partition("\n")[0].strip(" .")
        raise ModelError(f"{path} is no ONNX network ({reason}): download or export it again") from error
    return model


def _size(path: Path, image: onnx.ValueInfoProto, metadata: Mapping[str, str], size: Size | None) -> tuple[Size, str]:
    height, width = known_shape(image)[2:]
    if height and width:
        if size not in (None, (height, width)):
            raise BuildError(
                f"{path}: its input {described(image)} is for {height}x{width} alone: leave the size out, or export it "
                f"for {size[0]}x{size[1]}"
            )
        return (height, width), f"input {described(image)}"
    told = size or _image_size(metadata)
    if told is None:
        raise BuildError(
            f"{path}: its input {described(image)} takes images of any size: say which with --size, such as 640x640"
        )
    return told, f"input {described(image)} takes any; {'this was asked for' if size else 'its metadata names this'}"


def _image_size(metadata: Mapping[str, str]) -> Size | None:
    told = _value(metadata, "imgsz")
    if isinstance(told, list | tuple) and len(told) == 2 and all(isinstance(n, int) and n > 0 for n in told):
        return told[0], told[1]
    return None


def _names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Read the classes: a list, or a dict of 0 to n - 1; None where neither is there."""
    told = _value(metadata, "names")
    if isinstance(told, dict) and set(told) == set(range(len(told))):
        told = [told[i] for i in range(len(told))]
    if not isinstance(told, list | tuple) or not told:
        return None
    names = tuple(" ".join(str(name).split()) for name in told)
    return names if all(names) else None


def _value(metadata: Mapping[str, str], key: str) -> object:
    """Read a Python literal; None where there is none. Nothing is evaluated but numbers, text and what holds them."""
    text = metadata.get(key, "")
    if len(text) > _LONGEST:
        return None
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # whoever wrote it meant something else
        return None
    return value


def _refuse_other_tasks(file: _File) -> None:
    task = file.metadata.get("task", "detect")
    if task != "detect":
        raise BuildError(
            f"{file.path} is a network for the task {task!r}, as its metadata says, but what can be brought are "
            f"detectors ({', '.join(DECODERS)}): export one that was trained to detect"
        )


# --- its outputs ---


def _readings(file: _File) -> list[_Reading]:
    """List every way to read the file's outputs; where the number of boxes is unusual, nothing is certain."""
    return list(chain.from_iterable(_of_output(value, file) for value in file.outputs))


def _of_output(value: onnx.ValueInfoProto, file: _File) -> list[_Reading]:
    shape = known_shape(value)
    if len(shape) != 3:
        return []
    _, rows, columns = shape
    cells = [_cells(file.size, strides) for strides in _LEVELS]
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


def _cells(size: Size, strides: Sequence[int]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def _reading(decoder: str, classes: int | None, value: onnx.ValueInfoProto, why: str) -> _Reading:
    return _Reading(decoder, classes, f"output {described(value)}: {why}")


def _known(decoder: str) -> str:
    kind = _ALSO.get(decoder.lower(), decoder.lower())
    if kind not in DECODERS:
        raise BuildError(f"there is no decoder {decoder!r}{suggest(decoder, [*DECODERS, *_ALSO])}: name one of these")
    return kind


def _pick(file: _File, readings: Sequence[_Reading], labels: Sequence[str] | None) -> _Reading:
    """Take the one reading that is left when the number of labels has spoken. Raises BuildError."""
    fitting = [r for r in readings if labels is None or r.classes in (None, len(labels))]
    if len({r.decoder for r in fitting or readings}) == 1:
        return (fitting or readings)[0]
    if not readings:
        raise BuildError(
            f"{file.path} gives {_given(file)}, and no decoder is known for that: what can be brought are exports of "
            f"detectors with the outputs of {', '.join(DECODERS)}{_elsewhere(file)}"
        )
    ways = "; ".join(f"{r.decoder} ({r.why.rpartition(': ')[2]})" for r in fitting or readings)
    raise BuildError(f"{file.path}: {_given(file)} can be read in several ways: say with --decoder which it is: {ways}")


def _confirm(file: _File, readings: Sequence[_Reading], kind: str) -> _Reading:
    """See whether the outputs can be what the user says. Raises BuildError."""
    sure = [r for r in readings if r.decoder == kind]
    if sure:
        return sure[0]
    for value in file.outputs:
        shape = known_shape(value)
        classes = _classes(kind, shape, file.size) if len(shape) == 3 else None
        if classes is not None:
            return _reading(kind, classes or None, value, "not a usual number of boxes, but as --decoder says")
    likely = ", ".join(dict.fromkeys(r.decoder for r in readings))
    better = f"it looks like {likely}" if likely else f"see how it was exported{_elsewhere(file)}"
    raise BuildError(f"{file.path} gives {_given(file)}, but {kind} gives {_LAYOUTS[kind]}: {better}")


_LAYOUTS = {
    "yolox": "(1, cells, 5 + classes)",
    "yolov5": "(1, boxes, 5 + classes)",
    "yolov8": "(1, 4 + classes, boxes)",
    "yolov10": "(1, boxes, 6)",
}


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


def _given(file: _File) -> str:
    return " and ".join(described(value) for value in file.outputs) or "nothing"


def _elsewhere(file: _File) -> str:
    """Name what it probably is instead."""
    shapes = [known_shape(value) for value in file.outputs]
    if any(len(shape) == 4 for shape in shapes) and any(len(shape) == 3 for shape in shapes):
        return "; this looks like segmentation"
    if any(len(shape) == 5 for shape in shapes):
        return "; these look like the bare maps of a yolov5 or yolov7, to be exported with its grid"
    return "; this looks like classification" if all(len(shape) == 2 for shape in shapes) else ""


# --- what follows ---


def _labelled(
    file: _File, reading: _Reading, labels: Sequence[str] | None, named: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Find the labels, as many as there are classes. Raises BuildError."""
    found = tuple(labels) if labels is not None else named
    count = reading.classes
    if found is None:
        wanted = f"{count} of them" if count else "one for each class that it was trained on"
        raise BuildError(
            f"{file.path} does not name its classes: give their labels with --labels, {wanted}, as a file with one a "
            f"line, or as the name of a list, such as coco80{_elsewhere(file)}"
        )
    if count not in (None, len(found)):
        who = "--labels has" if labels is not None else "its metadata has"
        raise BuildError(
            f"{file.path}: {who} {len(found)} labels, but as {reading.decoder} its {_given(file)} has {count} classes: "
            f"{_hint(file, len(found)) or f'give {count} labels, or another --decoder'}{_elsewhere(file)}"
        )
    return found


def _hint(file: _File, labels: int) -> str:
    for value in file.outputs:
        shape = known_shape(value)
        if len(shape) == 3 and shape[2] == 4 + labels:
            return "4 + as many columns make a yolov8 that was turned around: export it without the transpose"
    return ""


def _preprocess(file: _File, decoder: str) -> tuple[Preprocess, str]:
    """Say what the family's own code does to images before the network."""
    if decoder == "yolox":
        return Preprocess(size=file.size, align="top-left", channels="bgr"), "as YOLOX does it since 0.2: BGR, 0 to 255"
    std = (255.0, 255.0, 255.0)
    return Preprocess(size=file.size, align="center", std=std), "as Ultralytics does it: RGB, 0 to 1"


def _about(file: _File, *, any_batch: bool) -> str:
    words = ["takes a batch of any size" if any_batch else "takes one image at a time"]
    if file.quantised:
        words.append("is quantised to int8 already, so precision fp32 leaves it as it is")
    described_by = file.metadata.get("description", "")
    if described_by:
        words.append(f"calls itself {' '.join(described_by.split())[:80]!r}")
    return "; ".join(words)
