"""Videos that tests make for themselves: a pattern of known colours, in any container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from engines.types import Image

QUADRANTS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))  # RGB: top left, top right, bottom left, …
TOLERANCE = 24  # what 4:2:0 chroma and lossy coding may cost, in levels


@dataclass(frozen=True)
class Clip:
    """What to write: *frames* pictures of *size* (width, height) at *fps*."""

    frames: int = 20
    size: tuple[int, int] = (128, 96)
    fps: int = 10
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=lambda: {"g": "10"})  # of the encoder
    muxer: Mapping[str, str] = field(default_factory=dict)


def pattern(index: int, size: tuple[int, int] = (128, 96)) -> Image:
    """Paint four coloured quadrants, and in the middle a grey block that grows brighter with *index*."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    for colour, (y, x) in zip(QUADRANTS, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        image[y * height // 2 : (y + 1) * height // 2 or None, x * width // 2 : (x + 1) * width // 2] = colour
    image[height // 3 : -height // 3, width // 3 : -width // 3] = grey(index)
    return image


def grey(index: int) -> int:
    return 20 + index * 8 % 200


def index_of(image: Image) -> int:
    """Read back which picture of the pattern this is (the first 25 differ)."""
    height, width = image.shape[:2]
    return round((float(image[height // 2, width // 2].mean()) - 20) / 8)


def same_colours(image: Image, rotated: int = 0) -> bool:
    """Tell whether the corners have the pattern's colours, after *rotated* quarter turns counter-clockwise."""
    upright = np.rot90(image, -rotated)
    y, x = upright.shape[0] // 6, upright.shape[1] // 6
    corners = upright[[y, y, -y, -y], [x, -x, x, -x]].astype(int)
    return bool(np.abs(corners - np.array(QUADRANTS)).max() <= TOLERANCE)


def write(path: Path, clip: Clip = Clip(), container: str | None = None, audio: bool = False) -> Path:
    """Encode *clip* into *path*; the container follows from the name unless given."""
    with av.open(str(path), "w", format=container, options=dict(clip.muxer)) as out:
        stream = cast("av.VideoStream", out.add_stream(clip.codec, rate=clip.fps, options=dict(clip.options)))
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pix_fmt
        stream.codec_context.thread_count = 1  # one slice a picture, as cameras do
        sound = out.add_stream("aac", rate=48_000) if audio else None
        out.start_encoding()  # a header, even where no frame follows
        for index in range(clip.frames):
            picture = av.VideoFrame.from_ndarray(pattern(index, clip.size), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, clip.fps)
            out.mux(stream.encode(picture))
            if sound is not None:
                out.mux(sound.encode(silence(48_000 // clip.fps)))
        out.mux(stream.encode())
        if sound is not None:
            out.mux(sound.encode())
    return path


def silence(samples: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
    frame.sample_rate = 48_000
    return frame
