"""What the served graph leaves over is all that is needed: against every anchor of the raw output, on real footage."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from engines.boxes import iou
from engines.build.base import GraphPrecision, Order, Profile, Recipe, silent
from engines.build.graph import calibrated, material
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.manifest import find
from engines.preprocess import Preprocess, PreprocessSpec
from engines.runtimes import available, open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.types import Array, Detections, Float, Geometry, Image

SHARED = Path(__file__).resolve().parents[2] / "../shared"
VIDEO = SHARED / "media/street.mp4"
WEIGHTS = SHARED / "models/yolox_nano.onnx"
REFERENCE = SHARED / "parity/yolox_nano_street.json"
NANO = find("yolox-nano")
SIZE = NANO.preprocess.size

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (VIDEO, WEIGHTS, REFERENCE)),
    reason="needs the reference footage, weights and detections in ../shared beside the checkout",
)


@pytest.fixture(scope="module")
def images() -> list[Image]:
    wanted = {int(index) for index in json.loads(REFERENCE.read_text())["frames"]}
    with av.open(str(VIDEO)) as video:
        frames = (f for i, f in enumerate(video.decode(video=0)) if i in wanted)
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in frames]


def run(runtime: str, graph: Path, images: list[Image]) -> tuple[dict[str, Array], list[Geometry]]:
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    network = open_runtime(runtime, graph, RuntimeOptions("fp32", max_batch=len(images)))
    told = NANO.preprocess
    feeds, geometry = Preprocess(PreprocessSpec(told.size, told.resize, told.align, told.pad), network)(images)
    return {name: array.copy() for name, array in network.infer(feeds).items()}, geometry


def decoded(raw: Float) -> tuple[Float, Float]:
    """Decode all of YOLOX's rows (A, 85) by its definition: boxes (A, 4), and the scores of every class (A, 80)."""
    cells = []
    for s in (8, 16, 32):
        cells += [(x, y, s) for y in range(SIZE[0] // s) for x in range(SIZE[1] // s)]
    corner, stride = np.array(cells, np.float32)[:, :2], np.array(cells, np.float32)[:, 2:]
    centre, half = (raw[:, :2] + corner) * stride, np.exp(raw[:, 2:4]) * stride / 2
    return np.concatenate([centre - half, centre + half], 1), raw[:, 4:5] * raw[:, 5:]


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("candidates", "confidence"), [(300, 0.3), (300, 0.02), (2000, 0.001)])
def test_candidates_give_the_detections_that_all_anchors_give(
    runtime: str, candidates: int, confidence: float, images: list[Image], tmp_path: Path
) -> None:
    """On this footage 300 candidates are enough down to a confidence of 0.02; a mAP, from 0.001 on, takes 2000."""
    decoder = NANO.decoder.model_copy(update={"candidates": candidates})
    bench = material(NANO.model_copy(update={"decoder": decoder}), WEIGHTS, tmp_path)
    found, geometry = run(runtime, bench.graph(Recipe()), images)
    (raw,) = run(runtime, bench.graph(Recipe(layout="raw")), images)[0].values()
    decode = DecodeCandidates(80, DetectOptions(confidence=confidence, max_detections=10_000))
    for row, place in enumerate(geometry):
        boxes, scores = decoded(raw[row])
        cell, label = np.nonzero(scores > confidence)
        passing = {"boxes": boxes[cell], "scores": scores[cell, label], "classes": label.astype(np.int32)}
        (wanted,) = decode({name: array[None] for name, array in passing.items()}, [place])
        (got,) = decode({name: array[row : row + 1] for name, array in found.items()}, [place])
        assert len(wanted) > 5
        assert_same(wanted, got)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_where_candidates_are_too_few_only_the_least_sure_are_lost(
    runtime: str, images: list[Image], tmp_path: Path
) -> None:
    found, _ = run(runtime, material(NANO, WEIGHTS, tmp_path).graph(Recipe()), images)
    (raw,) = run(runtime, material(NANO, WEIGHTS, tmp_path).graph(Recipe(layout="raw")), images)[0].values()
    for row, scores in enumerate(found["scores"]):
        best = np.sort(decoded(raw[row])[1].ravel())[::-1][: len(scores)]
        np.testing.assert_allclose(scores, best, rtol=1e-4)
        assert scores[-1] < 0.02


def assert_same(wanted: Detections, got: Detections) -> None:
    assert len(wanted) == len(got)
    np.testing.assert_allclose(got.confidence, wanted.confidence, rtol=1e-4, atol=1e-6)
    overlap = iou(wanted.xyxy, got.xyxy) * (wanted.class_id[:, None] == got.class_id)
    assert (overlap.max(1, initial=0) > 0.999).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_tensorrt_rtx_builds_the_real_network(precision: GraphPrecision, images: list[Image], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'streamer[tensorrt-rtx]'")
    from engines.build.tensorrt_rtx import TensorRtRtxBuilder

    bench = material(NANO, WEIGHTS, tmp_path)
    recipe = calibrated(bench, images[:1], silent, tmp_path) if precision == "int8" else Recipe(precision)
    for targets in (), ("sm_75", "sm_86", "sm_120"):
        if precision == "bf16" and "sm_75" in targets:
            continue  # Turing has no bf16
        built = TensorRtRtxBuilder().build(bench, Order(recipe, Profile(), targets=targets), silent)
        assert len(built.data) > 1_000_000
