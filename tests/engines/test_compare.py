"""Comparing runtimes: what is counted, and that a runtime that fails is a row."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import errands
import networks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.build.apart import apart
from engines.build.compare import RawDifference, agreement, compare, match, raw_difference, with_reference
from engines.build.trial import Subject, Variant
from engines.errors import BuildError, EngineError, ModelError
from engines.manifest import read
from engines.types import Detections, Image, Masks

A = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)


def found(xyxy: object, class_id: object, confidence: object) -> Detections:
    return Detections(
        np.asarray(xyxy, np.float32).reshape(-1, 4), np.asarray(class_id, np.int32), np.asarray(confidence, np.float32)
    )


TWO = found(A, [0, 1], [0.9, 0.6])


# --- what is counted ---


def test_the_same_detections_agree_entirely() -> None:
    got = agreement([TWO, Detections.empty()], [TWO, Detections.empty()], [TWO, Detections.empty()])
    assert (got.found, got.missed, got.extra) == (2, 0, 0)
    assert (got.worst_iou, got.worst_confidence) == (1.0, 0.0)
    assert got.mean_ap is None or got.mean_ap == pytest.approx(1)


def test_moved_missed_and_extra_objects_are_counted_apart() -> None:
    moved = found([[0, 0, 10, 8], [50, 50, 60, 60]], [0, 1], [0.7, 0.5])
    got = agreement([TWO], [moved], [moved])
    assert (got.found, got.missed, got.extra) == (1, 1, 1)
    assert got.worst_iou == pytest.approx(0.8)
    assert got.worst_confidence == pytest.approx(0.2)


def test_another_class_is_another_object() -> None:
    got = agreement([TWO], [found(A, [1, 0], [0.9, 0.6])], [TWO])
    assert (got.found, got.missed, got.extra) == (0, 2, 2)


def masked(given_: Detections, *probs: object) -> Detections:
    return replace(given_, masks=Masks(np.asarray(probs, np.float32)))


LEFT, UPPER = [[1, 0], [1, 0]], [[1, 1], [0, 0]]


def test_masks_of_what_both_have_found_are_compared_through_the_references_box() -> None:
    assert agreement([TWO], [TWO], [TWO]).worst_mask_iou is None
    reference = masked(TWO, LEFT, UPPER)
    assert agreement([reference], [reference[::-1]], [reference]).worst_mask_iou == 1
    other = masked(TWO, LEFT, LEFT)
    assert agreement([reference], [other], [other]).worst_mask_iou == pytest.approx(1 / 3)
    nothing = masked(TWO, np.zeros((2, 2)), np.zeros((2, 2)))
    assert agreement([nothing], [nothing], [nothing]).worst_mask_iou == 1
    lost = masked(found(A[:1] + 100, [0], [0.9]), LEFT)
    assert agreement([reference], [lost], [lost]).worst_mask_iou is None


def test_frames_do_not_mix() -> None:
    got = agreement([TWO, Detections.empty()], [Detections.empty(), TWO], [TWO, TWO])
    assert (got.found, got.missed, got.extra) == (0, 2, 2)


def test_without_any_object_there_is_no_precision() -> None:
    none = [Detections.empty()]
    got = agreement(none, none, none)
    assert (got.found, got.missed, got.extra, got.worst_iou) == (0, 0, 0, 1.0)
    assert got.mean_ap is None or math.isnan(got.mean_ap)


def test_each_object_is_matched_once_and_with_the_closest() -> None:
    twice = found([[0, 0, 10, 8], [0, 0, 10, 10]], [0, 0], [0.9, 0.8])
    i, j, overlap = match(found(A[:1], [0], [0.9]), twice)
    assert (i.tolist(), j.tolist(), overlap.tolist()) == ([0], [1], [1.0])


@given(st.permutations(range(6)), st.integers(0, 6))
def test_the_order_of_objects_does_not_matter(order: list[int], kept: int) -> None:
    boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(6)], np.float32)
    all_of_them = found(boxes, np.zeros(6), np.linspace(0.4, 0.9, 6))
    rows = np.array(order[:kept], np.int32)
    i, j, overlap = match(all_of_them, all_of_them[rows])
    assert np.array_equal(i, rows[j])
    assert len(i) == kept
    assert (overlap == 1).all()


def test_raw_outputs_are_compared_over_all_frames_the_worst_of_several() -> None:
    ones, tens = np.ones((2, 4), np.float32), np.full((2, 3), 10, np.float32)
    off = ones.copy()
    off[1, 2] = 1.5
    got = raw_difference({"a": ones, "b": tens}, {"a": off, "b": tens})
    assert got.max == pytest.approx(0.5)
    assert got.mean == pytest.approx(0.5 / 8)
    assert got.relative == pytest.approx(0.5 / 8**0.5)
    assert raw_difference({"a": ones}, {"a": ones.astype(np.float16)}).max == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_does_not_pass_for_equal(bad: float) -> None:
    ones = np.ones((2, 4), np.float32)
    off = ones.copy()
    off[0, 0] = bad
    got = raw_difference({"a": ones}, {"a": off})
    assert not math.isfinite(got.max)
    assert not math.isfinite(got.relative)


def test_outputs_of_other_names_or_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="but this gives"):
        raw_difference({"a": np.ones((2, 4))}, {"a": np.ones((2, 5))})


# --- in a process of its own ---


def test_a_process_of_its_own_gives_back_what_the_function_returns_and_tells() -> None:
    told: list[str] = []
    total, pid = apart(errands.add, 2, 3, tell=told.append)
    assert total == 5
    assert pid != os.getpid()
    assert told == ["adding 2", "and 3"]


@pytest.mark.parametrize(
    ("errand", "kind", "says"),
    [
        (errands.refuse, BuildError, "^no such thing can be built$"),
        (errands.stumble, ModelError, "internal error: ZeroDivisionError: by nought; report it"),
        (errands.leave, ModelError, "its process ended by itself with exit code 3"),
        (errands.die, ModelError, r"its process was ended by SIGKILL \(out of memory\?\)"),
    ],
)
def test_whatever_ends_the_process_is_one_sentence(errand: object, kind: type[EngineError], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        apart(errand)  # type: ignore[arg-type]  # they are all functions
    assert "\n" not in str(caught.value)


# --- all of it, on a real network ---


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Subject(read(networks.manifest(tmp_path)), tmp_path / "bright.onnx", batch=2, threads=1, seconds=0.2)


def pictures() -> list[Image]:
    """Blue squares on black, in pictures of two sizes."""
    images = [np.zeros((64, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    for i, image in enumerate(images):
        image[8 * i : 8 * i + 16, 16:32, 2] = 255
    return images


def test_every_variant_is_a_row_and_what_fails_says_why(subject: Subject) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'streamer[onnxruntime]'")
    variants = [Variant("openvino", "fp32"), Variant("onnxruntime", "bf16"), Variant("onnxruntime", "fp32")]
    told: list[str] = []
    reference, rows = compare(subject, variants, pictures(), told.append)
    assert reference == variants[2]
    assert [row.variant for row in rows] == variants
    assert rows[1].trial is None
    assert rows[1].fault is not None
    assert "bf16" in rows[1].fault
    for row in (rows[0], rows[2]):
        assert row.fault is None
        assert row.raw is not None
        assert row.raw.relative < 1e-5
        assert row.agreement is not None
        assert row.agreement.found > 0
        assert (row.agreement.missed, row.agreement.extra) == (0, 0)
        assert row.trial is not None
        assert len(row.trial.found) == 3
        assert row.trial.speed.rows == 2
        assert min(row.trial.speed.ms) > 0
        assert min(row.trial.speed.frames_per_s) > 0
        assert row.trial.memory is None or row.trial.memory > 0
    assert rows[2].raw == RawDifference(0, 0, 0)  # it is the reference
    assert any("openvino" in sentence for sentence in told)


def test_without_an_fp32_network_that_works_there_is_nothing_to_compare_with(subject: Subject) -> None:
    with pytest.raises(BuildError, match="no runtime gives an fp32 reference"):
        compare(replace(subject, weights=Path("absent.onnx")), [Variant("openvino", "fp32")], pictures())


def test_a_reference_is_added_where_none_was_asked_for(subject: Subject) -> None:
    wanted = [Variant("openvino", "bf16")]
    added, *others = with_reference(subject, wanted)
    assert added.precision == "fp32"
    assert added.runtime != "pytorch"  # which does not read ONNX
    assert others == wanted
    assert with_reference(subject, [added, *wanted]) == [added, *wanted]
