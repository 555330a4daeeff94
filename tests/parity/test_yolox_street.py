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
from engines.runtimes import available
from engines.runtimes.base import Precision, RuntimeOptions
from engines.types import Detections, Image

SHARED = Path(__file__).resolve().parents[2] / "../shared"
VIDEO = SHARED / "media/street.mp4"
WEIGHTS = SHARED / "models/yolox_nano.onnx"
REFERENCE = SHARED / "parity/yolox_nano_street.json"

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (VIDEO, WEIGHTS, REFERENCE)),
    reason="needs the reference footage, weights and detections in ../shared beside the checkout",
)


@dataclass(frozen=True)
class Tolerance:
    surer_than: float  # which detections must be found
    overlap: float  # IoU, at least
    confidence: float  # difference, at most


EXACT = Tolerance(0.35, 0.98, 0.01)
LOOSE = Tolerance(0.45, 0.90, 0.05)
SAME = Tolerance(0.35, 0.999, 0.001)


@pytest.fixture(scope="module")
def reference() -> dict[int, Detections]:
    frames = json.loads(REFERENCE.read_text())["frames"]
    return {int(index): as_detections(items) for index, items in frames.items()}


@pytest.fixture(scope="module")
def images(reference: dict[int, Detections]) -> dict[int, Image]:
    with av.open(str(VIDEO)) as video:
        return {
            i: f.to_ndarray(format="rgb24").astype(np.uint8)
            for i, f in enumerate(video.decode(video=0))
            if i in reference
        }


def as_detections(items: list[dict[str, object]]) -> Detections:
    boxes = np.array([item["box"] for item in items], np.float32)
    return Detections(
        np.clip(boxes, 0, np.array([768, 576] * 2, np.float32)),  # the reference leaves boxes beyond the image
        np.array([item["class_id"] for item in items], np.int32),
        np.array([item["confidence"] for item in items], np.float32),
    )


def open_nano(runtime: str, precision: Precision = "fp32") -> Model[Image, Detections]:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    return open_detector(find("yolox-nano"), WEIGHTS, DetectOptions(), (runtime,), RuntimeOptions(precision))


def assert_found(wanted: Detections, got: Detections, tolerance: Tolerance) -> None:
    """Every detection of *wanted* that is sure enough has a partner of its own in *got*."""
    overlap = iou(wanted.xyxy, got.xyxy) * (wanted.class_id[:, None] == got.class_id)
    for row in np.flatnonzero(wanted.confidence > tolerance.surer_than):
        partner = overlap[row].argmax()
        assert overlap[row, partner] >= tolerance.overlap
        assert abs(got.confidence[partner] - wanted.confidence[row]) <= tolerance.confidence
        overlap[:, partner] = 0


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_in_fp32_nothing_is_missed_and_nothing_is_extra(
    runtime: str, images: dict[int, Image], reference: dict[int, Detections]
) -> None:
    found = dict(zip(images, open_nano(runtime)(list(images.values())), strict=True))
    assert found.keys() == reference.keys()
    for index, wanted in reference.items():
        assert_found(wanted, found[index], EXACT)
        assert_found(found[index], wanted, EXACT)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_in_the_precision_that_the_hardware_likes_nothing_sure_is_missed(
    runtime: str, images: dict[int, Image], reference: dict[int, Detections]
) -> None:
    found = dict(zip(images, open_nano(runtime, "auto")(list(images.values())), strict=True))
    for index, wanted in reference.items():
        assert_found(wanted, found[index], LOOSE)


def test_openvino_and_onnxruntime_agree(images: dict[int, Image]) -> None:
    pictures = list(images.values())
    for one, other in zip(open_nano("openvino")(pictures), open_nano("onnxruntime")(pictures), strict=True):
        assert_found(one, other, SAME)
        assert_found(other, one, SAME)


@pytest.mark.parametrize(
    ("runtime", "precision"), [("openvino", "fp32"), ("openvino", "auto"), ("onnxruntime", "fp32")]
)
def test_a_frame_gives_the_same_alone_and_in_any_company(
    runtime: str, precision: Precision, images: dict[int, Image]
) -> None:
    detect = open_nano(runtime, precision)
    pictures = [*images.values(), np.zeros((90, 400, 3), np.uint8), *reversed(images.values())]
    for together, picture in zip(detect(pictures), pictures, strict=True):
        (alone,) = detect([picture])
        assert np.array_equal(alone.xyxy, together.xyxy)
        assert np.array_equal(alone.confidence, together.confidence)
