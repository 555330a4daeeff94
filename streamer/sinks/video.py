"""Annotated video: H.264 in MP4, with the frames' own times.

The file is written in fragments and becomes an ordinary MP4 when it is closed (FFmpeg's hybrid_fragmented): browsers
open and seek it, and after a crash or on a full disk it plays up to the last whole fragment. An encoder cannot be woken
up where it died, so a resumed run goes on in another file: see `next_part`.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from io import FileIO
from itertools import count
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import Colorspace

from engines.types import Image
from streamer.draw import Annotator
from streamer.errors import SinkError
from streamer.sinks.files import Existing, claim, disk_fault, write_all
from streamer.types import Packet
from streamer.wire import FlowStyle, NodeFacts

_TICKS = 90_000  # a second: MPEG's clock
_CONTAINER = {"movflags": "+hybrid_fragmented"}
# No B-frames: they would delay the first frame, and fragments have no edit list to say so. A key frame every 60 frames
# bounds what a crash costs, and how far a player has to go back to seek.
_ENCODER = {"preset": "veryfast", "crf": "23", "bf": "0", "g": "60"}


class VideoSink:
    """Draw what was found in one camera's packets, and encode."""

    def __init__(
        self,
        path: Path,
        camera: str,
        facts: Mapping[str, NodeFacts],
        *,
        existing: Existing = "refuse",
        flow: FlowStyle = "wheel",
    ) -> None:
        """*facts* say which nodes are drawn, and what is known of them; "append" goes on in the next part.

        Raises SinkUnusable when the file cannot be ours.
        """
        self._path = next_part(path) if existing == "append" else path
        self.name = f"video:{self._path.name}"
        self._camera, self._draw = camera, Annotator(facts, flow)
        self._output = _Output(claim(self._path, "replace" if existing == "replace" else "refuse"))
        self._encoder: _Encoder | None = None
        self._fault: SinkError | None = None
        self._pace = Pace()

    def publish(self, packets: Sequence[Packet]) -> None:
        """Encode. After a SinkError the file has ended, and every later call raises it again."""
        for packet in packets:
            if packet.frame.camera != self._camera:
                continue
            if self._fault is not None:
                raise self._fault
            image = self._annotate(packet)
            with self._one_sentence():
                self._encoder = self._encoder or _Encoder(self._output, _even(image.shape[1]), _even(image.shape[0]))
                self._encoder.add(image, packet.frame.pts)

    def forget(self, camera: str) -> None:
        """Draw nothing from before the break, such as tails, over what comes after it."""
        if camera == self._camera:
            self._draw.forget()

    def close(self) -> None:
        """Finish the file; one without a frame is removed. May be called again."""
        if self._output.file.closed:
            return
        with self._output.file:
            if self._encoder is None:
                self._path.unlink(missing_ok=True)
            elif self._fault is None:
                with self._one_sentence():
                    self._encoder.close()

    def _annotate(self, packet: Packet) -> Image:
        minutes, seconds = divmod(packet.frame.pts, 60)
        caption = f"{packet.frame.camera}  {minutes:.0f}:{seconds:04.1f}{self._pace(packet)}"
        return self._draw(packet, caption)

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Translate what disk and encoder raise, and leave the file as it was before."""
        try:
            yield
        except OSError as error:
            self._fault = disk_fault(self._path, error)
        except av.error.FFmpegError as error:
            self._fault = SinkError(f"{self._path} cannot be encoded any further: {error.strerror}")
        if self._fault is not None:
            self._output.end()
            raise self._fault


def next_part(path: Path) -> Path:
    """Name the file in which a resumed run goes on after *path*: ``NAME.part2.mp4``, ``NAME.part3.mp4``, …"""
    if not path.exists():
        return path
    parts = (path.with_suffix(f".part{number}{path.suffix}") for number in count(2))
    return next(part for part in parts if not part.exists())


class Pace:
    """Frames a second over the last packets, by the clock of the pipeline."""

    def __init__(self, window: int = 64) -> None:
        self._marks: deque[int] = deque(maxlen=window)

    def __call__(self, packet: Packet) -> str:
        if packet.marked_ns is not None:
            self._marks.append(packet.marked_ns)
        span = self._marks[-1] - self._marks[0] if self._marks else 0
        return f"  {(len(self._marks) - 1) * 1e9 / span:.0f} FPS" if span > 0 else ""


class Timeline:
    """Media time in ticks from 0 that always grow, whatever the camera's clock does."""

    def __init__(self, step: int = _TICKS // 25) -> None:
        self.step = step  # ticks that the newest frame took over the one before
        self._last: int | None = None
        self._offset = 0

    def __call__(self, pts: float) -> int:
        """Keep every distance; one that is not positive (the stream began anew) becomes that of the frames before."""
        raw = round(pts * _TICKS)
        if self._last is None:
            self._offset = -raw
        elif raw + self._offset <= self._last:
            self._offset = self._last + self.step - raw
        ticks = raw + self._offset
        self.step = self.step if self._last is None else ticks - self._last
        self._last = ticks
        return ticks


class _Output:
    """The file as FFmpeg sees it. After a fault it swallows what is written.

    Else closing the container would turn fragments that play into an ordinary MP4 that lacks its index.
    """

    def __init__(self, file: FileIO) -> None:
        self.file = file
        self._ended = False

    def write(self, data: bytes) -> int:
        if not self._ended:
            try:
                write_all(self.file, data)
            except OSError:
                self._ended = True  # at once: FFmpeg may write more before it reports this
                raise
        return len(data)

    def end(self) -> None:
        """Take no more, and cut off a fragment that did not get all its data."""
        self._ended = True
        self.file.truncate(_whole(self.file))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _whole(file: FileIO) -> int:
    """Walk the boxes of an MP4 to the end of its last whole data: each begins with its size and kind, 4 bytes each."""
    size, at, whole = os.fstat(file.fileno()).st_size, 0, 0
    while at + 8 <= size:
        length, kind = struct.unpack(">I4s", os.pread(file.fileno(), 8, at))
        at += max(length, 8)
        if kind in (b"moov", b"mdat") and at <= size:
            whole = at
    return whole


class _Encoder:
    """One H.264 stream in one MP4, of one size."""

    def __init__(self, output: _Output, width: int, height: int) -> None:
        self._container = av.open(output, "w", format="mp4", options=_CONTAINER)
        self._stream = self._container.add_stream("libx264", rate=30, options=_ENCODER)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream.codec_context.colorspace = Colorspace.ITU601  # what the conversion from RGB makes; players guess
        self._timeline = Timeline()

    def add(self, image: Image, pts: float) -> None:
        fitted = fit(image, self._stream.width, self._stream.height)
        frame = av.VideoFrame.from_ndarray(fitted, format="rgb24")
        frame.pts, frame.time_base = self._timeline(pts), Fraction(1, _TICKS)
        self._mux(frame)

    def close(self) -> None:
        self._mux(None)
        self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            packet.duration = self._timeline.step  # counts only for the last frame, which no other follows
            self._container.mux(packet)


def fit(image: Image, width: int, height: int) -> Image:
    """Bring an image to the size of the video: repeat its last row and column; letterbox where that is too little."""
    rows, columns = height - image.shape[0], width - image.shape[1]
    if not rows and not columns:
        return image
    if rows in (0, 1) and columns in (0, 1):
        return _pad(image, (0, rows, 0, columns), cv2.BORDER_REPLICATE)
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    rows, columns = height - inner[1], width - inner[0]
    return _pad(
        np.asarray(small, np.uint8),
        (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2),
        cv2.BORDER_CONSTANT,
    )


def _pad(image: Image, sides: tuple[int, int, int, int], border: int) -> Image:
    return np.asarray(cv2.copyMakeBorder(image, *sides, border), np.uint8)


def _even(length: int) -> int:
    """Round up: H.264's colour planes are half as large as the image."""
    return length + length % 2
