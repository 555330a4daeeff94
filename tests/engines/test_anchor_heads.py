"""The heads of SSD and RetinaNet, in ONNX and in torch, against a second implementation that takes box by box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anchornets
import numpy as np
import onnx
import pytest
import spox.opset.ai.onnx.v17 as op
import torch
from spox import Tensor, argument, build

from engines.boxes import Suppression
from engines.build.heads import Place, decode
from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.errors import BuildError
from engines.geometry import stretch
from engines.manifest import Manifest
from engines.networks.heads import make_head
from engines.runtimes import available, open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.types import Array, Detections, Float

SIZE = (64, 96)
CLASSES = 5
RUNTIMES = ["openvino", "onnxruntime", "torch"]
KINDS = ["ssd", "retinanet"]
SMALL: dict[str, dict[str, Any]] = {
    "ssd": {"maps": [(4, 6), (2, 3)], "scales": (0.2, 0.5, 0.9), "ratios": [(2, 3), (2,)], "steps": None},
    "retinanet": {"strides": (16, 32), "sizes": [(16, 20), (32, 40)]},
}


def manifest(kind: str, classes: int = CLASSES, **settings: object) -> Manifest:
    decoder = {"kind": kind, **SMALL[kind], **settings}
    labels = [f"class {i}" for i in range(classes)]
    weights = {"checkpoint": {"file": "w.pth"}}
    told = {"name": kind, "task": "detect", "labels": labels, "decoder": decoder, "weights": weights}
    return Manifest.model_validate({**told, "preprocess": {"size": SIZE}})


def raw(told: Manifest, rows: int = 1, seed: int = 0) -> tuple[Float, Float]:
    """Make logits and offsets of many objects, of all classes and sizes."""
    rng, anchors = np.random.default_rng(seed), len(anchornets.anchors_of(told))
    logits = rng.normal(0, 2, (rows, anchors, len(told.labels))).astype(np.float32)
    return logits, rng.normal(0, 1, (rows, anchors, 4)).astype(np.float32)


def run(runtime: str, told: Manifest, outputs: tuple[Array, Array], folder: Path) -> dict[str, Array]:
    if runtime == "torch":
        found = make_head(told)(*map(torch.from_numpy, outputs))
        return {name: value.numpy() for name, value in found.items()}
    if runtime not in available():
        pytest.skip(f"{runtime} is not installed: pip install 'streamer[test]'")
    onnx.save(graph(told, outputs), folder / "head.onnx")
    opened = open_runtime(runtime, folder / "head.onnx", RuntimeOptions("fp32", max_batch=len(outputs[0])))
    got = opened.infer(dict(zip(("logits", "offsets"), outputs, strict=True)))
    return {name: array.copy() for name, array in got.items()}


def graph(told: Manifest, outputs: tuple[Array, Array]) -> onnx.ModelProto:
    """Make a graph of a head alone: the network's outputs are what it is fed."""
    fed = [argument(Tensor(each.dtype, (None, *each.shape[1:]))) for each in outputs]
    given = {name: op.identity(each) for name, each in zip(("logits", "offsets"), fed, strict=True)}
    found = decode(given, told.decoder, Place(len(told.labels), told.preprocess.size))
    named = {"boxes": found.boxes, "scores": found.scores, "classes": found.classes}
    return build(dict(zip(("logits", "offsets"), fed, strict=True)), named)


def detections(told: Manifest, found: dict[str, Array], floor: float, iou: float) -> list[Detections]:
    options = DetectOptions(confidence=floor, suppression=Suppression(iou=iou), max_detections=10_000)
    decoder = DecodeCandidates(len(told.labels), options)
    return decoder(found, [stretch(told.preprocess.size, told.preprocess.size)] * len(found["scores"]))


def assert_same(got: Detections, wanted: list[anchornets.Object]) -> None:
    assert len(got) == len(wanted) > 5
    np.testing.assert_allclose(got.confidence, [each.score for each in wanted], rtol=1e-4)
    assert got.class_id.tolist() == [each.class_id for each in wanted]
    np.testing.assert_allclose(got.xyxy, np.array([each.box for each in wanted]), atol=1e-2)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("iou", [0.45, 0.7])
def test_objects_are_those_of_the_definition(runtime: str, kind: str, iou: float, tmp_path: Path) -> None:
    told = manifest(kind, candidates=3840)
    outputs = raw(told, rows=3)
    found = run(runtime, told, outputs, tmp_path)
    assert found["classes"].dtype == np.int32
    assert found["boxes"].dtype == found["scores"].dtype == np.float32
    # As many pairs are given as there are anchors; the worst of them are not what anybody looks for.
    floor = float(found["scores"].min(1).max()) + 1e-4
    for row, got in enumerate(detections(told, found, floor, iou)):
        anchors = anchornets.anchors_of(told)
        assert_same(got, anchornets.objects(outputs[0][row], outputs[1][row], anchors, told, floor, iou))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_few_candidates_are_the_best_of_many(runtime: str, kind: str, tmp_path: Path) -> None:
    outputs = raw(manifest(kind), rows=2)
    many = run(runtime, manifest(kind, candidates=3840), outputs, tmp_path)
    few = run(runtime, manifest(kind, candidates=17), outputs, tmp_path)
    for name, array in few.items():
        assert array.shape[1] == 17
        np.testing.assert_allclose(array, many[name][:, :17], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_background_is_never_found(runtime: str, tmp_path: Path) -> None:
    told = manifest("ssd")
    logits, offsets = raw(told)
    logits[..., 0] = 50
    found = run(runtime, told, (logits, offsets), tmp_path)
    assert found["classes"].min() == 1
    assert found["scores"].max() < 1e-6


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_lie_in_the_input_however_far_they_were_moved(runtime: str, kind: str, tmp_path: Path) -> None:
    told = manifest(kind)
    logits, offsets = raw(told)
    boxes = run(runtime, told, (logits, offsets * 1e4), tmp_path)["boxes"]
    assert np.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes <= (96, 64, 96, 64)).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_are_nan_come_last_and_displace_nobody(runtime: str, kind: str, tmp_path: Path) -> None:
    told = manifest(kind, candidates=3840)
    logits, offsets = raw(told)
    whole = run(runtime, told, (logits, offsets), tmp_path)
    logits[0, ::3] = np.nan
    found = run(runtime, told, (logits, offsets), tmp_path)
    count = 2 * logits.shape[1] // 3
    sure = found["scores"][0] > whole["scores"][0, -1]
    assert 0 < sure.sum() <= count * CLASSES
    assert (np.diff(found["scores"][0]) <= 0).all()
    assert set(np.round(found["scores"][sure[None]], 5)) <= set(np.round(whole["scores"][0], 5))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_offsets_that_are_no_numbers_give_no_object_and_harm_no_other(
    runtime: str, kind: str, bad: float, tmp_path: Path
) -> None:
    told = manifest(kind, candidates=3840)
    logits, offsets = raw(told)
    whole = run(runtime, told, (logits, offsets), tmp_path)
    offsets[0, 7, 1], offsets[0, 8, 2] = bad, bad
    found = run(runtime, told, (logits, offsets), tmp_path)
    boxes = dict(objects_of(whole))
    moved = [key for key, box in objects_of(found) if key in boxes and not np.allclose(box, boxes[key], atol=1e-3)]
    assert len(moved) <= (0 if np.isnan(bad) else 2 * CLASSES)
    assert (found["scores"] >= 0).mean() > 0.9
    assert np.isfinite(found["boxes"][found["scores"] >= 0]).all()


def objects_of(found: dict[str, Array]) -> list[tuple[tuple[float, int], Array]]:
    scores, classes = found["scores"][0], found["classes"][0]
    return [
        ((round(float(s), 5), int(c)), b) for s, c, b in zip(scores, classes, found["boxes"][0], strict=True) if s >= 0
    ]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_scores_give_as_many_candidates(runtime: str, kind: str, tmp_path: Path) -> None:
    told = manifest(kind, candidates=40)
    logits, offsets = raw(told)
    found = run(runtime, told, (np.zeros_like(logits), offsets), tmp_path)
    assert np.unique(found["scores"]) == pytest.approx(0.2 if kind == "ssd" else 0.5)
    rows = np.concatenate([found["boxes"][0], found["classes"][0, :, None]], 1)
    assert len(np.unique(rows, axis=0)) > 30


# --- what others export: finished boxes ---


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("units", "scale"), [("pixels", (1, 1, 1, 1)), ("shares", (96, 64, 96, 64))])
def test_finished_boxes_and_probabilities_are_taken_as_they_are(
    runtime: str, units: str, scale: tuple[int, ...], tmp_path: Path
) -> None:
    told = manifest("ssd", scores="probabilities", boxes=units, candidates=60)
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 64, (1, 50, 2, 2)).astype(np.float32), 2)
    boxes, scores = corners.reshape(1, 50, 4), rng.uniform(0, 0.2, (1, 50, CLASSES)).astype(np.float32)
    scores[0, 13, 3] = 0.75
    found = run(runtime, told, (scores, (boxes / scale).astype(np.float32)), tmp_path)
    assert found["scores"].shape == (1, 50)
    assert (found["scores"][0, 0], found["classes"][0, 0]) == (0.75, 3)
    np.testing.assert_allclose(found["boxes"][0, 0], boxes[0, 13], rtol=1e-5)
    np.testing.assert_allclose(found["scores"][0], -np.sort(-scores[0, :, 1:].ravel())[:50])


def test_three_classes_and_background_are_told_from_boxes_by_name_or_by_order() -> None:
    told = manifest("ssd", classes=4)
    anchors = len(anchornets.anchors_of(told))
    for names in ("x", "y"), ("scores", "boxes"), ("loc", "conf"):
        fed = {name: argument(Tensor(np.float32, (1, anchors, 4))) for name in names}
        found = decode(fed, told.decoder, Place(4, SIZE))
        made = build(fed, {"found": found.scores})
        soft = next(node for node in made.graph.node if node.op_type == "Softmax")
        source = {output: node.input[0] for node in made.graph.node for output in node.output if node.op_type == "Cast"}
        assert source[soft.input[0]] == {"x": "x", "scores": "scores", "loc": "conf"}[names[0]]


@pytest.mark.parametrize("shapes", [[(1, 160, 5)], [(1, 160, 4)], [(1, 7, 5), (1, 7, 4)], [(1, 160, 6), (1, 160, 4)]])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_of_another_network(kind: str, shapes: list[tuple[int, ...]]) -> None:
    fed = {f"output{i}": argument(Tensor(np.float32, shape)) for i, shape in enumerate(shapes)}
    with pytest.raises(BuildError, match=rf"decoder {kind} reads one output .* correct size, labels or decoder"):
        decode(fed, manifest(kind).decoder, Place(CLASSES, SIZE))


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("ssd", {"scales": (0.2, 0.5)}, "has 2 maps and so needs 3 scales, but there are 2"),
        ("ssd", {"steps": (16,)}, "needs 2 steps"),
        ("retinanet", {"strides": (8, 16, 32)}, "has 3 strides, but sizes for 2 levels"),
    ],
)
def test_a_decoder_that_contradicts_itself_is_refused(kind: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        manifest(kind, **settings)
