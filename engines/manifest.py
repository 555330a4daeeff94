"""Model manifests: what a network is, how it is fed and read, and where its weights come from.

A manifest is a YAML file. Those that come with us lie in ``config/models``; a user's own may lie anywhere, and then its
labels and weights may lie beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

import engines
from engines.errors import ManifestError
from engines.yamlsource import Document, YamlFault, explain, load, suggest

Task = Literal["detect", "segment", "flow", "recognise"]
# Whole, or its first digits: torchvision publishes eight, in the name of each file.
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[int, Field(ge=0, le=255)]
Triple = tuple[float, float, float]
Candidates = Annotated[int, Field(ge=1, le=3840)]  # boxes that leave the graph; TensorRT's top-k takes no more


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocess(_Part):
    """How pixels become the network's input: placed by *resize* and *align*, then (value - mean) / std."""

    size: tuple[PositiveInt, PositiveInt]  # height, width
    resize: Literal["letterbox", "stretch"] = "letterbox"
    align: Literal["top-left", "center"] = "center"  # where a letterboxed image lies
    pad: Level | tuple[Level, Level, Level] = 114  # of the bytes around a letterboxed image; three are R, G, B
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: Triple = (0.0, 0.0, 0.0)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0)


class YoloxDecoder(_Part):
    """Grid offsets, log sizes, objectness and class scores, one row an anchor point of every stride."""

    kind: Literal["yolox"]
    strides: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (8, 16, 32)
    candidates: Candidates = 300


class YoloV5Decoder(_Part):
    """One row an anchor: centre and size in input pixels, objectness, class scores: (N, A, 5 + classes)."""

    kind: Literal["yolov5"]
    candidates: Candidates = 300


class YoloV8Decoder(_Part):
    """One column an anchor point: centre and size in input pixels, class scores: (N, 4 + classes, A); 9 and 11 too."""

    kind: Literal["yolov8"]
    candidates: Candidates = 300


class YoloV10Decoder(_Part):
    """Finished objects, which need no suppression: xyxy in input pixels, score, class: (N, K, 6); 26 too."""

    kind: Literal["yolov10"]


class YoloV8SegDecoder(_Part):
    """As yolov8, with mask coefficients behind the classes, and prototypes (N, C, h, w) beside; 9, 11 and 12 too."""

    kind: Literal["yolov8-seg"]
    candidates: Candidates = 300


class SsdDecoder(_Part):
    """Class logits (N, A, C), of which 0 is background, and deltas (N, A, 4) to default boxes, level by level."""

    kind: Literal["ssd"]
    candidates: Candidates = 400


class RetinaNetDecoder(_Part):
    """Class logits (N, A, C), each a yes or no, and deltas (N, A, 4) to anchors, level by level."""

    kind: Literal["retinanet"]
    candidates: Candidates = 1000


class RcnnDecoder(_Part):
    """What our own R-CNNs give: the decoding, proposals included, is part of the network."""

    kind: Literal["rcnn"]
    proposals: Candidates = 1000  # of an image, for the second stage
    detections: Candidates = 100  # of an image, in the end
    score: Share = 0.05  # objects of less are none
    iou: Share = 0.5  # of two objects of a class that overlap by more, the better one stays


class TorchvisionRcnnDecoder(_Part):
    """What torchvision's R-CNNs give when exported: boxes (K, 4), labels (K,), scores (K,) and masks (K, 1, h, w)."""

    kind: Literal["torchvision-maskrcnn"]
    detections: Candidates = 100


class Defaults(_Part):
    """Thresholds for whoever says nothing else."""

    confidence: Share = 0.3
    iou: Share = 0.45


class WeightsFile(_Part):
    """One file of weights, and what it must be."""

    file: Annotated[str, Field(min_length=1)]
    url: Annotated[str, Field(pattern="^https?://")] | None = None
    sha256: Sha256 | None = None
    also: tuple[Sha256, ...] = ()  # of files that somebody else exported from the same weights
    size: NonNegativeInt | None = None  # bytes
    licence: str | None = None

    @model_validator(mode="after")
    def _url_needs_checksum(self) -> WeightsFile:
        if self.url and not self.sha256:
            raise ValueError("has a url but no sha256: say what the downloaded bytes must be")
        return self


class Checkpoint(WeightsFile):
    """A state dict for the manifest's architecture, as the public implementation saves it."""

    key: str | None = None  # where in the file the state dict is: "model"


class Weights(_Part):
    """The weights, by format; where there are both, the ONNX file is taken, for it needs no torch."""

    onnx: WeightsFile | None = None
    checkpoint: Checkpoint | None = None

    @model_validator(mode="after")
    def _some(self) -> Weights:
        if self.onnx is None and self.checkpoint is None:
            raise ValueError("names neither onnx nor checkpoint: one of them is needed")
        return self

    @property
    def file(self) -> WeightsFile:
        """The one that is taken."""
        best = self.onnx or self.checkpoint
        assert best is not None, "checked above"  # noqa: S101 - for the type checker
        return best


Decoder = Annotated[
    YoloxDecoder
    | YoloV5Decoder
    | YoloV8Decoder
    | YoloV10Decoder
    | YoloV8SegDecoder
    | SsdDecoder
    | RetinaNetDecoder
    | RcnnDecoder
    | TorchvisionRcnnDecoder,
    Field(discriminator="kind"),
]


# Later networks that give what earlier ones gave.
_SAME_LAYOUT = {"yolov9": "yolov8", "yolo11": "yolov8", "yolo12": "yolov8", "yolo26": "yolov10"}
_SAME_LAYOUT |= {"yolov9-seg": "yolov8-seg", "yolo11-seg": "yolov8-seg", "yolo12-seg": "yolov8-seg"}
_SAME_LAYOUT |= {"torchvision-fasterrcnn": "torchvision-maskrcnn"}


def _expand(decoder: Any) -> Any:
    """Read the short form ``decoder: yolox``, and a network's name for the layout that it shares with another."""
    told = {"kind": decoder} if isinstance(decoder, str) else decoder
    if isinstance(told, dict) and told.get("kind") in _SAME_LAYOUT:
        return {**told, "kind": _SAME_LAYOUT[told["kind"]]}
    return told


class Manifest(_Part):
    """All that is known about a model before its weights are opened."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    task: Task
    architecture: str | None = None
    variant: str | None = None
    labels: tuple[str, ...] = ()  # in the file also the name or the path of a list; empty only for flow
    preprocess: Preprocess
    decoder: Annotated[Decoder, BeforeValidator(_expand)]
    defaults: Defaults = Defaults()
    batch: PositiveInt | None = None  # the most images worth taking at a time, where memory says so
    weights: Weights
    _folder: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Where the manifest itself lies, and so what its relative paths start from; None for one made in code."""
        return self._folder

    @model_validator(mode="after")
    def _classes_need_labels(self) -> Manifest:
        if self.task != "flow" and not self.labels:
            raise ValueError(f"a model that can {self.task} needs labels")
        return self


def config_dir() -> Path:
    """Find the configuration that comes with us: inside an installed package, or beside it in a checkout."""
    package = Path(engines.__file__).parent
    installed = package / "_config"  # asked first: a stranger's folder "config" may lie beside an installed package
    return installed if installed.is_dir() else package.parent / "config"


def names() -> list[str]:
    """List the manifests that come with us."""
    return sorted(path.stem for path in (config_dir() / "models").glob("*.yaml"))


def find(name_or_path: str | Path) -> Manifest:
    """Read the manifest that comes with us under this name, or the user's own at this path. Raise ManifestError."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return read(Path(text).expanduser())
    known = names()
    if text not in known:
        raise ManifestError(
            f"there is no model {text!r}{suggest(text, known)}: name one, or give the path of a manifest"
        )
    return read(config_dir() / "models" / f"{text}.yaml")


def read(path: Path) -> Manifest:
    """Read and check one manifest file. Raise ManifestError: one line a fault, each with file and line."""
    try:
        document = load(_text(path), str(path))
    except YamlFault as error:
        raise ManifestError(str(error)) from None
    data = document.data
    if isinstance(data, dict) and isinstance(data.get("labels"), str):
        data = {**data, "labels": _read_labels(data["labels"], path.parent, document)}
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        raise ManifestError("\n".join(explain(error, document, Manifest))) from None
    manifest._folder = path.parent
    return manifest


def _read_labels(name: str, folder: Path, document: Document) -> list[str]:
    """Read one label a line, from a list that comes with us or a file named relative to the manifest."""
    at = document.at(("labels",))
    ours = config_dir() / "labels"
    if "/" in name or name.endswith(".txt"):
        path = folder / Path(name).expanduser()
    else:
        path = ours / f"{name}.txt"
        if not path.is_file():
            hint = suggest(name, (p.stem for p in ours.glob("*.txt")))
            raise ManifestError(f"{at}there is no list {name!r}{hint}: name one, or give a path that ends in .txt")
    labels = [line.strip() for line in _text(path, at).rstrip().splitlines()]
    if "" in labels:  # skipping it would shift every class after it
        raise ManifestError(f"{at}{path}:{labels.index('') + 1}: is empty, but every line is the label of one class")
    return labels


def _text(path: Path, at: str = "") -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows puts a mark before the first character
    except UnicodeDecodeError:
        raise ManifestError(f"{at}{path} is not text: it must be UTF-8") from None
    except OSError as error:
        raise ManifestError(f"{at}{path} cannot be read: {error.strerror}") from None
