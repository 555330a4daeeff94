from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.geometry import Align, Size, letterbox, placed_hw, stretch
from engines.types import Float, Geometry

SIDES = st.one_of(st.integers(1, 64), st.integers(1, 8192))
SIZES = st.tuples(SIDES, SIDES)
TARGETS = st.sampled_from([(416, 416), (416, 640), (32, 48), (1, 1)])
ALIGNS = st.sampled_from(["top-left", "center"])
SHARES = st.floats(0, 1, width=32)


def forward(geometry: Geometry, xyxy: Float) -> Float:
    out: Float = (xyxy * np.array(geometry.scale_xy * 2) + np.array(geometry.offset_xy * 2)).astype(np.float32)
    return out


@given(size=SIZES, target=TARGETS, align=ALIGNS, shares=st.tuples(SHARES, SHARES, SHARES, SHARES))
def test_there_and_back_within_half_a_pixel(
    size: Size, target: Size, align: Align, shares: tuple[float, float, float, float]
) -> None:
    box = np.array([shares], np.float32) * np.array((size[1], size[0]) * 2, np.float32)
    for geometry in (letterbox(size, target, align), stretch(size, target)):
        assert np.abs(geometry.to_source(forward(geometry, box)) - box).max() <= 0.5
        assert np.abs(geometry.to_source(geometry.to_input(box)) - box).max() <= 0.5


@given(size=SIZES, target=TARGETS, align=ALIGNS)
def test_the_placed_rectangle_is_the_whole_source(size: Size, target: Size, align: Align) -> None:
    geometry, (height, width) = letterbox(size, target, align), placed_hw(size, target)
    left, top = geometry.offset_xy
    placed = np.array([[left, top, left + width, top + height]], np.float32)
    assert geometry.to_source(placed)[0].tolist() == pytest.approx([0, 0, size[1], size[0]], rel=1e-5)
    assert left + width <= target[1]
    assert top + height <= target[0]


@given(size=SIZES, target=TARGETS)
def test_a_placed_image_touches_a_side(size: Size, target: Size) -> None:
    height, width = placed_hw(size, target)
    assert 1 <= height <= target[0]
    assert 1 <= width <= target[1]
    assert height >= target[0] - 1 or width >= target[1] - 1  # rounded down, one pixel may be missing


@pytest.mark.parametrize(
    ("size", "placed"),
    [((576, 768), (312, 416)), ((1080, 1920), (234, 416)), ((272, 640), (176, 416)), ((1, 5000), (1, 416))],
)
def test_sizes_round_down_as_the_public_yolox_does(size: Size, placed: Size) -> None:
    assert placed_hw(size, (416, 416)) == placed


@pytest.mark.parametrize(("align", "offset"), [("top-left", (0, 0)), ("center", (0, 52))])
def test_alignment(align: Align, offset: tuple[float, float]) -> None:
    assert letterbox((576, 768), (416, 416), align).offset_xy == offset


def test_boxes_are_clipped_to_the_source() -> None:
    geometry = letterbox((100, 200), (100, 100), "top-left")
    assert geometry.to_source(np.array([[-5, -5, 300, 300]], np.float32)).tolist() == [[0, 0, 200, 100]]


@pytest.mark.parametrize(("size", "target"), [((0, 5), (4, 4)), ((5, 0), (4, 4)), ((5, 5), (0, 4))])
def test_nothing_cannot_be_placed(size: Size, target: Size) -> None:
    with pytest.raises(ValueError, match="both need a height and a width"):
        letterbox(size, target, "center")
    with pytest.raises(ValueError, match="both need a height and a width"):
        stretch(size, target)
