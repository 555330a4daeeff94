"""What is true of a set of images, as COCO annotations say it, and what a model found in them.

The format: Lin et al. 2014, "Microsoft COCO: Common Objects in Context", https://arxiv.org/abs/1405.0312,
https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, FiniteFloat, PositiveInt, ValidationError

from engines.geometry import Size
from engines.rle import Rle
from engines.types import Detections, Int


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a data set."""

    id: int
    file_name: str  # may lie in folders of its own
    size: Size


@dataclass(frozen=True, slots=True)
class Annotation:
    """One true object."""

    picture: int
    category: int
    xywh: tuple[float, float, float, float]  # corner and size, in pixels of the image
    area: float  # in pixels: of the mask, where there is one
    crowd: bool = False  # a region of many: whatever is found in it is neither right nor wrong
    difficult: bool = False  # VOC: to miss it or to find it is neither right nor wrong
    segmentation: Any = None  # polygons, or an RLE; `engines.metrics.outlines` reads it


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in one image: classes are categories of the data set, and masks are of the whole image."""

    objects: Detections
    masks: tuple[Rle, ...] | None = None

    def __post_init__(self) -> None:
        if self.masks is not None and len(self.masks) != len(self.objects):
            raise ValueError(f"masks: expected {len(self.objects)}, got {len(self.masks)}")


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Images by id, the categories that they were searched for, and all objects of these."""

    pictures: tuple[Picture, ...]
    categories: Mapping[int, str]  # id -> name
    annotations: tuple[Annotation, ...]

    @classmethod
    def parse(cls, text: bytes) -> Truth:
        """Read the JSON of COCO annotations; objects of images that are not listed are left out, as pycocotools does.

        Raises ValueError, which says where the first fault is.
        """
        try:
            return _built(_File.model_validate_json(text))
        except ValidationError as error:
            raise ValueError(_first(error)) from None

    @classmethod
    def of(cls, images: Sequence[Detections]) -> Truth:
        """Take detections for the truth: image by image, numbered from nought."""
        pictures = tuple(Picture(i, str(i), (0, 0)) for i in range(len(images)))
        annotations = tuple(a for picture, each in zip(pictures, images, strict=True) for a in _objects(picture, each))
        return cls(pictures, {a.category: str(a.category) for a in annotations}, annotations)

    def first(self, count: int) -> Truth:
        """Keep the first images, and what is in them."""
        pictures = self.pictures[:count]
        ids = {picture.id for picture in pictures}
        return replace(self, pictures=pictures, annotations=tuple(a for a in self.annotations if a.picture in ids))

    def by_category(self) -> dict[int, list[Annotation]]:
        """List the objects of each category that has any."""
        grouped: dict[int, list[Annotation]] = defaultdict(list)
        for each in self.annotations:
            grouped[each.category].append(each)
        return dict(grouped)


def rows_by_category(truth: Truth, found: Mapping[int, Found]) -> dict[int, list[tuple[int, Int]]]:
    """Say in which of the truth's images a category was found, in the order of their ids, and in which rows of each."""
    rows: dict[int, list[tuple[int, Int]]] = defaultdict(list)
    for image in (picture.id for picture in truth.pictures if picture.id in found):
        classes = found[image].objects.class_id
        for category in np.unique(classes).tolist():
            rows[category].append((image, np.flatnonzero(classes == category).astype(np.int32)))
    return dict(rows)


def _objects(picture: Picture, objects: Detections) -> Iterable[Annotation]:
    xywh = xywh_of(objects)
    for box, category in zip(xywh.tolist(), objects.class_id.tolist(), strict=True):
        yield Annotation(picture.id, category, tuple(box), box[2] * box[3])


def xywh_of(objects: Detections) -> npt.NDArray[np.float64]:
    """Turn boxes into corner and size (N, 4), in double precision, as COCO's own evaluation has them."""
    corners = objects.xyxy.astype(np.float64)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


# --- the file ---


class _Image(BaseModel):
    id: int
    file_name: Annotated[str, Field(min_length=1)]
    height: PositiveInt
    width: PositiveInt


class _Category(BaseModel):
    id: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    name: str


class _Annotation(BaseModel):
    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
    area: FiniteFloat | None = None
    iscrowd: bool = False
    ignore: bool = False  # what converters make of VOC's "difficult"
    difficult: bool = False
    segmentation: Any = None

    def made(self) -> Annotation:
        _, _, width, height = self.bbox
        area = width * height if self.area is None else self.area
        difficult = self.difficult or self.ignore
        return Annotation(
            self.image_id, self.category_id, self.bbox, area, self.iscrowd, difficult, self.segmentation or None
        )


class _File(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def _built(file: _File) -> Truth:
    pictures = [Picture(each.id, each.file_name, (each.height, each.width)) for each in file.images]
    categories = {each.id: each.name for each in file.categories}
    _refuse_twins("images", [picture.id for picture in pictures])
    _refuse_twins("categories", [each.id for each in file.categories])
    for i, each in enumerate(file.annotations):
        if each.category_id not in categories:
            raise ValueError(f"annotations.{i} is of category {each.category_id}, which is not among its categories")
    ids = {picture.id for picture in pictures}
    annotations = tuple(each.made() for each in file.annotations if each.image_id in ids)
    return Truth(tuple(sorted(pictures, key=lambda picture: picture.id)), categories, annotations)


def _refuse_twins(what: str, ids: Sequence[int]) -> None:
    seen: set[int] = set()
    for each in ids:
        if each in seen:
            raise ValueError(f"two of its {what} have the id {each}")
        seen.add(each)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    what = first["msg"][0].lower() + first["msg"][1:]
    return f"{where}: {what}" if where else what
