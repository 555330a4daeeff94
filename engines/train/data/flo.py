"""A user's own flow: pairs of images with their motion in files, as Flying Chairs and Sintel name them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.flowfiles import read_flow
from engines.train.data.pairs import FlowPair
from engines.train.errors import TrainingError
from engines.types import Image

_SUFFIXES = (".png", ".ppm", ".jpg", ".jpeg", ".webp", ".bmp")
_LAYOUTS = "00001_img1.ppm, 00001_img2.ppm and 00001_flow.flo, or frame_0001.png, frame_0002.png and frame_0001.flo"


@dataclass(frozen=True, slots=True)
class Triple:
    """Files of two images, and of the motion from the earlier to the later one."""

    before: Path
    after: Path
    flow: Path


def find_triples(folder: Path) -> list[Triple]:
    """Find what belongs together in a folder and those below it. Raises TrainingError where something is missing."""
    triples = [_triple(flow) for flow in sorted(folder.rglob("*.flo"))]
    if not triples:
        raise TrainingError(f"{folder} holds no .flo files: give a folder with {_LAYOUTS}")
    return triples


def read_triple(triple: Triple) -> FlowPair:
    """Read the files. Raises TrainingError for sizes that differ, or a damaged image, ModelError for damaged flow."""
    before, after, field = _image(triple.before), _image(triple.after), read_flow(triple.flow)
    if not before.shape == after.shape == (*field.known.shape, 3):
        raise TrainingError(f"{triple.flow} and its two images differ in size: take out what does not go together")
    return FlowPair(before, after, field.uv, field.known)


def _triple(flow: Path) -> Triple:
    names = list(_names(flow.stem))
    for before, after in names:
        found = [_picture(flow.parent, name) for name in (before, after)]
        if found[0] is not None and found[1] is not None:
            return Triple(found[0], found[1], flow)
    told = " nor ".join(" and ".join(each) for each in names) or "frames: its name has no number"
    raise TrainingError(f"{flow} has no {told} beside it: name the files as in {_LAYOUTS}")


def _names(stem: str) -> Iterator[tuple[str, str]]:
    """Say how the images of a flow may be named."""
    if stem.endswith("_flow"):
        stem = stem.removesuffix("_flow")
        yield f"{stem}_img1", f"{stem}_img2"
    digits = len(stem) - len(stem.rstrip("0123456789"))
    if digits:
        yield stem, f"{stem[:-digits]}{int(stem[-digits:]) + 1:0{digits}d}"


def _picture(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in _SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _image(path: Path) -> Image:
    found = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if found is None:
        raise TrainingError(f"{path} is no image, or a damaged one: replace it, or take out its pair")
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)
