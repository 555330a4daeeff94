from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.errors import ModelError
from engines.geometry import Align, Size
from engines.preprocess import Preprocess, PreprocessSpec
from engines.runtimes.fake import FakeRuntime
from engines.types import Array, Image, TensorSpec

SIZE = (32, 48)
U8 = TensorSpec("x", np.dtype(np.uint8), (None, *SIZE, 3))


def runtime(*inputs: TensorSpec, max_batch: int = 4) -> FakeRuntime:
    return FakeRuntime(lambda feeds: feeds, inputs, max_batch=max_batch)


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def run(preprocess: Preprocess, *images: Image) -> Array:
    """A copy: the next call writes over what the first one gave."""
    return preprocess(images)[0]["x"].copy()


def test_it_is_what_the_public_yolox_demo_feeds() -> None:
    image = noise(57, 131)
    ratio = min(SIZE[0] / 57, SIZE[1] / 131)
    padded = np.full((*SIZE, 3), 114, np.uint8)
    small = cv2.resize(image, (int(131 * ratio), int(57 * ratio)), interpolation=cv2.INTER_LINEAR)
    padded[: small.shape[0], : small.shape[1]] = small
    spec = PreprocessSpec(SIZE, align="top-left")
    assert np.array_equal(run(Preprocess(spec, runtime(U8)), image)[0], padded)


@pytest.mark.parametrize(("align", "left", "top"), [("top-left", 0, 0), ("center", 0, 8)])
def test_a_letterboxed_image_lies_where_its_geometry_says(align: Align, left: int, top: int) -> None:
    image = np.full((20, 60, 3), 200, np.uint8)
    feeds, (geometry,) = Preprocess(PreprocessSpec(SIZE, align=align), runtime(U8))([image])
    (canvas,) = feeds["x"]
    assert geometry.offset_xy == (left, top)
    assert (canvas[top : top + 16, left:48] == 200).all()
    outside = np.ones(SIZE, bool)
    outside[top : top + 16, left:48] = False
    assert (canvas[outside] == 114).all()


def test_a_stretched_image_fills_everything() -> None:
    feeds, (geometry,) = Preprocess(PreprocessSpec(SIZE, "stretch"), runtime(U8))([np.full((9, 7, 3), 5, np.uint8)])
    assert (feeds["x"] == 5).all()
    assert geometry.to_source(np.array([[0, 0, 48, 32]], np.float32)).tolist() == [[0, 0, 7, 9]]


@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 1), (32, 48), (31, 49), (2160, 3840)])
@pytest.mark.parametrize("align", ["top-left", "center"])
def test_any_size_can_be_placed(size: Size, align: Align) -> None:
    image = np.full((*size, 3), 200, np.uint8)
    canvas = run(Preprocess(PreprocessSpec(SIZE, align=align, pad=0), runtime(U8)), image)
    assert set(np.unique(canvas)) <= {0, 200}
    assert 200 in canvas


def test_a_smaller_image_leaves_nothing_of_the_one_before() -> None:
    preprocess = Preprocess(PreprocessSpec(SIZE, align="top-left"), runtime(U8))
    run(preprocess, np.full((32, 48, 3), 255, np.uint8))
    assert set(np.unique(run(preprocess, np.zeros((32, 16, 3), np.uint8)))) == {0, 114}


def test_rows_of_a_batch_do_not_mix() -> None:
    preprocess = Preprocess(PreprocessSpec(SIZE), runtime(U8))
    images = [noise(10 + 7 * i, 30, i) for i in range(4)]
    for row, image in zip(run(preprocess, *images), images, strict=True):
        assert np.array_equal(row, run(preprocess, image)[0])


def test_the_buffer_is_used_again() -> None:
    preprocess = Preprocess(PreprocessSpec(SIZE), runtime(U8))
    first, second = (preprocess([noise(20, 30)])[0]["x"] for _ in range(2))
    assert np.shares_memory(first, second)


@pytest.mark.parametrize("cut", [np.s_[:, :60], np.s_[::2], np.s_[:, ::-1], np.s_[::-1], np.s_[..., ::-1]], ids=str)
def test_a_view_gives_the_same_as_its_copy_and_is_not_written(cut: tuple[slice, ...]) -> None:
    wide = noise(40, 100)
    view = wide[cut]
    view.flags.writeable = False
    preprocess = Preprocess(PreprocessSpec(SIZE), runtime(U8))
    assert np.array_equal(run(preprocess, view), run(preprocess, np.ascontiguousarray(view)))
    assert np.array_equal(wide, noise(40, 100))


def test_images_that_are_none() -> None:
    preprocess = Preprocess(PreprocessSpec(SIZE), runtime(U8))
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="image: expected uint8"):
            preprocess([wrong])  # type: ignore[list-item]  # that is the point
    with pytest.raises(ValueError, match="need a height and a width"):
        preprocess([np.zeros((0, 4, 3), np.uint8)])
    with pytest.raises(ValueError, match="5 images are more than the 4"):
        preprocess([noise(4, 4)] * 5)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (np.uint8, (None, 64, 64, 3)),
        (np.uint8, (None, 32, 48, 1)),
        (np.uint8, (None, 100)),
        (np.float32, (None, 32, 48, 3)),
        (np.float32, (None, 3, 32, 48)),
    ],
)
def test_an_input_that_is_not_what_the_manifest_says(dtype: type[np.generic], shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ModelError, match=r"images are fed as uint8 \(None, 32, 48, 3\): build it anew"):
        Preprocess(PreprocessSpec(SIZE), runtime(TensorSpec("x", np.dtype(dtype), shape)))


def test_a_network_of_any_size_takes_the_manifests() -> None:
    any_size = TensorSpec("x", np.dtype(np.uint8), (None, None, None, 3))
    assert run(Preprocess(PreprocessSpec(SIZE), runtime(any_size)), noise(9, 9)).shape == (1, *SIZE, 3)


def test_one_image_cannot_feed_two_inputs() -> None:
    with pytest.raises(ModelError, match=r"2 inputs \(x, x\)"):
        Preprocess(PreprocessSpec(SIZE), runtime(U8, U8))
