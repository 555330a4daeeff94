"""The segmentations of COCO annotations, polygons and run lengths, as one kind of RLE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pycocotools import mask

from engines.geometry import Size
from engines.metrics.truth import Annotation, Truth
from engines.rle import Rle, decode


def traced(truth: Truth) -> Truth:
    """Read all segmentations at once, so that what is wrong with one is known before anything is measured.

    Raises ValueError.
    """
    sizes = {picture.id: picture.size for picture in truth.pictures}
    annotations = tuple(replace(each, segmentation=outlined(each, sizes[each.picture])) for each in truth.annotations)
    return replace(truth, annotations=annotations)


def outlined(annotation: Annotation, size: Size) -> Rle:
    """Read an object's segmentation, of an image of this size: a union of polygons, or an RLE, compressed or not.

    Raises ValueError for what is none of these.
    """
    told = annotation.segmentation
    if isinstance(told, Rle):
        return told
    try:
        coded = _from_runs(told, size) if isinstance(told, Mapping) else _from_polygons(told, size)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(
            f"the segmentation of an object in image {annotation.picture} is neither polygons nor an RLE ({error})"
        ) from error
    return Rle(size, coded["counts"])


def _from_polygons(polygons: Any, size: Size) -> Any:
    if not polygons or not all(len(each) >= 6 and len(each) % 2 == 0 for each in polygons):
        raise ValueError("a polygon has three points or more, x and y of each")
    return mask.merge(mask.frPyObjects(polygons, *size))


def _from_runs(told: Mapping[str, Any], size: Size) -> Any:
    if tuple(told["size"]) != size:
        raise ValueError(f"it is for an image of {tuple(told['size'])}, but this one is {size}")
    counts = told["counts"]
    if isinstance(counts, list):
        if sum(counts) != size[0] * size[1]:
            raise ValueError(f"its runs have {sum(counts)} pixels, but the image has {size[0] * size[1]}")
        return mask.frPyObjects({"size": size, "counts": counts}, *size)
    coded = counts.encode("ascii")
    decode(Rle(size, coded))  # refuses what is not of this size, which pycocotools would read beyond
    return {"counts": coded}
