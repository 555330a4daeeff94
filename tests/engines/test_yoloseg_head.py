"""The head of YOLOs that segment: as yolov8, each candidate with its own coefficients, and masks that follow."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import spox.opset.ai.onnx.v17 as op
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from spox import Tensor, argument, build

from engines.build.heads import Place, decode
from engines.decoders import DetectOptions
from engines.decoders.instances import DecodeInstances
from engines.errors import BuildError
from engines.outputs import YoloV8Decoder, YoloV8SegDecoder
from engines.types import Array, Geometry

SIZE, CLASSES, WIDTH, KEPT = (64, 96), 3, 5, 12
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3
MAPS = (SIZE[0] // 4, SIZE[1] // 4)


def session(shapes: dict[str, tuple[int | None, ...]], masks: bool = True) -> ort.InferenceSession:
    """Make a head alone: the network's outputs are what it is fed."""
    raw = {name: argument(Tensor(np.float32, shape)) for name, shape in shapes.items()}
    kinds = YoloV8SegDecoder(kind="yolov8-seg", candidates=KEPT), YoloV8Decoder(kind="yolov8", candidates=KEPT)
    found = decode({name: op.identity(var) for name, var in raw.items()}, kinds[not masks], Place(CLASSES, SIZE))
    model = build(raw, {"boxes": found.boxes, "scores": found.scores, "classes": found.classes, **found.extras})
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


SEGMENTER = session({"output1": (None, WIDTH, *MAPS), "output0": (None, 4 + CLASSES + WIDTH, ANCHORS)})
DETECTOR = session({"output0": (None, 4 + CLASSES, ANCHORS)}, masks=False)


def run(head: ort.InferenceSession, feeds: dict[str, Array]) -> dict[str, Array]:
    names = [output.name for output in head.get_outputs()]
    return dict(zip(names, head.run(None, feeds), strict=True))


def random_outputs(rows: int = 2) -> dict[str, Array]:
    rng = np.random.default_rng(5)
    table = rng.uniform(0, 1, (rows, 4 + CLASSES + WIDTH, ANCHORS)).astype(np.float32)
    table[:, :4] *= 40
    table[:, 4 + CLASSES :] = rng.normal(0, 2, (rows, WIDTH, ANCHORS))
    return {"output0": table, "output1": rng.normal(0, 1, (rows, WIDTH, *MAPS)).astype(np.float32)}


def test_boxes_are_those_of_a_detector() -> None:
    fed = random_outputs()
    found = run(SEGMENTER, fed)
    wanted = run(DETECTOR, {"output0": fed["output0"][:, : 4 + CLASSES]})
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


def test_coefficients_are_those_of_the_same_anchor() -> None:
    fed = random_outputs()
    found = run(SEGMENTER, fed)
    np.testing.assert_array_equal(found["prototypes"], fed["output1"])
    for image, table in enumerate(fed["output0"]):
        best = np.argsort(-table[4 : 4 + CLASSES].max(0))[:KEPT]
        np.testing.assert_array_equal(found["coefficients"][image], table[4 + CLASSES :, best].T)


def test_masks_equal_a_direct_computation() -> None:
    """Cells in the middle of a prototype's pixel are not interpolated: the mask is the sigmoid of a plain sum there."""
    fed = random_outputs(rows=1)
    table = fed["output0"][0]
    table[:4, 7] = [40, 24, 32, 16]  # the pixels 6 to 13 and 4 to 7 of the prototypes
    table[4:7, 7] = [0.1, 0.99, 0.2]
    found = run(SEGMENTER, fed)
    decoder = DecodeInstances(CLASSES, DetectOptions(confidence=0.98), SIZE, resolution=4)
    (seen,) = decoder(found, [Geometry(SIZE, (1, 1), (0, 0))])
    row = int(np.flatnonzero((seen.xyxy == [24, 16, 56, 32]).all(1))[0])
    logits = np.tensordot(table[7:, 7], fed["output1"][0], 1)
    across = (logits[4:8, 6:14:2] + logits[4:8, 7:14:2]) / 2  # a cell is two pixels wide, and one high
    assert seen.masks is not None
    np.testing.assert_allclose(seen.masks.probs[row], np.reciprocal(1 + np.exp(-across)), atol=1e-5)


@given(arrays(np.float32, (1, CLASSES, ANCHORS), elements=st.sampled_from([0.0, 0.5, 1.0, np.nan])))
@settings(max_examples=30, deadline=None)
def test_scores_that_are_no_numbers_displace_nobody(scores: Array) -> None:
    fed = random_outputs(rows=1)
    fed["output0"][:, 4 : 4 + CLASSES] = np.where(np.isnan(scores).any(1, keepdims=True), np.nan, scores)
    found = run(SEGMENTER, fed)
    best = np.nan_to_num(fed["output0"][0, 4 : 4 + CLASSES].max(0), nan=-1)
    np.testing.assert_array_equal(found["scores"][0], -np.sort(-best)[:KEPT])
    assert np.isfinite(found["coefficients"]).all()


@pytest.mark.parametrize(
    "shapes",
    [
        {"output0": (1, 4 + CLASSES + WIDTH, ANCHORS)},
        {"output0": (1, 4 + CLASSES, ANCHORS), "output1": (1, WIDTH, *MAPS)},
        {"output0": (1, ANCHORS, 4 + CLASSES + WIDTH), "output1": (1, WIDTH, *MAPS)},
        {"output0": (1, 4 + CLASSES + WIDTH, ANCHORS), "output1": (1, WIDTH + 1, *MAPS)},
    ],
    ids=["no prototypes", "no coefficients", "turned around", "more prototypes"],
)
def test_outputs_of_another_network(shapes: dict[str, tuple[int | None, ...]]) -> None:
    with pytest.raises(BuildError, match=r"yolov8-seg reads an output \(\?, 7 \+ C, \?\) and prototypes"):
        session(shapes)
