"""Pictures to H.264, as a camera would code them: in BT.709, with B-frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from engines.types import Image

_SETTINGS = {"preset": "veryfast", "crf": "17", "bf": "2", "g": "50"}


class Coder:
    """A context manager: inside, pictures are added to an MP4. The same on every machine, so in one thread."""

    def __init__(self, path: Path, size: tuple[int, int], fps: int) -> None:
        """Pictures are *size*, (width, height) in pixels, both even."""
        self._container = av.open(str(path), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=fps, options=_SETTINGS)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.thread_count = 1
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        self._step, self._count = Fraction(1, fps), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def add(self, image: Image) -> None:
        """Add the next picture, RGB (H, W, 3)."""
        rgb = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = self._count, self._step
        self._count += 1
        self._container.mux(self._stream.encode(frame))
