"""The manifest that follows from what a stranger's ONNX file says about itself, with the reasons in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.build.anchored import ssd_settings
from engines.build.layouts import GIVES, Reading, as_said, readings
from engines.build.onnxfile import OnnxFile, class_names, look
from engines.build.shapes import known_shape
from engines.errors import BuildError
from engines.geometry import Size
from engines.manifest import Preprocess, Task
from engines.yamlsource import suggest

DECODERS = tuple(GIVES)
_ALSO = {  # networks whose exports have the outputs of another
    "yolov3": "yolov5", "yolov6": "yolov5", "yolov7": "yolov5", "yolov9": "yolov8", "yolov11": "yolov8",
    "yolo11": "yolov8", "yolov12": "yolov8", "yolo12": "yolov8", "yolo26": "yolov10",
    "yolov9-seg": "yolov8-seg", "yolo11-seg": "yolov8-seg", "yolov11-seg": "yolov8-seg", "yolo12-seg": "yolov8-seg",
    "torchvision-fasterrcnn": "torchvision-maskrcnn", "torchvision-retinanet": "torchvision-maskrcnn",
    "torchvision-ssd": "torchvision-maskrcnn", "torchvision-fcos": "torchvision-maskrcnn",
}  # fmt: skip
_TASKS = ("detect", "segment")
_MEAN = (124, 116, 104)  # of ImageNet, as R, G, B: what torchvision takes off, and so what nothing is to its networks
_BGR_MEAN = (102.9801, 115.9465, 122.7717)
_EVEN = (127.0, 127.0, 127.0)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to write into a manifest, and why: *reasons* by the manifest's key."""

    task: Task
    decoder: str
    settings: Mapping[str, object]  # the decoder's own, where it is not as usual
    preprocess: Preprocess
    labels: tuple[str, ...]
    named_inside: bool  # labels are from the file itself
    any_batch: bool
    reasons: Mapping[str, str]


def propose(
    path: Path, decoder: str | None = None, labels: Sequence[str] | None = None, size: Size | None = None
) -> Proposal:
    """Look at an ONNX file and say what its manifest must be.

    *labels* and *decoder* are what the user says of it, *size* (height, width) what a network for images of any size
    is to be used for. Raises ModelError when it is no ONNX file, BuildError when it is nothing that we can serve, or
    what it has contradicts what is said.
    """
    kind = None if decoder is None else _known(decoder)
    file = look(path, size)
    _refuse_other_tasks(file)
    named, ways = class_names(file), readings(file)
    reading = _pick(file, ways, labels or named) if kind is None else _confirm(file, ways, kind)
    _refuse_lost_masks(file, reading)
    found = _labelled(file, reading, labels, named)
    settings = ssd_settings(file, reading.like) if reading.decoder == "ssd" else {}
    preprocess, why = _preprocess(file, reading)
    reasons = {
        "decoder": reading.why,
        "labels": "from the file's metadata" if labels is None else "as given",
        "size": file.size_from,
        "pixels": why,
        "weights": _about(file),
    }
    return Proposal(reading.task, reading.decoder, settings, preprocess, found, labels is None, file.any_batch, reasons)


def _refuse_other_tasks(file: OnnxFile) -> None:
    task = file.metadata.get("task", _TASKS[0])
    if task not in _TASKS:
        raise BuildError(
            f"{file.path} is a network for the task {task!r}, as its metadata says, but what can be brought are "
            f"detectors and segmenters ({', '.join(DECODERS)}): export one that was trained for that"
        )


def _refuse_lost_masks(file: OnnxFile, reading: Reading) -> None:
    if file.metadata.get("task") == "segment" and reading.task != "segment":
        raise BuildError(
            f"{file.path} is a network for the task 'segment', as its metadata says, but gives {file.given()}, and "
            f"{reading.decoder} has no masks: export it with the outputs of yolov8-seg, {GIVES['yolov8-seg']}"
        )


# --- the decoder ---


def _known(decoder: str) -> str:
    kind = _ALSO.get(decoder.lower(), decoder.lower())
    if kind not in DECODERS:
        raise BuildError(f"there is no decoder {decoder!r}{suggest(decoder, [*DECODERS, *_ALSO])}: name one of these")
    return kind


def _pick(file: OnnxFile, ways: Sequence[Reading], labels: Sequence[str] | None) -> Reading:
    """Take the one reading that is left when the number of labels has spoken. Raises BuildError."""
    fitting = [r for r in ways if labels is None or r.classes in (None, len(labels))] or ways
    likely = [r for r in fitting if r.task == "segment"] or fitting  # nobody gives masks by accident
    if len({r.decoder for r in likely}) == 1:
        return likely[0]
    if not ways:
        raise BuildError(
            f"{file.path} gives {file.given()}, and no decoder is known for that: what can be brought are exports of "
            f"detectors and segmenters with the outputs of {', '.join(DECODERS)}{_instead(file)}"
        )
    told = "; ".join(f"{r.decoder} ({r.why.rpartition(': ')[2]})" for r in likely)
    raise BuildError(f"{file.path}: {file.given()} can be read in several ways: say with --decoder which it is: {told}")


def _confirm(file: OnnxFile, ways: Sequence[Reading], kind: str) -> Reading:
    """See whether the outputs can be what the user says. Raises BuildError."""
    found = next((r for r in ways if r.decoder == kind), None) or as_said(file, kind)
    if found is not None:
        return found
    likely = ", ".join(dict.fromkeys(r.decoder for r in ways))
    better = f"it looks like {likely}" if likely else f"see how it was exported{_instead(file)}"
    raise BuildError(f"{file.path} gives {file.given()}, but {kind} gives {GIVES[kind]}: {better}")


def _instead(file: OnnxFile, decoder: str = "") -> str:
    """Name what it probably is instead of what this *decoder* reads."""
    shapes = [known_shape(value) for value in file.outputs]
    masked = next(
        (r.decoder for r in readings(file) if r.task == "segment"), "segmentation of a kind without a decoder"
    )
    if {3, 4} <= {len(shape) for shape in shapes}:
        return "" if decoder == masked else f"; this looks like {masked}"
    if any(len(shape) == 5 for shape in shapes):
        return "; these look like the bare maps of a yolov5 or yolov7, to be exported with its grid"
    return "; this looks like classification" if all(len(shape) == 2 for shape in shapes) else ""


# --- labels ---


def _labelled(
    file: OnnxFile, reading: Reading, labels: Sequence[str] | None, named: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Find the labels, as many as there are classes. Raises BuildError."""
    found = tuple(labels) if labels is not None else named
    count = reading.classes
    if found is None:
        raise BuildError(
            f"{file.path} does not name its classes: give their labels with --labels, {_wanted(reading)}, as a file "
            f"with one a line, or as the name of a list, such as {_LISTS.get(reading.decoder, 'coco80')}"
        )
    if count not in (None, len(found)):
        who = "--labels has" if labels is not None else "its metadata has"
        better = _hint(file, reading, len(found)) or f"give {count} labels, or another --decoder"
        raise BuildError(
            f"{file.path}: {who} {len(found)} labels, but as {reading.decoder} its {file.given()} has {count} classes: "
            f"{better}{_instead(file, reading.decoder)}"
        )
    return found


_LISTS = {"ssd": "coco91", "torchvision-maskrcnn": "coco91"}
_WITH_BACKGROUND = frozenset(_LISTS)


def _wanted(reading: Reading) -> str:
    many = f"{reading.classes} of them" if reading.classes else "one for each class that it was trained on"
    return f"{many}, the first for the background" if reading.decoder in _WITH_BACKGROUND else many


def _hint(file: OnnxFile, reading: Reading, labels: int) -> str:
    if reading.decoder in _WITH_BACKGROUND and reading.classes == labels + 1:
        return "put one for the background before them"
    if any(len(shape) == 3 and shape[2] == 4 + labels for shape in map(known_shape, file.outputs)):
        return "4 + as many columns make a yolov8 that was turned around: export it without the transpose"
    return ""


# --- what follows ---


def _preprocess(file: OnnxFile, reading: Reading) -> tuple[Preprocess, str]:
    """Say what the family's own code does to images before the network."""
    size, std = file.size, (255.0, 255.0, 255.0)
    if reading.like is not None:
        return reading.like.preprocess, f"as {reading.like.name} has it"
    if reading.decoder == "yolox":
        return Preprocess(size=size, align="top-left", channels="bgr"), "as YOLOX does it since 0.2: BGR, 0 to 255"
    if reading.decoder == "torchvision-maskrcnn":
        return _torchvision(file, reading)
    if reading.decoder == "retinanet":
        return _outside(size), "as torchvision does it inside: RGB, 0 to 1, less the mean of ImageNet"
    if reading.decoder == "ssd":
        why = "assumed, for the file does not tell: RGB, -1 to 1, the image stretched"
        return Preprocess(size=size, resize="stretch", mean=_EVEN, std=(128.0, 128.0, 128.0)), why
    return Preprocess(size=size, align="center", std=std), "as Ultralytics does it: RGB, 0 to 1"


def _torchvision(file: OnnxFile, reading: Reading) -> tuple[Preprocess, str]:
    """Tell torchvision's, which normalise inside, from the Mask R-CNN of ONNX's model zoo, which does not."""
    size, std = file.size, (255.0, 255.0, 255.0)
    if reading.task == "segment" and not file.normalises:
        zoo = Preprocess(size=size, align="top-left", pad=_MEAN, channels="bgr", mean=_BGR_MEAN)
        return zoo, "as ONNX's model zoo does it: BGR, 0 to 255, less a mean, for none is taken off inside"
    why = "for a mean is taken off inside" if file.normalises else "which is assumed, for the file does not tell"
    told = Preprocess(size=size, align="top-left", pad=_MEAN, std=std)
    return told, f"as torchvision does it: RGB, 0 to 1, {why}"


def _outside(size: Size) -> Preprocess:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    return Preprocess(size=size, align="top-left", pad=_MEAN, mean=mean, std=std)


def _about(file: OnnxFile) -> str:
    words = ["takes a batch of any size" if file.any_batch else "takes one image at a time"]
    if file.quantised:
        words.append("is quantised to int8 already, so precision fp32 leaves it as it is")
    described_by = file.metadata.get("description", "")
    if described_by:
        words.append(f"calls itself {' '.join(described_by.split())[:80]!r}")
    return "; ".join(words)
