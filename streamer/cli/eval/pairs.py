"""Pairs of frames and the true flow between them: found, and looked for in full, before a model is opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engines.errors import ModelError
from engines.flowfiles import FlowField, read_flow
from engines.types import Image
from streamer.cli.eval.tables import rows
from streamer.errors import InputError, SourceError
from streamer.sources import IMAGE_SUFFIXES
from streamer.sources.images import natural, read

_TRUTHS = (".flo", "_flow.npz")  # behind the name of the earlier frame, or instead of its suffix
_KITTI_IMAGES = ("image_2", "colored_0", "image_0")  # of 2015, and of 2012
_NUMBER = re.compile(r"\d+(?=\D*$)")
_SMALLEST = 16  # pixels a side: less has no motion that could be found
_LAYOUTS = (
    "frame_0010.png, frame_0011.png and frame_0010.flo or frame_0010_flow.npz side by side, Sintel's training/clean or "
    "training/final, KITTI's training, or a .csv"
)


@dataclass(frozen=True, slots=True)
class Case:
    """Two frames and the true motion from the earlier to the later one."""

    before: Path
    after: Path
    truth: Path


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What a case holds; all of one size."""

    before: Image
    after: Image
    truth: FlowField


def find_cases(path: Path | None, limit: int | None) -> list[Case]:
    """Find the pairs that there is a truth for, the first *limit* of them. Raises InputError."""
    if path is None:
        raise InputError("there is nothing to measure against: give --flow DIR with frames and the true flow")
    cases = _in_list(path) if path.suffix.lower() == ".csv" else _in_folder(path)
    missing = [file for case in cases for file in (case.before, case.after, case.truth) if not file.is_file()]
    if missing:
        raise InputError(f"{len(missing)} files of {len(cases)} pairs are missing, the first of them {missing[0]}")
    return cases[:limit]


def load(case: Case) -> Loaded:
    """Read a case. Raises InputError for damaged files, and for sizes that differ."""
    try:
        before, after, truth = read(case.before), read(case.after), read_flow(case.truth)
    except (SourceError, ModelError) as error:
        raise InputError(str(error)) from error
    sizes = [each.shape[:2] for each in (before, after, truth.known)]
    if len(set(sizes)) > 1:
        told = ", ".join(f"{width} x {height}" for height, width in sizes)
        raise InputError(f"{case.before}, the frame after it and their flow are {told}: give those that go together")
    if min(sizes[0]) < _SMALLEST:
        raise InputError(f"{case.before} is {told_size(sizes[0])}: give frames of {_SMALLEST} x {_SMALLEST} or more")
    return Loaded(before, after, truth)


def told_size(size: tuple[int, ...]) -> str:
    """Write a size (height, width) as people do."""
    return f"{size[1]} x {size[0]}"


def _in_list(path: Path) -> list[Case]:
    cases = [Case(*(path.parent / word for word in words)) for words in rows(path, ("before", "after", "truth"))]
    if not cases:
        raise InputError(f"{path} lists no pairs: write before,after,truth in each line")
    return cases


def _in_folder(folder: Path) -> list[Case]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give --flow one with {_LAYOUTS}")
    cases = list(_kitti(folder)) or list(_beside(folder, folder)) or list(_beside(folder.parent / "flow", folder))
    if not cases:
        raise InputError(f"{folder} holds no true flow: give --flow a folder with {_LAYOUTS}")
    return cases


def _kitti(folder: Path) -> Iterator[Case]:
    """Find 000000_10.png of flow_occ in a folder of images of the same name, and 000000_11.png there."""
    images = next((folder / name for name in _KITTI_IMAGES if (folder / name).is_dir()), folder)
    for truth in sorted((folder / "flow_occ").glob("*_10.png")):
        yield Case(images / truth.name, images / truth.name.replace("_10.png", "_11.png"), truth)


def _beside(truths: Path, frames: Path) -> Iterator[Case]:
    """Find the frames that belong to all true flow in a folder: of the same place in *frames*, by name and number."""
    found = [(path, end) for end in _TRUTHS for path in truths.rglob(f"*{end}")]
    for truth, end in sorted(found, key=lambda each: natural(each[0])):
        before = _picture(frames / truth.relative_to(truths).parent, truth.name.removesuffix(end))
        yield Case(before, before.with_name(_next(before.stem) + before.suffix), truth)


def _picture(folder: Path, stem: str) -> Path:
    """Find a picture whatever its suffix. Raises InputError."""
    found = [folder / f"{stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
    there = next((path for path in found if path.is_file()), None)
    if there is None:
        raise InputError(f"there is true flow for {folder / stem}, but no such picture: give --flow {_LAYOUTS}")
    return there


def _next(stem: str) -> str:
    """Count a frame's name up: its last number. Raises InputError for a name without any."""
    if not _NUMBER.search(stem):
        raise InputError(f"the frame {stem} has no number, so it cannot be said which is next: list pairs in a .csv")
    return _NUMBER.sub(lambda number: str(int(number[0]) + 1).zfill(len(number[0])), stem)
