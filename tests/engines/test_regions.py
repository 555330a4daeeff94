from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.regions import Region, inside
from engines.types import Float

SIZE = (100, 200)
LEFT = Region("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))


def standing(*feet: tuple[float, float]) -> Float:
    """Boxes of objects that stand there."""
    return np.array([[x - 4, y - 20, x + 4, y] for x, y in feet], np.float32).reshape(-1, 4)


def test_an_object_is_where_it_stands() -> None:
    above = Region("above", ((0, 0), (200, 0), (200, 50), (0, 50)))
    tall = standing((30, 60))  # most of it is above, its feet are not
    assert inside([above, LEFT], tall, SIZE).tolist() == [[False, True]]


def test_shares_are_of_width_and_height() -> None:
    lower_right = Region("door", ((0.75, 0.5), (1, 0.5), (1, 1), (0.75, 1)))
    feet = standing((149, 80), (151, 80), (151, 49), (199, 99))
    assert inside([lower_right], feet, SIZE)[:, 0].tolist() == [False, True, False, True]


def test_one_value_above_one_makes_all_pixels() -> None:
    tiny = Region("tiny", ((0, 0), (2, 0), (2, 1), (0, 1)))
    assert inside([tiny], standing((1, 0.5), (100, 50)), SIZE)[:, 0].tolist() == [True, False]


@pytest.mark.parametrize("foot", [(0, 50), (100, 100), (50, 0), (100, 50), (0, 0), (100, 0), (0, 100)])
def test_the_edge_is_inside_even_at_the_images_border(foot: tuple[float, float]) -> None:
    assert inside([LEFT], standing(foot), SIZE).all()


def test_a_region_may_be_hollow() -> None:
    horseshoe = Region("u", ((10, 10), (90, 10), (90, 90), (70, 90), (70, 30), (30, 30), (30, 90), (10, 90)))
    feet = standing((50, 20), (20, 80), (80, 80), (50, 80), (50, 95))
    assert inside([horseshoe], feet, SIZE)[:, 0].tolist() == [True, True, True, False, False]


def test_no_boxes_and_no_regions() -> None:
    assert inside([LEFT], standing(), SIZE).shape == (0, 1)
    assert inside([], standing((1, 1)), SIZE).shape == (1, 0)


def test_what_is_no_polygon() -> None:
    with pytest.raises(ValueError, match="region 'a' has 2 points: a polygon needs three or more"):
        Region("a", ((0, 0), (1, 1)))
    with pytest.raises(ValueError, match="region 'b' has a point that is not finite"):
        Region("b", ((0, 0), (1, 1), (np.nan, 0)))


COORDINATES = st.integers(0, 40).map(lambda n: n * 5.0)
POINTS = st.tuples(COORDINATES, COORDINATES)


@given(st.lists(POINTS, min_size=3, max_size=8), st.lists(POINTS, max_size=20))
def test_it_winds_an_odd_number_of_times(corners: list[tuple[float, float]], feet: list[tuple[float, float]]) -> None:
    """Against the definition by angles, for points that are on no edge."""
    region = Region("any", (*corners, (0.0, 300.0)))  # one that is surely in pixels
    near = [(x + 1.7, y + 2.3) for x, y in feet]
    got = inside([region], standing(*near), SIZE)[:, 0]
    points = [complex(*p) for p in region.points]
    for (x, y), found in zip(near, got.tolist(), strict=True):
        around = [p - complex(np.float32(x), np.float32(y)) for p in points]
        turns = [np.angle(b / a) for a, b in zip(around, around[1:] + around[:1], strict=True)]
        if max(np.abs(turns)) < np.pi - 1e-4:  # else it is on the edge, or as good as
            assert found == (round(sum(turns) / (2 * np.pi)) % 2 == 1)
