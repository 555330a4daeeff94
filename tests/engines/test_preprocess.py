from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ModelError
from engines.geometry import Align, letterbox, placed_hw, stretch
from engines.preprocess import Preprocess, PreprocessSpec
from engines.runtimes.base import PixelInput
from engines.runtimes.fake import FakeRuntime
from engines.types import Geometry, Image, TensorSpec

SIDES = st.one_of(st.integers(1, 64), st.integers(1, 8192))
U8 = TensorSpec("x", np.dtype(np.uint8), (None, 32, 48, 3))
F32 = TensorSpec("x", np.dtype(np.float32), (None, 3, 32, 48))


def runtime(tensor: TensorSpec, max_batch: int = 4) -> FakeRuntime:
    return FakeRuntime(lambda feeds: feeds, (tensor,), max_batch=max_batch)


def forward(geometry: Geometry, xyxy: np.ndarray) -> np.ndarray:
    return np.float32(xyxy * np.array(geometry.scale_xy * 2) + np.array(geometry.offset_xy * 2))


@given(height=SIDES, width=SIDES, align=st.sampled_from(["top-left", "center", "stretch"]))
def test_there_and_back_within_half_a_pixel(height: int, width: int, align: str) -> None:
    target = (416, 640)
    if align == "stretch":
        geometry = stretch((height, width), target)
    else:
        geometry = letterbox((height, width), target, "center" if align == "center" else "top-left")
    box = np.array([[0, 0, width, height], [width / 3, height / 4, width / 2, height]], np.float32)
    assert np.abs(geometry.to_source(forward(geometry, box)) - box).max() <= 0.5


@given(height=SIDES, width=SIDES)
def test_a_letterboxed_image_fits_and_touches_a_side(height: int, width: int) -> None:
    rows, columns = placed_hw((height, width), (416, 640))
    assert 1 <= rows <= 416
    assert 1 <= columns <= 640
    assert rows >= 415 or columns >= 639


def test_boxes_are_clipped_to_the_source() -> None:
    geometry = letterbox((100, 200), (100, 100), "top-left")
    got = geometry.to_source(np.array([[-5, -5, 300, 300]], np.float32))
    assert got.tolist() == [[0, 0, 200, 100]]


@pytest.mark.parametrize(("align", "left", "top"), [("top-left", 0, 0), ("center", 0, 8)])
def test_a_letterboxed_image_lies_where_its_geometry_says(align: Align, left: int, top: int) -> None:
    image = np.full((20, 60, 3), 200, np.uint8)
    feeds, (geometry,) = Preprocess(PreprocessSpec((32, 48), align=align), runtime(U8))([image])
    (canvas,) = feeds["x"]
    assert geometry.offset_xy == (left, top)
    assert (canvas[top : top + 16, left:48] == 200).all()
    outside = np.ones((32, 48), bool)
    outside[top : top + 16, left:48] = False
    assert (canvas[outside] == 114).all()


def test_a_smaller_image_leaves_nothing_of_the_one_before() -> None:
    preprocess = Preprocess(PreprocessSpec((32, 48), align="top-left"), runtime(U8))
    preprocess([np.full((32, 48, 3), 255, np.uint8)])
    feeds, _ = preprocess([np.zeros((32, 16, 3), np.uint8)])
    assert set(np.unique(feeds["x"])) == {0, 114}


def test_rows_of_a_batch_do_not_mix() -> None:
    preprocess = Preprocess(PreprocessSpec((32, 48)), runtime(U8))
    images = [np.full((10 + 7 * i, 30, 3), 50 * i, np.uint8) for i in range(4)]
    together = preprocess(images)[0]["x"].copy()
    for row, image in zip(together, images, strict=True):
        assert np.array_equal(row, preprocess([image])[0]["x"][0])


def test_a_view_with_padded_rows_gives_the_same_as_a_copy() -> None:
    wide = np.random.default_rng(0).integers(0, 255, (40, 100, 3), np.uint8)
    view: Image = wide[:, :60]
    preprocess = Preprocess(PreprocessSpec((32, 48)), runtime(U8))
    from_view = preprocess([view])[0]["x"].copy()
    assert np.array_equal(from_view, preprocess([np.ascontiguousarray(view)])[0]["x"])


def test_a_float_input_gets_planes_in_the_networks_order_normalised() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:] = (10, 20, 30)
    pixels = PixelInput("bgr", (1.0, 2.0, 3.0), (2.0, 4.0, 8.0))
    feeds, _ = Preprocess(PreprocessSpec((32, 48), "stretch", pixels=pixels), runtime(F32))([image])
    assert feeds["x"].shape == (1, 3, 32, 48)
    assert [plane.max() for plane in feeds["x"][0]] == [(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8]
    assert all(plane.min() == plane.max() for plane in feeds["x"][0])


@pytest.mark.parametrize("shape", [(None, 3, 64, 64), (None, 1, 32, 48), (None, 100)])
def test_an_input_that_is_not_what_the_manifest_says(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ModelError, match="manifest"):
        Preprocess(PreprocessSpec((32, 48)), runtime(TensorSpec("x", np.dtype(np.float32), shape)))
