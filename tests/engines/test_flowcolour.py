"""Flow as colour: directions have the wheel's hues, lengths its saturation."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.flowcolour import paint, wheel
from engines.types import Image


def colour(u: float, v: float, largest: float | None = None) -> list[int]:
    return [int(level) for level in pixels([(u, v)], largest)[0, 0]]


def pixels(vectors: list[tuple[float, float]], largest: float | None = None) -> Image:
    return paint(np.array([vectors], np.float32), largest)


def test_the_wheel_has_middleburys_colours() -> None:
    assert wheel().shape == (55, 3)
    assert wheel()[[0, 1, 15, 16, 21, 22, 25, 36, 49, 54]].tolist() == [
        [255, 0, 0],
        [255, 17, 0],
        [255, 255, 0],
        [213, 255, 0],
        [0, 255, 0],
        [0, 255, 63],
        [0, 255, 255],
        [0, 0, 255],
        [255, 0, 255],
        [255, 0, 43],
    ]


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ((1, 0), [255, 0, 0]),
        ((0, 1), [255, 229, 0]),  # between the 13th and the 14th colour
        ((-1, 0), [0, 209, 255]),
        ((0, -1), [88, 0, 255]),
    ],
)
def test_hue_is_direction(vector: tuple[float, float], expected: list[int]) -> None:
    assert colour(*vector) == pytest.approx(expected, abs=1)


def test_saturation_is_length_and_beyond_the_largest_it_is_dark() -> None:
    assert colour(0, 0) == [255, 255, 255]
    assert colour(5, 0, largest=10) == [255, 127, 127]
    assert colour(10, 0, largest=10) == [255, 0, 0]
    assert colour(11, 0, largest=10) == [191, 0, 0]


def test_by_default_the_longest_has_the_full_colour() -> None:
    assert pixels([(2, 0), (4, 0)])[0].tolist() == [[255, 127, 127], [255, 0, 0]]


def test_what_is_no_number_is_black_and_changes_nothing_else() -> None:
    painted = pixels([(np.nan, 0), (3, 0), (0, np.inf)])
    assert painted[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 0]]


def test_a_field_that_stands_still_and_one_without_pixels() -> None:
    assert (paint(np.zeros((2, 3, 2), np.float32)) == 255).all()
    assert paint(np.zeros((0, 3, 2), np.float32)).shape == (0, 3, 3)


@given(angle=st.floats(0, 2 * np.pi), turn=st.floats(0.02, 0.1))
def test_neighbours_have_similar_colours_all_round(angle: float, turn: float) -> None:
    near, far = ([np.cos(a), np.sin(a)] for a in (angle, angle + turn))
    hues = [colorsys.rgb_to_hsv(*(n / 255 for n in colour(u, v, 1.001)))[0] for u, v in (near, far)]
    apart = abs(hues[0] - hues[1])
    assert min(apart, 1 - apart) < 0.1
