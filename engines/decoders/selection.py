"""Which candidates, and then which detections, are wanted: the part that all decoders share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engines.boxes import Rows, suppress
from engines.decoders import DetectOptions
from engines.decoders.numbers import check_numbers
from engines.errors import ModelError
from engines.geometry import Size
from engines.regions import inside
from engines.types import Array, Bool, Detections, Float, Geometry

_HIGHEST = 1.01  # of a score: some kernels overshoot one by a rounding


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What a network gives for one image: boxes (K, 4) xyxy in its input's pixels, scores (K,) and classes (K,)."""

    boxes: Array
    scores: Array
    classes: Array


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """The objects that are wanted of one image, in its pixels, and from which rows of the candidates they come."""

    found: Detections
    rows: Rows


def pick(given: Candidates, labels: int, options: DetectOptions, geometry: Geometry) -> Picked:
    """Select among the candidates of one image and move them into it, best first; all arrays are new.

    Boxes outside the image are left out. Raises ModelError for a box that is not finite, though it scores enough; for
    scores above one, since the network lacks the sigmoid; and for classes that have none of the *labels*.
    """
    near = _near(given, labels, options)
    check_numbers("boxes", given.boxes[near])
    kept, scores = suppress(
        given.boxes[near], given.scores[near], given.classes[near], options.suppression, options.confidence
    )
    rows = near[kept]
    placed = geometry.to_source(given.boxes[rows])
    seen = np.flatnonzero((placed[:, :2] < placed[:, 2:]).all(1))
    chosen, regions = _chosen(placed[seen], options, geometry.source_hw)
    seen, rows = seen[chosen], rows[seen[chosen]]
    found = Detections(placed[seen], given.classes[rows], np.minimum(scores[seen], 1), regions=regions)
    return Picked(found, rows)


def select(found: Detections, options: DetectOptions, size: Size) -> Detections:
    """Leave what is large enough and stands in a region, and of that as many as are wanted; they come best first.

    *size* is the image's height and width. Confidence, classes and overlaps are not looked at.
    """
    rows, regions = _chosen(found.xyxy, options, size)
    return replace(found[rows], regions=regions)


def _near(given: Candidates, labels: int, options: DetectOptions) -> Rows:
    """Find the candidates of wanted classes that score enough."""
    near = given.scores > options.confidence
    if options.classes is not None:
        near &= np.isin(given.classes, options.classes)
    rows = np.flatnonzero(near)
    best, classes = given.scores[rows].max(initial=0), given.classes[rows]
    first, last = classes.min(initial=0), classes.max(initial=0)
    if best > _HIGHEST:
        raise ModelError(
            f"a score is in 0..1, but the network gives {best:.3g}: export it with the sigmoid in the graph, or "
            "correct 'decoder' in its manifest"
        )
    if first < 0 or last >= labels:
        wrong = first if first < 0 else last
        raise ModelError(f"the network found class {wrong}, but its manifest has {labels} labels")
    return rows


def _chosen(xyxy: Float, options: DetectOptions, size: Size) -> tuple[Rows, Bool | None]:
    """Find the rows of boxes (N, 4) that `select` leaves, and in which regions these stand."""
    large = (xyxy[:, 2:] - xyxy[:, :2]).min(1) >= options.min_size
    if not options.regions:
        return np.flatnonzero(large)[: options.max_detections], None
    where = inside(options.regions, xyxy, size)
    rows = np.flatnonzero(large & where.any(1))[: options.max_detections]
    return rows, where[rows]
