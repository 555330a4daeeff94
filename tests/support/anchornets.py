"""SSDs and RetinaNets with random weights that find things in noise, and what they should give, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engines.manifest import Manifest, find
from engines.networks import build_network
from engines.networks.served import serve
from engines.outputs import RetinaNetDecoder, SsdDecoder
from engines.types import Float

MANIFESTS = ("ssd300-vgg16", "ssdlite320-mobilenetv3", "ssd-pico", "retinanet-r50")


def manifest(name: str) -> Manifest:
    """Read a manifest of ours; RetinaNet's for small images, at which the network is quick."""
    ours = find(name)
    if ours.architecture == "ssd":
        return ours
    return ours.model_copy(update={"preprocess": ours.preprocess.model_copy(update={"size": (96, 128)})})


@torch.no_grad()
def network(told: Manifest, seed: int = 0) -> nn.Module:
    """Build a manifest's network, whose scores are of all classes and sizes, and whose boxes lie near their anchors."""
    made = build_network(told.architecture or "", told.variant, len(told.labels)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in made.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(_random(name, tensor, generator))
    frames = torch.randint(0, 256, (1, *told.preprocess.size, 3), dtype=torch.uint8, generator=generator)
    logits, offsets = serve(made, told, torch.float32, "raw")(frames).values()
    for name, seen, spread in ("classification", logits, 3.0), ("regression", offsets, 0.5):
        for last in _last(made.get_submodule(f"head.{name}_head")):
            assert last.bias is not None
            last.weight.mul_(spread / seen.std())
            last.bias.mul_(spread / seen.std())
    return made


def checkpoint(path: Path, made: nn.Module) -> Path:
    torch.save(made.state_dict(), path)
    return path


def _last(head: nn.Module) -> Iterator[nn.Conv2d]:
    """List the convolutions that nothing comes after: of each map, or of all."""
    for block in getattr(head, "module_list", [head]):
        yield [module for module in block.modules() if isinstance(module, nn.Conv2d)][-1]


def _random(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf in ("running_var", "scale_weight") or (leaf == "weight" and tensor.ndim == 1):
        return torch.empty(tensor.shape).uniform_(0.6, 1.2, generator=generator)
    noise = torch.randn(tensor.shape, generator=generator)
    return 0.05 * noise if tensor.ndim < 2 else noise * math.sqrt(1.6 / math.prod(tensor.shape[1:]))


@dataclass(frozen=True)
class Object:
    """One that is found: xyxy in pixels of the input."""

    score: float
    class_id: int
    box: tuple[float, float, float, float]


def objects(logits: Float, offsets: Float, anchors: Float, told: Manifest, floor: float, iou: float) -> list[Object]:
    """Find what one image's logits (A, C) and offsets (A, 4) hold, class by class and box by box, best first."""
    height, width = told.preprocess.size
    softmax = isinstance(told.decoder, SsdDecoder)
    weights = (10, 10, 5, 5) if softmax else (1, 1, 1, 1)
    raised = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    scores = raised / raised.sum(1, keepdims=True) if softmax else 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = []
    for class_id in range(1 if softmax else 0, logits.shape[1]):
        rows = [row for row in np.argsort(-scores[:, class_id], kind="stable") if scores[row, class_id] > floor]
        kept: list[Object] = []
        for row in rows:
            box = _clip(moved(anchors[row], offsets[row], weights), width, height)
            if box[0] < box[2] and box[1] < box[3] and all(overlap(box, other.box) <= iou for other in kept):
                kept.append(Object(float(scores[row, class_id]), class_id, box))
        found += kept
    return sorted(found, key=lambda each: -each.score)


def moved(anchor: Float, offset: Float, weights: tuple[float, ...]) -> tuple[float, ...]:
    x1, y1, x2, y2 = (float(side) for side in anchor)
    dx, dy, dw, dh = (float(value) / weight for value, weight in zip(offset, weights, strict=True))
    x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
    w = (x2 - x1) * math.exp(min(dw, math.log(1000 / 16)))
    h = (y2 - y1) * math.exp(min(dh, math.log(1000 / 16)))
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _clip(box: tuple[float, ...], width: float, height: float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (both - shared)


def anchors_of(told: Manifest) -> Float:
    """List the anchors of a manifest, cell by cell, from what it says."""
    decoder = told.decoder
    boxes = list(_of_ssd(decoder, told) if isinstance(decoder, SsdDecoder) else _of_retinanet(decoder, told))
    return np.array([(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in boxes], np.float32)


def _of_ssd(decoder: SsdDecoder, told: Manifest) -> Iterator[tuple[float, float, float, float]]:
    height, width = told.preprocess.size
    for level, (rows, columns) in enumerate(decoder.maps):
        scale, following = decoder.scales[level : level + 2]
        sides = [(scale, scale), (math.sqrt(scale * following),) * 2]
        for ratio in decoder.ratios[level]:
            root = math.sqrt(ratio)
            sides += [(scale * root, scale / root), (scale / root, scale * root)]
        step_x, step_y = (decoder.steps[level],) * 2 if decoder.steps else (width / columns, height / rows)
        for row in range(rows):
            for column in range(columns):
                for w, h in sides:
                    yield (column + 0.5) * step_x, (row + 0.5) * step_y, min(w, 1) * width, min(h, 1) * height


def _of_retinanet(decoder: object, told: Manifest) -> Iterator[tuple[float, float, float, float]]:
    assert isinstance(decoder, RetinaNetDecoder)
    height, width = told.preprocess.size
    for stride, sizes in zip(decoder.strides, decoder.sizes, strict=True):
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        for row in range(rows):
            for column in range(columns):
                for ratio in decoder.ratios:
                    for size in sizes:
                        w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
                        yield column * (width // columns), row * (height // rows), 2 * round(w / 2), 2 * round(h / 2)
