"""A decoder's own frame becomes RGB, as late as possible."""

from __future__ import annotations

from typing import cast

import av
import numpy as np
from av.video.reformatter import Interpolation

from engines.types import Image
from streamer.errors import SourceError

# swscale turns 8-bit planar YUV into RGB fast, and everything else slowly: for these the way through it is
# 7 (NV12), 4 (YUYV) and 2 times (10 bit) faster at 1080p, with the chroma that planar frames get anyway.
_FASTER_THROUGH = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "p010le": "yuv420p",
    "uyvy422": "yuv422p",
    "yuv420p10le": "yuv420p",
    "yuv422p10le": "yuv422p",
    "yuyv422": "yuv422p",
}


def to_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> Image:
    """Convert to read-only RGB (H, W, 3) upright, by the frame's own colour matrix and range. Raises SourceError.

    *size* is the (width, height) in pixels to scale to, None: as it comes. Scaling 1080p to 640 x 360 costs no more
    than converting it whole.
    The array is a view of FFmpeg's memory and keeps it alive: rows may be padded. Nothing is shared between calls, so
    any thread may convert while another decodes. One thread: more would take cores from the models. A swscale context
    kept between frames saves 2 % at 1080p and would need a lock, so there is none.
    """
    try:
        planar = _scaled(frame, size).reformat(format=_FASTER_THROUGH.get(frame.format.name), threads=1)
        image = cast("Image", planar.to_ndarray(format="rgb24", threads=1))
    except (av.FFmpegError, ValueError) as error:
        raise SourceError(f"a frame of pixel format {frame.format.name} cannot be converted to RGB: {error}") from error
    if frame.rotation:
        image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
    image.flags.writeable = False
    return image


def _scaled(frame: av.VideoFrame, size: tuple[int, int] | None) -> av.VideoFrame:
    """Scale before the colours are converted: of planar YUV that takes half the time."""
    if size is None:
        return frame
    width, height = size if round(frame.rotation / 90) % 2 == 0 else size[::-1]
    if (width, height) == (frame.width, frame.height):
        return frame
    shrinks = width <= frame.width and height <= frame.height
    method = Interpolation.AREA if shrinks else Interpolation.BILINEAR
    planar = _FASTER_THROUGH.get(frame.format.name, frame.format.name)
    return frame.reformat(width, height, planar, interpolation=method, threads=1)
