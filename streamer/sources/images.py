"""A folder or pattern of pictures, played as a recording."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from engines.types import Image
from streamer.errors import SourceError, SourceUnusable
from streamer.events import FrameLost, Observer
from streamer.sources import IMAGE_SUFFIXES
from streamer.sources.address import Address, SourceOptions
from streamer.types import RawFrame

_USUAL_FPS = 10.0


def from_address(camera: str, address: Address, options: SourceOptions, observer: Observer) -> ImagesSource:
    """Play a folder, a pattern or one picture, at `?fps=` frames of media time a second."""
    return ImagesSource(camera, address.target, address.settings.get("fps", _USUAL_FPS), bool(options.live), observer)


@dataclass(frozen=True, slots=True)
class ImagesSource:
    """Every picture that *pattern* (a folder, a glob, a file) means when it is opened, img2 before img10."""

    camera: str
    pattern: str
    fps: float
    live: bool
    observer: Observer

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        """List the pictures; each is read only when its pixels are asked for. Raises SourceUnusable."""
        paths = self._paths()
        if not paths:
            hint = f"give a folder or pattern of {_known()}, and videos one by one, such as {self.pattern}/*.mp4"
            raise SourceUnusable(f"{self.pattern} holds no images; {hint}")
        yield (RawFrame(index / self.fps, partial(self._read, path)) for index, path in enumerate(paths))

    def _paths(self) -> Sequence[Path]:
        place = Path(self.pattern)
        try:
            found = list(place.iterdir()) if place.is_dir() else self._matches(place)
        except OSError as error:
            raise SourceUnusable(f"{place} cannot be listed: {error.strerror}; check its permissions") from error
        return sorted((p for p in found if p.suffix.lower() in IMAGE_SUFFIXES), key=natural)

    def _matches(self, place: Path) -> list[Path]:
        if place.exists():  # a name may hold the characters of a pattern
            return [place]
        return [Path(name) for name in glob.glob(self.pattern, recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern

    def _read(self, path: Path) -> Image:
        try:
            return read(path)
        except SourceError as error:
            self.observer(FrameLost(self.camera, str(error)))
            raise


def read(path: Path) -> Image:
    """Read a picture as RGB (H, W, 3), turned upright by its EXIF orientation. Raises SourceError."""
    try:
        coded = np.fromfile(path, np.uint8)
        bgr = cv2.imdecode(coded, cv2.IMREAD_COLOR) if coded.size else None
    except (OSError, cv2.error) as error:
        reason = error.strerror if isinstance(error, OSError) else "OpenCV refuses it"
        raise SourceError(f"{path} cannot be read: {reason}; copy it again") from error
    if bgr is None:
        raise SourceError(f"{path} is damaged or not an image; copy it again, or take it away")
    image = cast("Image", cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
    image.flags.writeable = False
    return image


def natural(path: Path) -> tuple[tuple[int, str] | tuple[int, int], ...]:
    """Make the key that sorts names as people do: numbers by value."""
    parts = re.split(r"([0-9]+)", str(path).lower())
    return tuple((1, int(part)) if index % 2 else (0, part) for index, part in enumerate(parts))


def _known() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
