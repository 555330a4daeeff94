"""One run of one GStreamer pipeline: started, listened to, and ended without a thread or a file left behind."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.sources.address import Address, SourceOptions
from streamer.sources.gstreamer_faults import Trouble
from streamer.sources.gstreamer_junction import Branch, Junction
from streamer.sources.gstreamer_library import gstreamer
from streamer.sources.gstreamer_plan import Family, head

log = logging.getLogger(__name__)

_SLICE = 0.1  # seconds without a picture after which the bus is asked what is wrong


class Failure(Exception):  # noqa: N818 - translated before anybody sees it
    """An element gave up. *decoding*: it is of the part that decodes."""

    def __init__(self, trouble: Trouble, decoding: bool) -> None:
        super().__init__(trouble.reason)
        self.trouble, self.decoding = trouble, decoding


class Silence(Exception):  # noqa: N818 - translated before anybody sees it
    """Nothing came in time."""


class Stream:
    """A pipeline that ends in an appsink named out, at once or, by a *junction*, once the stream is known."""

    def __init__(self, pipeline: Any, junction: Junction | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self._pipeline, self._junction, self._clock = pipeline, junction, clock
        self._bus = pipeline.get_bus()
        self._out = pipeline.get_by_name("out")
        self._pending: Failure | None = None

    @property
    def family(self) -> Family | None:
        """What decodes; None where that is the user's affair, or unknown as yet."""
        return self._branch.tail.family if self._branch else None

    @property
    def owed(self) -> int:
        """Count the pictures that should have come by now, but for those inside; 0 where that cannot be known."""
        return self._junction.owed if self._junction else 0

    @property
    def fed(self) -> int:
        """Count the compressed pictures that have reached the decoder; 0 where decoding is the user's affair."""
        return self._branch.fed if self._branch else 0

    def lacks_video(self) -> bool:
        """Tell whether there are streams, and none of them is video."""
        return self._junction is not None and self._branch is None and self._junction.streams > 0

    def connect(self, timeout: float) -> None:
        """Start, and wait until the stream is known. Raises Failure, or Silence after *timeout* seconds."""
        gst = gstreamer().Gst
        self._pipeline.set_state(gst.State.PLAYING)
        if self._junction is None:
            return
        kinds = gst.MessageType.ERROR | gst.MessageType.EOS | gst.MessageType.APPLICATION
        message = self._bus.timed_pop_filtered(round(timeout * 1e9), kinds)
        if message is None:
            raise Silence
        if message.type == gst.MessageType.ERROR:
            self._pending = self._failure(message)
            if not self._pending.decoding and not self.lacks_video():
                raise self._pending
        self._out = self._branch.out if self._branch else None

    def pull(self, timeout: float) -> tuple[Any, bool] | None:
        """Return the next sample, and whether it begins another stream; None at the end.

        Raises Failure, or Silence after *timeout* seconds.
        """
        deadline = self._clock.monotonic_ns() + timeout * 1e9
        follows = True
        while self._out is not None:
            self._listen()
            left = deadline - self._clock.monotonic_ns()
            sample = self._out.try_pull_sample(round(max(0, min(_SLICE * 1e9, left))))
            if sample is not None:
                return sample, not follows
            if self._out.props.eos:
                self._listen()  # what ended it may have come in between
                if not self._advance():
                    return None
                follows = False
            elif left <= 0:
                raise Silence
        return None

    def names_colours(self) -> bool:
        """Tell whether what the pictures' caps say of colours is the stream's word; hardware's may be a guess."""
        if self._branch is None or not self._branch.tail.family.hardware:
            return True
        caps = self._branch.pad.get_current_caps()
        return caps is not None and bool(caps.get_structure(0).has_field("colorimetry"))

    def orientation(self) -> str:
        """Return how the stream wants to be turned, in GStreamer's words, or an empty string."""
        gst, pad, index = gstreamer().Gst, self._out.get_static_pad("sink"), 0
        while event := pad.get_sticky_event(gst.EventType.TAG, index):
            found, value = event.parse_tag().get_string(gst.TAG_IMAGE_ORIENTATION)
            if found:
                return str(value)
            index += 1
        return ""

    def duration(self) -> float | None:
        """Return the seconds that the container promises, if it does and video is all that it holds."""
        if self._junction is None or self._junction.streams != 1:
            return None
        known, nanoseconds = self._pipeline.query_duration(gstreamer().Gst.Format.TIME)
        return nanoseconds / 1e9 if known else None

    def close(self) -> None:
        """End every thread of the pipeline and let go of it."""
        self._unblock()
        self._pipeline.set_state(gstreamer().Gst.State.NULL)
        self._bus.set_flushing(True)
        if self._junction:
            self._junction.close()
        self._out = self._junction = None

    def _unblock(self) -> None:
        """Let go whoever waits for room in an appsink: it holds a lock that a change of state under way waits for.

        And the end would wait for that change, for ever.
        """
        for out in (self._out, self._branch.out if self._branch else None):
            if out is not None:
                out.set_property("drop", True)

    @property
    def _branch(self) -> Branch | None:
        return self._junction.branch if self._junction else None

    def _advance(self) -> bool:
        if self._junction is None or not self._junction.advance():
            return False
        self._out = self._branch.out if self._branch else None
        return True

    def _listen(self) -> None:
        """Empty the bus, which grows otherwise. Raises Failure."""
        if self._pending:
            raise self._pending
        while message := self._bus.pop_filtered(gstreamer().Gst.MessageType.ERROR):
            raise self._failure(message)

    def _failure(self, message: Any) -> Failure:
        error, _debug = message.parse_error()
        decoding = self._junction is not None and self._junction.holds(message.src)
        return Failure(Trouble(error.domain, error.code, error.message), decoding)


def planned(address: Address, options: SourceOptions, avoided: Collection[str]) -> Stream:
    """Build the pipeline for *address*, whose decoder is none of the families *avoided*."""
    gst, plan = gstreamer().Gst, head(address, options)
    pipeline = gst.parse_launch(plan.text)
    if not isinstance(pipeline, gst.Pipeline):  # it was one element
        alone, pipeline = pipeline, gst.Pipeline()
        pipeline.add(alone)
    source = pipeline.get_by_name("src")
    for name, value in plan.settings.items():
        source.set_property(name, value)
    if source.get_factory().get_name() == "rtspsrc":
        source.connect("select-stream", _FirstVideo())
        start_fast(source)
    return Stream(pipeline, Junction(pipeline, address, options, avoided))


def start_fast(rtspsrc: Any) -> None:
    """Let the first packets through: else a jitter buffer withholds them for as long as it may reorder."""
    rtspsrc.connect("new-manager", _on_manager)


def _on_manager(_source: Any, manager: Any) -> None:
    manager.connect("new-jitterbuffer", _on_jitterbuffer)


def _on_jitterbuffer(_manager: Any, jitterbuffer: Any, _session: int, _ssrc: int) -> None:
    jitterbuffer.set_property("faststart-min-packets", 1)


class _FirstVideo:
    """Set up one video stream and nothing else: sound would be received in vain."""

    def __init__(self) -> None:
        self._chosen: int | None = None

    def __call__(self, _source: Any, number: int, caps: Any) -> bool:
        if self._chosen is None and caps.get_structure(0).get_string("media") == "video":
            self._chosen = number
        return number == self._chosen
