"""Whatever a network gives, a head keeps its promises: the best K, best first, each one a box that was there."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import spox.opset.ai.onnx.v17 as op
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from spox import Tensor, argument, build

from engines.build.heads import Place, decode
from engines.outputs import Decoder, YoloV5Decoder, YoloV8Decoder, YoloxDecoder
from engines.types import Array

ort = pytest.importorskip("onnxruntime", reason="pip install 'streamer[onnxruntime]'")

SIZE, CLASSES, KEPT = (32, 32), 2, 6
DECODERS: dict[str, Decoder] = {
    "yolox": YoloxDecoder(kind="yolox", candidates=KEPT),
    "yolov5": YoloV5Decoder(kind="yolov5", candidates=KEPT),
    "yolov8": YoloV8Decoder(kind="yolov8", candidates=KEPT),
}
ANCHORS = 16 + 4 + 1
VALUES = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, 3.0, 1e30, -1e30, np.inf, -np.inf, np.nan])
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0, np.nan])


@lru_cache
def session(kind: str) -> object:
    shape = (4 + CLASSES, ANCHORS) if kind == "yolov8" else (ANCHORS, 5 + CLASSES)
    raw = argument(Tensor(np.float32, (None, *shape)))
    found = decode({"raw": op.identity(raw)}, DECODERS[kind], Place(CLASSES, SIZE))
    model = build({"raw": raw}, {"boxes": found.boxes, "scores": found.scores, "classes": found.classes})
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run(kind: str, rows: Array) -> tuple[Array, Array, Array]:
    """Feed rows (N, A, columns) in the layout of the kind."""
    raw = rows.transpose(0, 2, 1) if kind == "yolov8" else rows
    boxes, scores, classes = session(kind).run(["boxes", "scores", "classes"], {"raw": raw})  # type: ignore[attr-defined]
    return boxes, scores, classes


@st.composite
def outputs(draw: st.DrawFn) -> tuple[str, Array]:
    """Draw a kind and rows (N, A, columns), with few values, so that many are equal."""
    kind = draw(st.sampled_from(list(DECODERS)))
    many = draw(st.integers(1, 3))
    boxes = draw(arrays(np.float32, (many, ANCHORS, 4), elements=VALUES))
    scores = draw(arrays(np.float32, (many, ANCHORS, CLASSES + (kind != "yolov8")), elements=SCORES))
    return kind, np.concatenate([boxes, scores], 2)


def pair_scores(kind: str, rows: Array) -> Array:
    """Score every class of every anchor: (N, A, C)."""
    scores: Array = rows[..., 4:] if kind == "yolov8" else rows[..., 4:5] * rows[..., 5:]
    return scores


@given(outputs())
@settings(max_examples=60, deadline=None)
def test_scores_come_best_first_and_nothing_better_was_left(given_: tuple[str, Array]) -> None:
    kind, rows = given_
    rows[..., 4:] = np.nan_to_num(rows[..., 4:])  # what NaN is worth beside a number is not promised
    _, scores, classes = run(kind, rows)
    assert scores.shape == (len(rows), KEPT)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert ((classes >= 0) & (classes < CLASSES)).all()
    pairs = pair_scores(kind, rows)
    if kind != "yolox":  # of an anchor only the best class counts
        pairs = pairs.max(2, keepdims=True)
    for row, found in zip(pairs, scores, strict=True):
        np.testing.assert_array_equal(found, -np.sort(-row.ravel())[:KEPT])


@given(outputs())
@settings(max_examples=60, deadline=None)
def test_rows_do_not_touch_each_other(given_: tuple[str, Array]) -> None:
    kind, rows = given_
    together = run(kind, rows)
    for i, row in enumerate(rows):
        for one, other in zip(together, run(kind, row[None]), strict=True):
            np.testing.assert_array_equal(one[i], other[0])


@given(outputs(), st.integers(0, ANCHORS - 1))
@settings(max_examples=60, deadline=None)
def test_an_anchor_of_nans_displaces_nobody(given_: tuple[str, Array], anchor: int) -> None:
    kind, rows = given_
    rows = np.where(np.isnan(rows) & (np.arange(rows.shape[2]) >= 4), 0, rows).astype(np.float32)
    nothing, nan = rows.copy(), rows.copy()
    nothing[:, anchor, 4:] = 0
    nan[:, anchor] = np.nan
    better = run(kind, nothing)[1]
    found = run(kind, nan)[1]
    np.testing.assert_array_equal(found[better > 0], better[better > 0])
