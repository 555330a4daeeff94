"""Cameras and recordings through GStreamer: hardware decoders where there are any, or the user's own pipeline."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import ConfigError, SourceError, SourceUnusable
from streamer.events import FrameLost, Observer
from streamer.sources import avfaults, gstreamer_faults
from streamer.sources.address import Address, SourceOptions, is_live
from streamer.sources.capture_time import CaptureClock
from streamer.sources.files import check_file
from streamer.sources.gstreamer_library import each, elements, gstreamer, install
from streamer.sources.gstreamer_pictures import Pictures
from streamer.sources.gstreamer_plan import CAPS, HELD, head, lacking
from streamer.sources.gstreamer_stream import Failure, Silence, Stream, planned, start_fast
from streamer.types import RawFrame

log = logging.getLogger(__name__)

_ROUND = 50  # pictures of a live camera, after which is counted what did not become one
_ENOUGH = 16  # compressed pictures, from a keyframe on, of which any decoder makes at least one
_INSIDE = 25  # compressed pictures that parser, decoder and appsink may hold
_FILES = frozenset({"filesrc", "multifilesrc", "splitfilesrc", "splitmuxsrc", "imagesequencesrc"})


def from_address(camera: str, address: Address, options: SourceOptions, observer: Observer) -> GstSource:
    """Read any URL that `av` reads. Raises ConfigError where GStreamer, or what reads such URLs, is missing."""
    live = is_live(address, options)
    options = replace(options, live=live)
    if missing := lacking(head(address, options).text, elements()):
        raise ConfigError(f"{address.scheme}:// needs GStreamer's {', '.join(missing)}; {install(missing)}")
    return GstSource(camera, _Planned(address), live, options, observer)


def from_pipeline(camera: str, description: str, options: SourceOptions, observer: Observer) -> GstSource:
    """Read the user's own pipeline, live unless all that it reads are files. Raises ConfigError."""
    given = _Given(description)
    pipeline = given.parse()
    live = not _reads_files(pipeline) if options.live is None else options.live
    return GstSource(camera, given, live, replace(options, live=live), observer)


class Origin(Protocol):
    """Where a source's pipelines come from: a new one each time."""

    @property
    def shown(self) -> str: ...
    def unanswered(self, timeout: float) -> SourceError: ...
    def build(self, options: SourceOptions, avoided: Collection[str]) -> Stream: ...


@dataclass(frozen=True, slots=True)
class _Planned:
    address: Address

    @property
    def shown(self) -> str:
        return self.address.shown

    def unanswered(self, timeout: float) -> SourceError:
        if self.address.scheme == "file":
            return SourceUnusable(f"{self.shown} holds no frames that appear within {timeout:g} s; check that it plays")
        return avfaults.unanswered(self.shown, timeout)

    def build(self, options: SourceOptions, avoided: Collection[str]) -> Stream:
        if self.address.scheme == "file":
            check_file(Path(self.address.target))
        return planned(self.address, options, avoided)


@dataclass(frozen=True, slots=True)
class _Given:
    description: str = field(repr=False)  # it may hold a password

    @property
    def shown(self) -> str:
        return "its GStreamer pipeline"

    def unanswered(self, timeout: float) -> SourceError:
        return avfaults.unanswered(self.shown, timeout)

    def parse(self) -> Any:
        """Build and check it. Raises ConfigError, without passwords."""
        lib = gstreamer()
        try:
            pipeline = lib.Gst.parse_launch(self.description)
        except lib.GLib.Error as error:
            raise _misspelt(error.message) from None  # from None: the message may hold a password
        out = pipeline.get_by_name("out") if isinstance(pipeline, lib.Gst.Bin) else None
        if out is None or out.get_factory().get_name() != "appsink":
            raise ConfigError('the GStreamer pipeline has no appsink named out; end it in "… ! appsink name=out"')
        _constrain(out)
        return pipeline

    def build(self, options: SourceOptions, _avoided: Collection[str]) -> Stream:
        pipeline = self.parse()
        out = pipeline.get_by_name("out")
        out.props.drop = bool(options.live)
        for source in each(pipeline.iterate_all_by_element_factory_name("rtspsrc")):
            source.set_property("add-reference-timestamp-meta", True)
            start_fast(source)
        return Stream(pipeline)


def _misspelt(message: str) -> ConfigError:
    """Say what GStreamer does not understand of a pipeline, and what was probably meant."""
    words = message.split('"')
    name = words[1] if message.startswith("no element") and len(words) > 1 else ""
    near = difflib.get_close_matches(name, elements(), 1) if name else []
    hint = f"did you mean {near[0]}? Else: {install([name])}" if near else install([name]) if name else "correct it"
    return ConfigError(f"the GStreamer pipeline cannot be built ({gstreamer_faults.hidden(message)}); {hint}")


def _constrain(out: Any) -> None:
    """Bound what an appsink holds, and what it takes. Raises ConfigError where that is nothing that can be read."""
    ours = gstreamer().Gst.Caps.from_string(CAPS)
    caps = ours if out.props.caps is None else ours.intersect(out.props.caps)
    if caps.is_empty():
        raise ConfigError(
            f"the appsink of the GStreamer pipeline takes {out.props.caps.to_string()} only, which cannot be read; "
            "give it video/x-raw in main memory, in a format such as NV12, I420, RGB, BGR or GRAY8"
        )
    out.props.caps, out.props.max_buffers = caps, HELD
    out.props.sync = out.props.enable_last_sample = False


def _reads_files(pipeline: Any) -> bool:
    sources = [*each(pipeline.iterate_sources())]
    return bool(sources) and all(source.get_factory().get_name() in _FILES for source in sources)


@dataclass(slots=True)
class GstSource:
    """A camera or recording that GStreamer can read.

    Opening takes at most `open_timeout`, and each picture `read_timeout`. A hardware decoder that fails before its
    first picture is left out from then on.
    """

    camera: str
    origin: Origin
    live: bool
    options: SourceOptions
    observer: Observer
    clock: Clock = SYSTEM_CLOCK
    capture: CaptureClock = field(init=False, repr=False, compare=False)  # one for all times that it is opened
    avoided: set[str] = field(default_factory=set, init=False)  # families of decoders that have failed here

    def __post_init__(self) -> None:
        self.capture = CaptureClock(self.camera, self.clock)

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        """Open with a fresh pipeline. Raises SourceError."""
        session = _Session(self)
        try:
            session.connect()
            with closing(session.frames()) as frames:
                yield frames
        finally:
            session.close()

    def leave_out(self, family: str, reason: str) -> None:
        self.avoided.add(family)
        log.warning(
            "%s: the decoder of %s fails (%s); another one is used from now on",
            *(self.camera, family, reason),
            extra={"camera": self.camera},
        )


class _Session:
    """One reading, from the connection to the end; a second pipeline only where a hardware decoder fails."""

    def __init__(self, source: GstSource) -> None:
        self._source = source
        self._stream = self._built()
        self._pictures = Pictures(source.clock, source.capture if source.live else None, source.options.size)
        self._told = 0  # pictures that the observer knows to be lost

    def _built(self) -> Stream:
        return self._source.origin.build(self._source.options, self._source.avoided)

    def connect(self) -> None:
        """Start. Raises SourceError."""
        source = self._source
        try:
            self._stream.connect(source.options.open_timeout)
        except Failure as failure:
            raise gstreamer_faults.opening(source.origin.shown, failure.trouble, source.live) from None
        except Silence:
            raise source.origin.unanswered(source.options.open_timeout) from None

    def close(self) -> None:
        self._stream.close()

    def frames(self) -> Generator[RawFrame]:
        """Read to the end. Raises SourceError; tells the observer what a recording lacks."""
        pulled = self._first()
        while pulled is not None:
            sample, changed = pulled
            yield self._pictures.place(sample, self._stream, changed)
            if self._source.live and self._pictures.count % _ROUND == 0:
                self._account(_INSIDE)
            pulled = self._next()
        self._finish()

    def _first(self) -> tuple[Any, bool] | None:
        """Return the first sample, by another decoder where a hardware one cannot; None at the end."""
        while True:
            trouble: Failure | Silence | None = None
            pulled = None
            try:
                pulled = self._stream.pull(self._source.options.read_timeout)
            except (Failure, Silence) as error:
                trouble = error
            family = None if pulled else self._to_blame(trouble)
            if family is not None:
                self._source.leave_out(family, str(trouble or "") or "it gives no picture")
                self.close()
                self._stream = self._built()
                self.connect()
            elif trouble is not None:
                raise self._fault(trouble) from None
            else:
                return pulled

    def _to_blame(self, trouble: Failure | Silence | None) -> str | None:
        """Name the hardware decoders that gave no picture before *trouble*, or the end; None: it is not their fault."""
        family = self._stream.family
        if family is None or not family.hardware:
            return None
        if isinstance(trouble, Failure):
            return family.name if trouble.decoding else None
        return family.name if self._stream.fed >= (_ENOUGH if trouble else 1) else None

    def _next(self) -> tuple[Any, bool] | None:
        try:
            return self._stream.pull(self._source.options.read_timeout)
        except (Failure, Silence) as trouble:
            self._account()
            raise self._fault(trouble) from None

    def _account(self, inside: int = 0) -> None:
        """Tell what was sent and never became a picture in our hands; *inside* are those that may still become one."""
        lost = self._stream.owed - self._pictures.count - self._told
        if lost > inside:
            self._told += lost
            detail = "pictures could not be decoded, or came faster than they were taken"
            self._source.observer(FrameLost(self._source.camera, detail, lost))

    def _fault(self, trouble: Failure | Silence) -> SourceError:
        shown, options = self._source.origin.shown, self._source.options
        if isinstance(trouble, Silence):
            return avfaults.silent(shown, options.read_timeout)
        if self._pictures.count:
            return gstreamer_faults.reading(shown, trouble.trouble)
        return gstreamer_faults.opening(shown, trouble.trouble, self._source.live)

    def _finish(self) -> None:
        """Account for what did not come. Raises SourceError."""
        source, shown, pictures = self._source, self._source.origin.shown, self._pictures
        if not pictures.count and source.live and not self._stream.lacks_video():
            raise SourceError(f"{shown} ended before its first picture; check the path of its URL")
        if not pictures.count:
            what = "video" if self._stream.lacks_video() else "frames"
            fault = SourceError if source.live else SourceUnusable
            raise fault(f"{shown} holds no {what} that can be decoded; check that it plays")
        if source.live:
            self._account()
        elif lost := max(self._stream.owed - pictures.count, 0) + pictures.short(self._stream):
            detail = f"cut short or damaged: {pictures.count} frames could be decoded, about {lost} could not"
            source.observer(FrameLost(source.camera, detail, lost))
