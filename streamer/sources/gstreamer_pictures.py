"""From GStreamer's samples to frames: their times, their layout, and how many there should have been."""

from __future__ import annotations

from functools import partial
from typing import Any

from streamer.clock import Clock
from streamer.sources.capture_time import CaptureClock, unix_of_ntp
from streamer.sources.gstreamer_frame import Layout, layout_of, to_rgb
from streamer.sources.gstreamer_library import gstreamer
from streamer.sources.gstreamer_stream import Stream
from streamer.sources.mediatime import MediaTime
from streamer.types import RawFrame

_USUAL_FPS = 25
_TOLERANCE = 1.0  # seconds by which a header may overstate a healthy recording


class Pictures:
    """Place the samples of one reading in time."""

    def __init__(self, clock: Clock, capture: CaptureClock | None, size: tuple[int, int] | None) -> None:
        """Take *capture*, the clock of a live camera; None: it is a recording. *size* is what to scale to."""
        self._clock, self._capture, self._size = clock, capture, size
        self._ntp = gstreamer().Gst.Caps.new_empty_simple("timestamp/x-ntp")
        self._caps: Any = None
        self._layout: Layout | None = None
        self._step = 1 / _USUAL_FPS
        self._time = MediaTime(self._step)
        self._zero: float | None = None  # this machine's monotonic clock when the stream's was 0
        self._end = 0.0
        self.count = 0

    def place(self, sample: Any, stream: Stream, changed: bool) -> RawFrame:
        """Make a frame of *sample*, whose pixels nobody has looked at yet; *changed*: another stream begins with it."""
        buffer, before = sample.get_buffer(), self._layout
        layout = self._read(sample.get_caps(), stream)
        changed |= before is not None and before.size != layout.size
        pts, breaks = self._time.place(self._stamp(sample, buffer))
        self.count, self._end = self.count + 1, pts + self._step
        captured_at = self._captured_at(buffer)
        if stream.family is not None and stream.family.pooled:
            buffer = buffer.copy_deep()
        return RawFrame(pts, partial(to_rgb, buffer, layout, self._size), captured_at, breaks=breaks or changed)

    def short(self, stream: Stream) -> int:
        """Return how many pictures are missing at the end of a recording, by the time that its header promises."""
        promised = stream.duration()
        seconds = 0.0 if promised is None else promised - self._end
        return round(seconds / self._step) if seconds > _TOLERANCE else 0

    def _read(self, caps: Any, stream: Stream) -> Layout:
        """Learn what the pictures are like from here on."""
        if self._layout is not None and caps.is_equal(self._caps):
            return self._layout
        known, above, below = caps.get_structure(0).get_fraction("framerate")
        if known and above:
            self._step = below / above
        if self._layout is None:
            self._time = MediaTime(self._step, None if self._capture else 0.0)
        self._caps, self._layout = caps, layout_of(caps, stream.orientation(), stream.names_colours())
        return self._layout

    def _stamp(self, sample: Any, buffer: Any) -> float | None:
        """Return seconds of running time, or in a recording of its own; a live picture without gets its arrival."""
        gst, segment = gstreamer().Gst, sample.get_segment()
        place = segment.to_running_time if self._capture else segment.to_stream_time
        none = gst.CLOCK_TIME_NONE
        nanoseconds = none if buffer.pts == none else place(gst.Format.TIME, buffer.pts)
        stamp = None if nanoseconds == none else nanoseconds / 1e9
        if self._capture is None:
            return stamp
        now = self._clock.monotonic_ns() / 1e9
        if self._zero is None:
            self._zero = now - (stamp or 0.0)
        return now - self._zero if stamp is None else stamp

    def _captured_at(self, buffer: Any) -> float | None:
        """Return what the camera's RTCP sender report says, which the jitter buffer has put to the picture."""
        if self._capture is None:
            return None
        meta = buffer.get_reference_timestamp_meta(self._ntp)
        return self._capture.captured_at(None if meta is None else unix_of_ntp(meta.timestamp / 1e9))
