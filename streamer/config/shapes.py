"""Points, lines and polygons as users write them."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat

_LEAST_AREA = 4.0  # square pixels of a polygon that somebody means

Point = tuple[FiniteFloat, FiniteFloat]


def _check_units(points: tuple[Point, ...]) -> float:
    """Refuse points outside the image, and shares among pixels; return the largest value. Raises ValueError."""
    values = [*chain(*points)]
    if (least := min(values)) < 0:
        raise ValueError(f"{least:g} lies outside the image; x and y count from its upper left corner")
    share = next((value for value in values if 0 < value < 1), None)
    most = max(values)
    if share is not None and most > 1:
        raise ValueError(f"{share:g} is a share of the image and {most:g} a pixel; write all values as one of the two")
    return most


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Refuse a polygon that nobody can mean: raises ValueError."""
    if len(points) < 3:
        raise ValueError(f"a polygon has three points or more, not {len(points)}")
    most = _check_units(points)
    area = _area(points)
    if not area:
        raise ValueError("has no area; list the points in the order in which the outline meets them")
    if most > 1 and area < _LEAST_AREA:
        raise ValueError(f"{most:g} is more than 1 and so all values are pixels, of which this covers {area:g}")
    return points


def _segment(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """Refuse a line that nobody can mean: raises ValueError."""
    if len(points) != 2:
        raise ValueError(f"a line has two points, not {len(points)}; write one line for each part of a longer one")
    _check_units(points)
    if points[0] == points[1]:
        raise ValueError("begins where it ends; give two different points")
    return points


def _area(points: tuple[Point, ...]) -> float:
    """Measure a polygon by the shoelace formula."""
    x, y = np.array(points, np.float64).T
    return round(abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2, 9)


def lies_outside(points: tuple[Point, ...], size: tuple[int, int]) -> bool:
    """Tell whether nothing of a shape can be in an image of *size* (width, height)."""
    x, y = np.array(points, np.float64).T
    return max(x.max(), y.max()) > 1 and bool(x.min() >= size[0] or y.min() >= size[1])


Polygon = Annotated[tuple[Point, ...], AfterValidator(_polygon)]
Segment = Annotated[tuple[Point, ...], AfterValidator(_segment)]
Name = Annotated[str, Field(min_length=1)]
