"""The whole path from a decoded frame to boxes, against the public YOLOX demo code on real footage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from engines.boxes import iou
from engines.decoders import DetectOptions
from engines.load import open_detector
from engines.manifest import find
from engines.model import Model
from engines.runtimes.base import Precision, RuntimeOptions
from engines.types import Detections, Image

SHARED = Path(__file__).resolve().parents[2] / "../shared"
VIDEO = SHARED / "media/street.mp4"
WEIGHTS = SHARED / "models/yolox_nano.onnx"
REFERENCE = SHARED / "parity/yolox_nano_street.json"

pytestmark = pytest.mark.skipif(
    not all(p.exists() for p in (VIDEO, WEIGHTS, REFERENCE)),
    reason="needs the reference footage, weights and detections in ../shared beside the checkout",
)


@dataclass(frozen=True)
class Tolerance:
    least: float  # confidence from which a reference detection must be found
    overlap: float
    confidence: float


EXACT = Tolerance(0.35, 0.98, 0.01)
LOOSE = Tolerance(0.45, 0.90, 0.05)


@pytest.fixture(scope="module")
def reference() -> dict[int, Detections]:
    frames = json.loads(REFERENCE.read_text())["frames"]
    return {int(index): as_detections(items) for index, items in frames.items()}


@pytest.fixture(scope="module")
def images(reference: dict[int, Detections]) -> dict[int, Image]:
    with av.open(str(VIDEO)) as video:
        return {i: f.to_ndarray(format="rgb24") for i, f in enumerate(video.decode(video=0)) if i in reference}


def as_detections(items: list[dict[str, object]]) -> Detections:
    boxes = np.array([item["box"] for item in items], np.float32)
    return Detections(
        np.clip(boxes, 0, [768, 576, 768, 576]).astype(np.float32),  # the reference leaves boxes beyond the image
        np.array([item["class_id"] for item in items], np.int32),
        np.array([item["confidence"] for item in items], np.float32),
    )


def model(runtime: str, precision: Precision) -> Model[Image, Detections]:
    return open_detector(find("yolox-nano"), WEIGHTS, DetectOptions(), (runtime,), RuntimeOptions(precision))


def assert_found(want: Detections, got: Detections, tolerance: Tolerance) -> None:
    """Every row of *want* that is sure enough has its own partner in *got*."""
    overlap = iou(want.xyxy, got.xyxy) * (want.class_id[:, None] == got.class_id[None])
    for row in np.flatnonzero(want.confidence > tolerance.least):
        partner = overlap[row].argmax()
        assert overlap[row, partner] >= tolerance.overlap
        assert abs(got.confidence[partner] - want.confidence[row]) <= tolerance.confidence
        overlap[:, partner] = 0


@pytest.mark.parametrize(
    ("runtime", "precision", "tolerance"),
    [("openvino", "fp32", EXACT), ("onnxruntime", "fp32", EXACT), ("openvino", "auto", LOOSE)],
)
def test_detections_equal_the_reference(
    runtime: str,
    precision: Precision,
    tolerance: Tolerance,
    images: dict[int, Image],
    reference: dict[int, Detections],
) -> None:
    found = dict(zip(images, model(runtime, precision)(list(images.values())), strict=True))
    assert len(found) == 5
    for index, want in reference.items():
        assert_found(want, found[index], tolerance)
        if tolerance is EXACT:  # and nothing is extra
            assert_found(found[index], want, Tolerance(0.35, 0.98, 0.01))


def test_a_frame_s_detections_do_not_depend_on_its_batch(images: dict[int, Image]) -> None:
    detect = model("openvino", "fp32")
    pictures = [*images.values(), *list(images.values())[::-1]]
    for together, image in zip(detect(pictures), pictures, strict=True):
        (alone,) = detect([image])
        assert np.array_equal(alone.xyxy, together.xyxy)
        assert np.array_equal(alone.confidence, together.confidence)
