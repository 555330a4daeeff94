from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from engines.decoders import DetectOptions
from engines.decoders.candidates import DecodeCandidates
from engines.decoders.instances import DecodeInstances
from engines.errors import ModelError
from engines.geometry import letterbox
from engines.masks import encode_masks, paint
from engines.types import Array, Bool, Detections, Float, Geometry

INPUT = (96, 128)
SAME = Geometry(INPUT, (1.0, 1.0), (0.0, 0.0))
OPTIONS = DetectOptions()


def candidates(boxes: Sequence[Sequence[float]], scores: list[float]) -> dict[str, Array]:
    classes = np.zeros((1, len(boxes)), np.int32)
    return {"boxes": np.array([boxes], np.float32), "scores": np.array([scores], np.float32), "classes": classes}


def discs(count: int, cells: int = 28) -> Float:
    """Soft discs, each larger than the one before."""
    rows, columns = np.mgrid[-1 : 1 : cells * 1j, -1 : 1 : cells * 1j]
    radius = np.linspace(0.4, 0.9, count)[:, None, None]
    probs: Float = (1 / (1 + np.exp(20 * (np.hypot(columns, rows) - radius)))).astype(np.float32)
    return probs


def decode(outputs: dict[str, Array], place: Geometry = SAME, options: DetectOptions = OPTIONS) -> Detections:
    (found,) = DecodeInstances(3, options, INPUT)(outputs, [place])
    return found


def pixels(found: Detections, row: int, size: tuple[int, int] = INPUT) -> Bool:
    assert found.masks is not None
    image = np.zeros(size, bool)
    top, left, part = list(paint(found.masks, found.xyxy, size))[row]
    image[top : top + part.shape[0], left : left + part.shape[1]] = part
    return image


def agree(a: Bool, b: Bool) -> float:
    return float((a & b).sum() / (a | b).sum())


APART: list[list[float]] = [[0.0, 0, 40, 40], [50, 0, 90, 40], [0, 50, 40, 90], [0, 51, 40, 90]]


def test_each_object_keeps_its_own_mask() -> None:
    given = candidates(APART, [0.5, 0.2, 0.7, 0.6]) | {"masks": discs(4)[None]}
    found = decode(given)
    assert found.xyxy.tolist() == [APART[2], APART[0]]
    assert found.masks is not None
    assert np.array_equal(found.masks.probs, discs(4)[[2, 0]])


def test_the_rest_is_as_without_masks() -> None:
    given = candidates(APART, [0.5, 0.2, 0.7, 0.6])
    options = DetectOptions(confidence=0.1, max_detections=2, min_size=10)
    (plain,) = DecodeCandidates(3, options)(given, [SAME])
    found = decode(given | {"masks": discs(4)[None]}, options=options)
    assert np.array_equal(found.xyxy, plain.xyxy)
    assert np.array_equal(found.confidence, plain.confidence)
    assert found.masks is not None
    assert len(found.masks) == len(plain) == 2


def test_masks_outlive_the_runtimes_memory() -> None:
    given = candidates(APART, [0.9] * 4) | {"masks": discs(4)[None]}
    found = decode(given)
    given["masks"][:] = 0
    assert found.masks is not None
    assert found.masks.probs.max() > 0.9


def test_what_the_border_cuts_off_a_box_it_cuts_off_its_mask() -> None:
    box = [-20.0, 10, 60, 90]
    given = candidates([box], [0.9]) | {"masks": discs(1, 56)[None]}
    rows, columns = np.mgrid[:96, :128] + 0.5
    disc = np.hypot(columns - 20, rows - 50) < 0.4 * 40 * 55 / 56
    assert decode(given).xyxy.tolist() == [[0, 10, 60, 90]]
    assert agree(pixels(decode(given), 0), disc) > 0.95


def scene() -> tuple[dict[str, Array], list[Bool]]:
    """Two ellipses that overlap, of prototypes at a quarter of the size: one for each, one for what is neither."""
    rows, columns = np.mgrid[:24, :32] * 4 + 2.0
    shapes = [np.hypot((columns - x) / a, (rows - y) / b) for x, y, a, b in ((40, 40, 30, 24), (80, 60, 36, 28))]
    prototypes = np.stack([*(12 * (1 - shape) for shape in shapes), np.ones((24, 32))])
    given = candidates([[10, 16, 70, 64], [44, 32, 116, 88]], [0.9, 0.8])
    given |= {
        "coefficients": np.array([[[1, 0, 0.001], [0, 1, 0.001]]], np.float32),
        "prototypes": prototypes[None].astype(np.float32),
    }
    fine = np.mgrid[:96, :128] + 0.5
    true = [np.hypot((fine[1] - x) / a, (fine[0] - y) / b) < 1 for x, y, a, b in ((40, 40, 30, 24), (80, 60, 36, 28))]
    return given, true


def test_masks_are_mixed_of_prototypes_inside_the_box() -> None:
    given, true = scene()
    found = decode(given)
    for row in range(2):
        assert agree(pixels(found, row), true[row]) > 0.97


def test_prototypes_are_the_same_in_a_letterboxed_image() -> None:
    given, true = scene()
    size = (180, 256)  # twice the input's width; of its height, three rows at the top and at the bottom are padding
    found = decode(given, letterbox(size, INPUT, "center"))
    for row in range(2):
        large = np.asarray(cv2.resize(true[row].astype(np.uint8), (256, 192), interpolation=cv2.INTER_NEAREST), bool)
        assert agree(pixels(found, row, size), large[6:-6]) > 0.97


def test_an_object_beyond_the_border_is_cut_there() -> None:
    given, _ = scene()
    given["boxes"][0, 0] = [-50, -50, 70, 64]
    found = decode(given)
    assert found.xyxy[0].tolist() == [0, 0, 70, 64]
    rows, columns = np.mgrid[:96, :128] + 0.5
    assert agree(pixels(found, 0), np.hypot((columns - 40) / 30, (rows - 40) / 24) < 1) > 0.95


def test_they_are_equal_to_sampling_the_whole_image() -> None:
    """Against logits resized to the input first and cropped then, for noise that only exact sampling gets right."""
    rng = np.random.default_rng(0)
    given = candidates([[16, 8, 72, 64]], [0.9])  # 56 pixels: a cell each
    coefficients, prototypes = rng.normal(size=(1, 1, 8)), rng.normal(size=(1, 8, 24, 32))
    given |= {"coefficients": coefficients.astype(np.float32), "prototypes": prototypes.astype(np.float32)}
    logits = np.tensordot(coefficients[0, 0], prototypes[0], 1).astype(np.float32)
    whole = cv2.resize(logits, (128, 96), interpolation=cv2.INTER_LINEAR)[8:64, 16:72]
    found = decode(given)
    assert found.masks is not None
    assert found.masks.probs[0] == pytest.approx(1 / (1 + np.exp(-whole)), abs=1e-4)


@pytest.mark.parametrize("box", [[0, 0, 128, 96], [127.5, 95.5, 128, 96], [0, 0, 0.01, 0.01], [-999, -999, 999, 999]])
def test_boxes_of_any_size_have_a_mask(box: list[float]) -> None:
    given, _ = scene()
    given["boxes"][0, 0] = box
    found = decode(given)
    assert found.masks is not None
    assert ((found.masks.probs >= 0) & (found.masks.probs <= 1)).all()
    assert len(encode_masks(found.masks, found.xyxy, INPUT)) == 2


def test_logits_beyond_any_exponent_warn_nobody(recwarn: pytest.WarningsRecorder) -> None:
    given, _ = scene()
    given["coefficients"] *= 1e6
    found = decode(given)
    assert found.masks is not None
    assert np.isfinite(found.masks.probs).all()
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["masks", "prototypes"])
def test_no_objects_have_no_masks_of_the_right_size(kind: str) -> None:
    given = scene()[0] if kind == "prototypes" else candidates(APART, [0.9] * 4) | {"masks": discs(4)[None]}
    given["scores"][:] = 0
    found = decode(given)
    assert found.masks is not None
    assert found.masks.probs.shape == ((0, 56, 56) if kind == "prototypes" else (0, 28, 28))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"masks": np.zeros((1, 3, 28, 28), np.float32)},
        {"masks": np.zeros((1, 4, 28, 14), np.float32)},
        {"coefficients": np.zeros((1, 4, 32), np.float32)},
        {"coefficients": np.zeros((1, 4, 32), np.float32), "prototypes": np.zeros((1, 16, 24, 32), np.float32)},
    ],
)
def test_a_graph_without_masks_is_refused(extra: dict[str, Array]) -> None:
    with pytest.raises(ModelError, match=r"gives boxes \(1, 4, 4\).*: build it anew, or say 'task: detect'"):
        decode(candidates(APART, [0.9] * 4) | extra)
