"""Networks that move anchors, SSD and RetinaNet: known by how many anchors there are, and by what comes out.

Shapes do not tell scores from probabilities, nor offsets from boxes; their values do, so the network is run once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from engines.anchors import level_anchors
from engines.build.heads.base import BOX_WORDS
from engines.build.onnxfile import OnnxFile
from engines.build.shapes import FLOATS, Shape, known_shape
from engines.errors import BuildError
from engines.geometry import Size
from engines.manifest import Manifest, find, names
from engines.outputs import RetinaNetDecoder, SsdDecoder
from engines.runtimes import open_runtime, usable
from engines.runtimes.base import RuntimeOptions
from engines.types import Array

_BOX = 4  # columns
_FEW = 1000  # rows: with fewer it may as well be a DETR
_SURE = 0.99  # of the boxes
_SHARES = 4.0  # no box that is counted in shares of the image reaches farther


@dataclass(frozen=True, slots=True)
class Anchored:
    """Names of the two outputs (N, A, classes) and (N, A, 4), and whose anchors they are, where that is known."""

    decoder: str
    scores: str
    boxes: str
    classes: int
    like: Manifest | None


def anchored(file: OnnxFile, kind: str | None = None) -> Anchored | None:
    """Find scores and boxes of anchors; None where there are none, or where they are not of this *kind*."""
    found = _two(file)
    if found is None:
        return None
    scores, boxes, count, classes = found
    like = next((each for each in _known() if _anchors(each.decoder, file.size) == count), None)
    decoder = kind or (like.decoder.kind if like else _of_many(count, file.size))
    if decoder is None:
        return None
    fits = like if like and like.decoder.kind == decoder and like.preprocess.size == file.size else None
    if decoder == "retinanet" and count != _anchors(RetinaNetDecoder(kind="retinanet"), file.size):
        return None
    return Anchored(decoder, scores, boxes, classes, fits)


def _two(file: OnnxFile) -> tuple[str, str, int, int] | None:
    tables = {value.name: known_shape(value) for value in file.outputs if len(known_shape(value)) == 3}
    boxes = next((name for name, shape in tables.items() if _may_be_boxes(name, shape, tables)), None)
    if boxes is None or len(tables) != 2:
        return None
    (scores,) = tables.keys() - {boxes}
    (_, count, classes), others = tables[scores], tables[boxes][1]
    return (scores, boxes, count, classes) if count and classes and count == others else None


def _may_be_boxes(name: str, shape: Shape, tables: Mapping[str, Shape]) -> bool:
    """Tell by the columns; where scores have as many, by the name, as the head does, and then by the order."""
    if shape[2] != _BOX or sum(each[2] == _BOX for each in tables.values()) == 1:
        return shape[2] == _BOX
    named = [each for each in tables if any(word in each.lower() for word in BOX_WORDS)]
    return name == (named or list(tables)[-1:])[0]


def _of_many(count: int, size: Size) -> str | None:
    if count == _anchors(RetinaNetDecoder(kind="retinanet"), size):
        return "retinanet"
    return "ssd" if count > _FEW else None


@cache
def _known() -> tuple[Manifest, ...]:
    """List the networks of ours that move anchors."""
    return tuple(each for each in map(find, names()) if isinstance(each.decoder, SsdDecoder | RetinaNetDecoder))


def _anchors(decoder: object, size: Size) -> int:
    """Count a network's anchors; SSD's are the same for every size."""
    if isinstance(decoder, SsdDecoder):
        cells = zip(decoder.maps, decoder.ratios, strict=True)
        return sum(height * width * (2 + 2 * len(ratios)) for (height, width), ratios in cells)
    if isinstance(decoder, RetinaNetDecoder):
        ratios = [decoder.ratios] * len(decoder.strides)
        return sum(map(len, level_anchors(size, decoder.strides, decoder.sizes, ratios)))
    return 0


# --- what comes out ---


def ssd_settings(file: OnnxFile, like: Manifest | None) -> Mapping[str, object]:
    """Run the network once, and say what its scores and boxes are, in the words of a manifest.

    Raises ModelError when it does not run, BuildError when it gives offsets to default boxes that nobody knows.
    """
    found = anchored(file, "ssd")
    assert found is not None, "the reading says so"  # noqa: S101 - for the type checker
    outputs = _run(file)
    told: dict[str, object] = {}
    if _are_probabilities(outputs[found.scores]):
        told["scores"] = "probabilities"
    boxes = _boxes(outputs[found.boxes])
    if boxes != "offsets":
        return told | {"boxes": boxes}
    if like is None:
        raise BuildError(
            f"{file.path} gives offsets to default boxes, and which boxes these are is not in the file: export it with "
            "its boxes decoded, or write maps, scales, ratios and steps of an ssd decoder into a manifest by hand"
        )
    return told | like.decoder.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})


def _run(file: OnnxFile) -> dict[str, Array]:
    """Feed noise around zero."""
    dtype = FLOATS[file.image.type.tensor_type.elem_type]
    noise = np.random.default_rng(0).normal(0, 1, (1, 3, *file.size)).astype(dtype)
    runtime = open_runtime(usable(("onnxruntime", "openvino"))[0], file.path, RuntimeOptions(max_batch=1))
    try:
        outputs = runtime.infer({file.image.name: noise})
        return {name: output.astype(np.float32) for name, output in outputs.items()}
    finally:
        runtime.close()


def _are_probabilities(scores: Array) -> bool:
    return bool(scores.min() >= 0 and np.allclose(scores.sum(2), 1, atol=0.01))


def _boxes(boxes: Array) -> str:
    """Tell offsets, which may be anything, from xyxy, in pixels or in shares of the image."""
    if (boxes[..., 2:] > boxes[..., :2]).all(-1).mean() < _SURE:
        return "offsets"
    return "shares" if np.median(np.abs(boxes)) < _SHARES and np.quantile(np.abs(boxes), _SURE) < _SHARES else "pixels"
