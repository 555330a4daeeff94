"""The truth that a model is measured against: found, read, and checked against its images before a model is opened."""

from __future__ import annotations

import argparse
from pathlib import Path

from engines.manifest import Manifest
from engines.metrics.classes import Matching, match, some
from engines.metrics.truth import Picture, Truth
from engines.types import Image
from streamer.cli.console import note
from streamer.errors import InputError, SourceError
from streamer.sources.images import read


def read_truth(args: argparse.Namespace) -> Truth:
    """Read the annotations, of the first images where so many are asked for. Raises InputError."""
    if args.coco is None or args.images is None:
        raise InputError("there is nothing to measure against: give --coco annotations.json and --images DIR")
    try:
        truth = Truth.parse(args.coco.read_bytes())
    except OSError as error:
        raise InputError(f"{args.coco} cannot be read ({error.strerror}): give --coco a file of annotations") from error
    except ValueError as error:
        raise InputError(
            f"{args.coco} holds no COCO annotations of objects ({error}): correct it, or give another"
        ) from error
    truth = truth if args.limit is None else truth.first(args.limit)
    if all(each.crowd for each in truth.annotations):
        where = f"the first {len(truth.pictures)} images of {args.coco}" if args.limit else str(args.coco)
        raise InputError(f"no object is annotated in {where}, so nothing can be measured: give annotations of some")
    return truth


def check_images(truth: Truth, folder: Path) -> None:
    """Look whether all images are there. Raises InputError, which tells how many are not, and one of them."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give --images the one that the annotations' images are in")
    missing = [picture.file_name for picture in truth.pictures if not (folder / picture.file_name).is_file()]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(truth.pictures)} images are not in {folder}, the first of them {missing[0]}: give "
            "--images the folder that the annotations' file names start from"
        )


def match_classes(manifest: Manifest, truth: Truth, path: Path) -> Matching:
    """Match labels and categories by name, and say which have none. Raises InputError when no two match."""
    try:
        matching = match(manifest.labels, truth.categories)
    except ValueError as error:
        raise InputError(
            f"{manifest.name} cannot be measured on {path}: {error}; both must name at least one class alike"
        ) from error
    if matching.foreign:
        note(f"not in {path}, so left out of what {manifest.name} finds: {some(matching.foreign)}")
    true = {each.category for each in truth.annotations}
    lacking = [name for name in matching.unknown if name in {truth.categories[category] for category in true}]
    if lacking:
        note(f"{manifest.name} has no label for {some(lacking)}, which counts as never found")
    return matching


def read_image(picture: Picture, folder: Path) -> Image:
    """Read an image (H, W, 3) RGB. Raises InputError when it is damaged, or not the one that was annotated."""
    path = folder / picture.file_name
    try:
        image = read(path)
    except SourceError as error:
        raise InputError(str(error)) from error
    height, width = picture.size
    if image.shape[:2] != picture.size:
        raise InputError(
            f"{path} is {image.shape[1]} x {image.shape[0]}, but its annotations are for {width} x {height}: give "
            "--images the pictures that were annotated"
        )
    return image
