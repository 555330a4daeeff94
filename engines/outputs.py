"""What the outputs of networks mean, as data: a class for each layout, as a manifest's `decoder` names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from engines import plugins

DECODERS = "streamer.decoders"  # the group of entry points where packages offer layouts of their own
Share = Annotated[float, Field(ge=0, le=1)]
Candidates = Annotated[int, Field(ge=1, le=3840)]  # boxes that leave the graph; TensorRT's top-k takes no more


class Part(BaseModel):
    """A part of a manifest: frozen, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class YoloxDecoder(Part):
    """Grid offsets, log sizes, objectness and class scores, one row an anchor point of every stride."""

    kind: Literal["yolox"]
    strides: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (8, 16, 32)
    candidates: Candidates = 300


class YoloV5Decoder(Part):
    """One row an anchor: centre and size in input pixels, objectness, class scores: (N, A, 5 + classes)."""

    kind: Literal["yolov5"]
    candidates: Candidates = 300


class YoloV8Decoder(Part):
    """One column an anchor point: centre and size in input pixels, class scores: (N, 4 + classes, A); 9 and 11 too."""

    kind: Literal["yolov8"]
    candidates: Candidates = 300


class YoloV10Decoder(Part):
    """Finished objects, which need no suppression: xyxy in input pixels, score, class: (N, K, 6); 26 too."""

    kind: Literal["yolov10"]


class YoloV8SegDecoder(Part):
    """As yolov8, with mask coefficients behind the classes, and prototypes (N, C, h, w) beside; 9, 11 and 12 too."""

    kind: Literal["yolov8-seg"]
    candidates: Candidates = 300


class SsdDecoder(Part):
    """One row a default box: a score for each class (N, A, C), of which 0 is background, and its box (N, A, 4).

    Which default boxes there are is told for each map; by default as SSD300 has them: see `engines.anchors`.
    """

    kind: Literal["ssd"]
    candidates: Candidates = 400
    scores: Literal["logits", "probabilities"] = "logits"
    boxes: Literal["offsets", "pixels", "shares"] = "offsets"  # to default boxes; or xyxy, of the input
    weights: tuple[PositiveFloat, PositiveFloat] = (10.0, 5.0)  # of offsets: to the centre, and of the size
    maps: tuple[tuple[PositiveInt, PositiveInt], ...] = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
    scales: tuple[PositiveFloat, ...] = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)  # and one after the last
    ratios: tuple[tuple[PositiveFloat, ...], ...] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
    steps: tuple[PositiveFloat, ...] | None = (8, 16, 32, 64, 100, 300)  # pixels between cells; null: as they divide it

    @model_validator(mode="after")
    def _a_word_for_each_map(self) -> SsdDecoder:
        levels = len(self.maps)
        for name, values, wanted in (
            ("scales", self.scales, levels + 1),
            ("ratios", self.ratios, levels),
            ("steps", self.steps, levels),
        ):
            if values is not None and len(values) != wanted:
                raise ValueError(f"has {levels} maps and so needs {wanted} {name}, but there are {len(values)}")
        return self


class RetinaNetDecoder(Part):
    """One row an anchor: a logit for each class (N, A, C), each a yes or no, and offsets (N, A, 4).

    Anchors are told for each level of the pyramid; by default as torchvision has them: see `engines.anchors`.
    """

    kind: Literal["retinanet"]
    candidates: Candidates = 1000
    strides: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    sizes: tuple[tuple[PositiveFloat, ...], ...] = (
        (32, 40, 50),
        (64, 80, 101),
        (128, 161, 203),
        (256, 322, 406),
        (512, 645, 812),
    )
    ratios: tuple[PositiveFloat, ...] = (0.5, 1, 2)  # at every level

    @model_validator(mode="after")
    def _sizes_for_each_level(self) -> RetinaNetDecoder:
        if len(self.sizes) != len(self.strides):
            raise ValueError(f"has {len(self.strides)} strides, but sizes for {len(self.sizes)} levels")
        return self


class RcnnDecoder(Part):
    """What our own R-CNNs give: the decoding, proposals included, is part of the network."""

    kind: Literal["rcnn"]
    proposals: Candidates = 1000  # of an image, for the second stage
    detections: Candidates = 100  # of an image, in the end
    score: Share = 0.05  # objects of less are none
    iou: Share = 0.5  # of two objects of a class that overlap by more, the better one stays


class TorchvisionRcnnDecoder(Part):
    """What torchvision's R-CNNs give when exported: boxes (K, 4), labels (K,), scores (K,) and masks (K, 1, h, w)."""

    kind: Literal["torchvision-maskrcnn"]
    detections: Candidates = 100


class FlowDecoder(Part):
    """Motion from the earlier to the later image (N, 2, h, w), in units of *scale* pixels of the input."""

    kind: Literal["flow"]
    scale: PositiveFloat = 20.0
    warps: bool = False  # the network moves images by what it finds, to a fraction of a pixel: not all may be halves


class ActionsDecoder(Part):
    """One logit a class (N, C)."""

    kind: Literal["actions"]


class Stream(Part):
    """One of several models that look at the same clips, and how much it counts."""

    model: str
    weight: PositiveFloat = 1.0


class FusionDecoder(Part):
    """No network of its own: the weighted mean of what other models say."""

    kind: Literal["fusion"]
    streams: Annotated[tuple[Stream, ...], Field(min_length=2)]


class OwnDecoder(Part):
    """A layout that another package reads, in Python; see `engines.decoders.own`."""

    kind: Literal["own"]
    name: str  # of an entry point in DECODERS
    options: Mapping[str, Any] = {}

    @model_validator(mode="after")
    def _can_be_had(self) -> OwnDecoder:
        if plugins.load(DECODERS, self.name) is None:
            raise ValueError(f"no package offers a decoder {self.name!r}; install the one that does")
        return self


Decoder = Annotated[
    YoloxDecoder
    | YoloV5Decoder
    | YoloV8Decoder
    | YoloV10Decoder
    | YoloV8SegDecoder
    | SsdDecoder
    | RetinaNetDecoder
    | RcnnDecoder
    | TorchvisionRcnnDecoder
    | FlowDecoder
    | ActionsDecoder
    | FusionDecoder
    | OwnDecoder,
    Field(discriminator="kind"),
]


# Decoders of networks that give a row an object: these graphs have no fixed shapes, and so are not for TensorRT.
UNCOUNTED = frozenset({"torchvision-maskrcnn"})

# Later networks that give what earlier ones gave.
_SAME_LAYOUT = {"yolov9": "yolov8", "yolo11": "yolov8", "yolo12": "yolov8", "yolo26": "yolov10"}
_SAME_LAYOUT |= {"yolov9-seg": "yolov8-seg", "yolo11-seg": "yolov8-seg", "yolo12-seg": "yolov8-seg"}
_SAME_LAYOUT |= {f"torchvision-{name}": "torchvision-maskrcnn" for name in ("fasterrcnn", "retinanet", "ssd", "fcos")}
_SAME_LAYOUT["yolov11-seg"] = "yolov8-seg"


_OURS = {name for each in get_args(get_args(Decoder)[0]) for name in get_args(each.model_fields["kind"].annotation)}


def expand(decoder: Any) -> Any:
    """Read the short form ``decoder: yolox``, a network's name for the layout of another, and that of a package."""
    told = {"kind": decoder} if isinstance(decoder, str) else decoder
    kind = told.get("kind") if isinstance(told, dict) else None
    if kind in _SAME_LAYOUT:
        return {**told, "kind": _SAME_LAYOUT[kind]}
    if isinstance(kind, str) and kind not in _OURS and plugins.offers(DECODERS, kind):
        return {"kind": "own", "name": kind, "options": {key: told[key] for key in told if key != "kind"}}
    return told
