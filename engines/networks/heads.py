"""What follows a network in torch: each head is the twin of one in `engines.build.heads`, and gives what that gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from engines.anchors import default_boxes, level_anchors
from engines.build.base import Layout
from engines.errors import BuildError
from engines.geometry import Size
from engines.manifest import Manifest
from engines.networks import find_family
from engines.networks.proposals import Weights, clipped, moved, take
from engines.networks.yolox import AnchorPoints
from engines.outputs import Decoder, FlowDecoder, RetinaNetDecoder, SsdDecoder, YoloxDecoder
from engines.types import Float

Outputs = dict[str, Tensor]


class Raw(nn.Module):
    """Give the network's own outputs, under the *names* that they have in ONNX."""

    def __init__(self, names: tuple[str, ...] = ("output",)) -> None:
        super().__init__()
        self.names = names

    def forward(self, *raw: Tensor) -> Outputs:
        return dict(zip(self.names, raw, strict=True))


class YoloxHead(nn.Module):
    """Decode the best anchor points alone; an anchor point gives an object for each class that it is sure of.

    No pair of anchor point and class among the K best can belong to an anchor point that is not among the K best, so
    this gives what decoding everything would.
    """

    def __init__(self, points: AnchorPoints, candidates: int) -> None:
        super().__init__()
        self.points = points
        self.candidates = min(candidates, len(points.origin))

    def forward(self, raw: Tensor) -> Outputs:
        best = rankable(raw[..., 4] * raw[..., 5:].amax(2)).topk(self.candidates, 1).indices
        near = take(raw, best)
        pairs = rankable(near[..., 4:5] * near[..., 5:])
        scores, place = pairs.flatten(1).topk(self.candidates, 1)
        row = place // pairs.shape[2]
        centre, size = self.points(near, best)
        boxes = torch.cat((centre - size / 2, centre + size / 2), 2)
        return {"boxes": take(boxes, row), "scores": scores, "classes": (place % pairs.shape[2]).int()}


@dataclass(frozen=True, slots=True)
class AnchorKind:
    """What a network's rows mean: *rate* makes scores of logits, of which those before class *first* are left out.

    *weights* are what offsets are divided by.
    """

    rate: Callable[[Tensor], Tensor]
    first: int
    weights: Weights


class AnchorHead(nn.Module):
    """Let every class of an anchor count; anchors that are not among the best by their best class are not decoded."""

    anchors: Tensor  # (A, 4) xyxy

    def __init__(self, kind: AnchorKind, anchors: Float, candidates: int, size: Size) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        self.candidates = min(candidates, len(anchors))
        self.register_buffer("anchors", torch.from_numpy(anchors), persistent=False)

    def forward(self, logits: Tensor, offsets: Tensor) -> Outputs:
        kind = self.kind
        rated = kind.rate(logits)[..., kind.first :]
        best = rankable(rated.amax(2)).topk(self.candidates, 1).indices
        near = take(offsets, best)
        pairs = rankable(take(rated, best)).where(~near.sum(2, keepdim=True).isnan(), -1.0)
        scores, place = pairs.flatten(1).topk(self.candidates, 1)
        boxes = clipped(moved(self.anchors[best], near, kind.weights), self.size)
        classes = place % pairs.shape[2] + kind.first
        return {"boxes": take(boxes, place // pairs.shape[2]), "scores": scores, "classes": classes.int()}


class Objects(nn.Module):
    """Name what a network finds by itself: boxes, scores, classes, and masks where it paints."""

    def forward(self, boxes: Tensor, scores: Tensor, classes: Tensor, *masks: Tensor) -> Outputs:
        extras = {"masks": masks[0]} if masks else {}
        return {"boxes": boxes, "scores": scores, "classes": classes.int(), **extras}


def rankable(scores: Tensor) -> Tensor:
    """Put what is not a number last, as the ONNX head does."""
    return torch.where(scores.isnan(), -1.0, scores)


def _yolox(decoder: Decoder, size: Size) -> nn.Module:
    assert isinstance(decoder, YoloxDecoder)  # noqa: S101 - by the table
    return YoloxHead(AnchorPoints(size, decoder.strides), decoder.candidates)


def _ssd(decoder: Decoder, size: Size) -> nn.Module:
    assert isinstance(decoder, SsdDecoder)  # noqa: S101 - by the table
    boxes = default_boxes(size, decoder.maps, decoder.scales, decoder.ratios, decoder.steps)
    centre, side = decoder.weights
    kind = AnchorKind(partial(torch.softmax, dim=2), 1, (centre, side))
    return AnchorHead(kind, boxes, decoder.candidates, size)


def _retinanet(decoder: Decoder, size: Size) -> nn.Module:
    assert isinstance(decoder, RetinaNetDecoder)  # noqa: S101 - by the table
    ratios = [decoder.ratios] * len(decoder.strides)
    boxes = np.concatenate(level_anchors(size, decoder.strides, decoder.sizes, ratios))
    return AnchorHead(AnchorKind(torch.sigmoid, 0, (1.0, 1.0)), boxes, decoder.candidates, size)


def _rcnn(_decoder: Decoder, _size: Size) -> nn.Module:
    return Objects()


class FlowHead(nn.Module):
    """Give the motion in pixels of the network's input: (N, 2, h, w) to (N, h, w, 2)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, flow: Tensor) -> Outputs:
        return {"flow": flow.permute(0, 2, 3, 1) * self.scale}


class ActionsHead(nn.Module):
    """Make probabilities of logits (N, C)."""

    def forward(self, logits: Tensor) -> Outputs:
        return {"probs": logits.softmax(1)}


def _flow(decoder: Decoder, _size: Size) -> nn.Module:
    assert isinstance(decoder, FlowDecoder)  # noqa: S101 - by the table
    return FlowHead(decoder.scale)


def _actions(_decoder: Decoder, _size: Size) -> nn.Module:
    return ActionsHead()


_HEADS: dict[str, Callable[[Decoder, Size], nn.Module]] = {
    "actions": _actions,
    "flow": _flow,
    "rcnn": _rcnn,
    "retinanet": _retinanet,
    "ssd": _ssd,
    "yolox": _yolox,
}


def make_head(manifest: Manifest, layout: Layout = "candidates") -> nn.Module:
    """Make what follows the network. Raises BuildError for a decoder that has no head in torch."""
    if layout == "raw":
        return Raw(find_family(manifest.architecture or "").outputs)
    kind = manifest.decoder.kind
    if kind not in _HEADS:
        raise BuildError(
            f"{manifest.name}: decoder {kind} has no head in torch, only {', '.join(_HEADS)}: take layout raw, or "
            "another runtime"
        )
    return _HEADS[kind](manifest.decoder, manifest.preprocess.size)
