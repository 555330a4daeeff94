"""Where a decoder is put to a running pipeline, as soon as the stream says what it is."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from streamer.sources.address import Address, SourceOptions
from streamer.sources.gstreamer_library import elements, gstreamer
from streamer.sources.gstreamer_plan import Tail, tails

log = logging.getLogger(__name__)


class Branch:
    """One decoder and its appsink, behind the pad that compressed pictures come from."""

    def __init__(self, pipeline: Any, pad: Any, tail: Tail) -> None:
        """Build it. Raises GLib.Error: its text means nothing to this version of its plugin."""
        gst = gstreamer().Gst
        self.pad, self.tail = pad, tail
        self._pipeline, self._unshown, self._decodable = pipeline, 0, False
        self._bin = gst.parse_bin_from_description(f"identity name=in ! {tail.text}", False)
        self.out, self._entry = self._bin.get_by_name("out"), self._bin.get_by_name("in")
        self._bin.add_pad(gst.GhostPad.new("sink", self._entry.get_static_pad("sink")))
        self._probe: int | None = pad.add_probe(gst.PadProbeType.BUFFER, self._on_early)

    def start(self) -> None:
        self._pipeline.add(self._bin)
        self.pad.link(self._bin.get_static_pad("sink"))
        self._bin.sync_state_with_parent()
        log.debug("GStreamer decodes by %s: %s", self.tail.family.name, self.tail.text)

    @property
    def fed(self) -> int:
        """Count the compressed pictures that have come, from the first one on that is to be shown."""
        _, count = self._entry.props.stats.get_uint64("num-buffers")
        return max(int(count) - self._unshown, 0)

    @property
    def countable(self) -> bool:
        """Whether as many pictures should come out as are fed; the two fields of a frame may come separately."""
        caps = self.pad.get_current_caps()
        structure = None if caps is None else caps.get_structure(0).get_string("coded-picture-structure")
        return self.tail.countable and structure != "field"

    def holds(self, element: Any) -> bool:
        return bool(element == self._bin or element.has_as_ancestor(self._bin))

    def remove(self) -> None:
        """Take it out of the pipeline."""
        self.let_go()
        self._bin.set_state(gstreamer().Gst.State.NULL)
        self._pipeline.remove(self._bin)

    def let_go(self) -> None:
        """Cut the ring from the pad by its probe back to us, which no garbage collector sees."""
        if self._probe is not None:
            self.pad.remove_probe(self._probe)

    def _on_early(self, pad: Any, info: Any) -> Any:
        """Count what comes before the first picture to be shown; not what follows: Python would slow the decoder."""
        gst, buffer = gstreamer().Gst, info.get_buffer()
        self._decodable |= not buffer.has_flags(gst.BufferFlags.DELTA_UNIT)
        if not self._decodable or self._precedes(pad, buffer.pts):
            self._unshown += 1
            return gst.PadProbeReturn.OK
        self._probe = None
        return gst.PadProbeReturn.REMOVE

    def _precedes(self, pad: Any, pts: int) -> bool:
        """Tell a picture that only others need: an edit list begins behind it."""
        gst = gstreamer().Gst
        event = pad.get_sticky_event(gst.EventType.SEGMENT, 0)
        return event is not None and pts != gst.CLOCK_TIME_NONE and bool(pts < event.parse_segment().start)


class Junction:
    """Decides, in GStreamer's own threads, what decodes the streams that a pipeline's head finds."""

    def __init__(self, pipeline: Any, address: Address, options: SourceOptions, avoided: Collection[str]) -> None:
        self._pipeline, self._address, self._options, self._avoided = pipeline, address, options, avoided
        self.branch: Branch | None = None
        self.streams = 0  # of any kind
        self._fed = 0  # to branches that have ended
        self._coming: deque[Branch] = deque()  # a stream that goes on in another codec has another branch
        self._parse = pipeline.get_by_name("parse") or pipeline.get_by_name("src")
        signals = {"pad-added": self._on_pad, "no-more-pads": self._on_last_pad, "drained": self._on_last_pad}
        self._handlers = [self._parse.connect(name, handler) for name, handler in signals.items()]

    @property
    def owed(self) -> int:
        """Count the pictures that should have come out by now; 0 where that cannot be known."""
        branch = self.branch
        return self._fed + branch.fed if branch is not None and branch.countable else 0

    def advance(self) -> bool:
        """Go on to the branch that follows one that has ended; False: there is none."""
        if not self._coming:
            return False
        if self.branch is not None:
            self._fed = self.owed
            self.branch.remove()
        self.branch = self._coming.popleft()
        return True

    def holds(self, element: Any) -> bool:
        """Tell whether *element* is of a part that decodes."""
        branches = [self.branch, *self._coming]
        return any(branch is not None and branch.holds(element) for branch in branches)

    def close(self) -> None:
        """Let go of the pipeline, which has ended."""
        for handler in self._handlers:
            self._parse.disconnect(handler)
        for branch in filter(None, (self.branch, *self._coming)):
            branch.let_go()

    def _on_pad(self, _parse: Any, pad: Any) -> None:
        self.streams += 1
        caps = pad.get_current_caps() or pad.query_caps(None)
        if caps.get_size():
            self._on_caps(pad, caps)
        else:  # they come with the data
            pad.add_probe(gstreamer().Gst.PadProbeType.EVENT_DOWNSTREAM, self._on_event)

    def _on_event(self, pad: Any, info: Any) -> Any:
        gst, event = gstreamer().Gst, info.get_event()
        if event.type != gst.EventType.CAPS:
            return gst.PadProbeReturn.OK
        self._on_caps(pad, event.parse_caps())
        return gst.PadProbeReturn.REMOVE

    def _on_caps(self, pad: Any, caps: Any) -> None:
        """Decode the first video stream, and one that comes when pictures have flowed: then the stream has changed."""
        codec = caps.get_structure(0).get_name()
        if not codec.startswith(("video/", "image/")) or (self.branch is not None and not self.branch.fed):
            return
        branch = next(self._branches(pad, codec))
        if self.branch is None:
            self.branch = branch
        else:
            self._coming.append(branch)
        branch.start()
        self._wake("attached")

    def _branches(self, pad: Any, codec: str) -> Iterator[Branch]:
        lib = gstreamer()
        for tail in tails(codec, self._address, self._options, elements()):
            if tail.family.name in self._avoided:
                continue
            try:
                yield Branch(self._pipeline, pad, tail)
            except lib.GLib.Error as error:
                log.debug("GStreamer cannot build %r: %s", tail.text, error.message)

    def _on_last_pad(self, _parse: Any) -> None:
        """Notice that no video will come: a pipeline without sinks never says that it has ended."""
        if self.branch is None:
            self._wake("no-video")

    def _wake(self, why: str) -> None:
        """Wake whoever waits at the bus."""
        gst = gstreamer().Gst
        self._pipeline.post_message(gst.Message.new_application(self._parse, gst.Structure.new_empty(why)))
