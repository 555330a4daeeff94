"""Files, RTSP, HTTP, transport streams and USB cameras, through FFmpeg's libraries."""

from __future__ import annotations

import logging
import struct
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import av
from av.stream import Discard, Disposition

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import ConfigError, SourceError, SourceUnusable
from streamer.events import FrameLost, Observer
from streamer.sources import avfaults
from streamer.sources.address import Address, SourceOptions, is_live
from streamer.sources.capture_time import CaptureClock
from streamer.sources.convert import to_rgb
from streamer.sources.files import check_file
from streamer.sources.mediatime import MediaTime
from streamer.sources.tally import Tally
from streamer.types import RawFrame

log = logging.getLogger(__name__)

_MENDED = "%s: data is damaged in %d of %d frames or more, whose pictures the decoder has mended as it could"
_CLOCKLESS = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "m4v"})  # containers whose time stamps FFmpeg makes up
_OF_TRANSPORT_STREAMS = frozenset({"http", "https", "srt", "tcp", "udp"})
_TEXT_ART = frozenset({"tty", "bin", "xbin", "adf", "idf"})  # to FFmpeg any text is a video of a terminal
_BAD_READS = 20  # in a row: then nothing follows; some demuxers fail for ever at the same place
_USUAL_FPS = 25
_AGREED = 1e-3  # seconds
_REFERENCE_TIME = struct.Struct("=q")  # FFmpeg's AVProducerReferenceTime begins with Unix microseconds


def from_network(camera: str, address: Address, options: SourceOptions, observer: Observer) -> AvSource:
    """Read a URL; over HTTP a name such as clip.mp4 means a recording, everything else is live."""
    live = is_live(address, options)
    return AvSource(camera, address, live, options, observer, _network_settings(address.scheme, options, live))


def from_device(camera: str, address: Address, options: SourceOptions, observer: Observer) -> AvSource:
    """Read a USB camera by Video4Linux; `?size=1280x720&fps=30&format=mjpeg` asks it for a mode."""
    wanted = {"video_size": "size", "framerate": "fps", "input_format": "format"}
    settings = {theirs: _text(address.settings[ours]) for theirs, ours in wanted.items() if ours in address.settings}
    return AvSource(camera, address, True, options, observer, settings)


def from_file(camera: str, address: Address, options: SourceOptions, observer: Observer) -> AvSource:
    """Read a recording. Raises ConfigError where it was told what only a folder of images can be."""
    if address.settings:
        raise ConfigError(f"{address.shown}: only a folder of images takes {', '.join(address.settings)}; leave it out")
    return AvSource(camera, address, bool(options.live), options, observer)


def _network_settings(scheme: str, options: SourceOptions, live: bool) -> Mapping[str, str]:
    """Choose FFmpeg's options.

    Not `fflags=nobuffer`: it throws away what was read to learn the format, the first keyframe with it, and shows
    nothing until the next; what is read there comes in one burst and delays nothing later.
    """
    if not live:
        return {"reconnect": "1", "reconnect_delay_max": "2"}  # a range request goes on where the connection broke
    settings = {"fpsprobesize": "0"}  # else a second of video is read just to learn its frame rate
    if scheme in ("rtsp", "rtsps"):
        settings |= {"rtsp_transport": options.transport, "allowed_media_types": "video"}
        settings |= {"buffer_size": str(4 << 20)} if options.transport == "udp" else {}  # bytes; a keyframe is a burst
    if scheme == "udp":
        settings |= {"overrun_nonfatal": "1"}
    if scheme in _OF_TRANSPORT_STREAMS:  # else a stream that goes on under another PID is waited for in vain, for ever
        settings |= {"merge_pmt_versions": "1"}
    return settings


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(slots=True)
class AvSource:
    """A camera or recording that FFmpeg can read.

    Blocks in FFmpeg for at most `read_timeout` (and opening for about twice `open_timeout`): that is how long a
    thread may take to notice that it should stop. PyAV lets nobody interrupt a read that has begun, and shorter
    timeouts would cut slow pictures in two, for they count from the beginning of a picture.
    """

    camera: str
    address: Address
    live: bool
    options: SourceOptions
    observer: Observer
    settings: Mapping[str, str] = field(default_factory=dict)  # FFmpeg's
    clock: Clock = SYSTEM_CLOCK
    capture: CaptureClock = field(init=False, repr=False, compare=False)  # one for all times that it is opened

    def __post_init__(self) -> None:
        self.capture = CaptureClock(self.camera, self.clock)

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        """Open with a fresh decoder. Raises SourceError."""
        if self.address.scheme == "file":
            check_file(Path(self.address.target))
        with self._container() as container, closing(self._session(container).frames()) as frames:
            yield frames

    def _container(self) -> av.container.InputContainer:
        options, began_ns = self.options, self.clock.monotonic_ns()
        try:
            return av.open(
                self.address.target,
                format="v4l2" if self.address.scheme == "v4l2" else None,
                options=dict(self.settings),
                timeout=(options.open_timeout, options.read_timeout),
            )
        except (av.FFmpegError, OSError) as error:  # from None: FFmpeg's own message holds the URL with its password
            if self.clock.monotonic_ns() - began_ns >= options.open_timeout * 1e9:  # RTSP calls it invalid data
                raise avfaults.unanswered(self.address.shown, options.open_timeout) from None
            raise avfaults.opening(self.address.shown, error, self.live) from None

    def _session(self, container: av.container.InputContainer) -> _Session:
        stream = _video(container)
        if stream is None:
            what = "video that can be decoded" if len(container.streams) else "frames"
            fault = SourceError if self.live else SourceUnusable  # a camera may send its video a little later
            raise fault(f"{self.address.shown} holds no {what}; check that it plays")
        codec = stream.codec_context
        codec.thread_count = self.options.threads or (1 if self.live else 0)
        # Frame threads hold back a frame each, and cost a sixth more CPU; a file of 4K HEVC needs them all the same.
        codec.thread_type = "SLICE" if self.live else "AUTO"
        return _Session(self, container, stream)


def _video(container: av.container.InputContainer) -> av.VideoStream | None:
    """Choose the best video stream that is no cover picture, and leave the others unread."""
    if container.format.name in _TEXT_ART:
        return None
    decodable = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in decodable if not s.disposition & Disposition.attached_pic]
    if not moving:
        return None
    best = container.streams.best("video")
    chosen = next((s for s in moving if best is not None and s.index == best.index), moving[0])
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all
    return chosen


class _Session:
    """One reading of an opened container, from its first picture to its end."""

    def __init__(self, source: AvSource, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._source, self._container, self._stream = source, container, stream
        self._step = 1 / float(stream.average_rate or stream.guessed_rate or _USUAL_FPS)
        start = None if source.live or container.start_time is None else container.start_time / av.time_base
        self._time = MediaTime(self._step, start)
        self._clockless = source.live and container.format.name in _CLOCKLESS
        self._tally = Tally()
        self._size: tuple[int, int] | None = None
        self._unix_of_zero: float | None = None  # when the camera took the picture of stamp 0, by its own clock
        self._claim = float("nan")  # what the last packet said of it
        self._seen_ns = source.clock.monotonic_ns()

    def frames(self) -> Generator[RawFrame]:
        """Decode to the end. Raises SourceError; tells the observer what a recording lacks."""
        try:
            for packet in self._packets():
                self._expect_pictures()
                for frame in self._decode(packet):
                    yield self._place(frame)
                    self._seen_ns = self._source.clock.monotonic_ns()
        except (av.FFmpegError, OSError) as error:  # from None: see _container
            raise avfaults.reading(self._shown, error, self._timeout) from None
        self._finish()

    @property
    def _shown(self) -> str:
        return self._source.address.shown

    @property
    def _timeout(self) -> float:
        return self._source.options.read_timeout

    def _packets(self) -> Iterator[av.Packet[av.VideoStream] | None]:
        """Read on behind what cannot be read; at the end comes what empties the decoder."""
        failures = 0
        while failures < _BAD_READS:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    self._tally.count(packet)
                    self._listen(packet)
                    yield packet
            except av.InvalidDataError:
                failures += 1
                self._tally.unreadable += 1
            except IndexError:  # the end: ours is flushed, and PyAV cannot find streams that came later
                return
            else:
                return
        yield None

    def _listen(self, packet: av.Packet[av.VideoStream]) -> None:
        """Learn from the camera's RTCP sender report, which FFmpeg applies to each packet, when pictures were taken.

        The difference to the packet's stamp is kept rather than the moment itself: B-frames come in another order.
        Two packets must agree on it: to the one after a new report FFmpeg's parser gives the moment of the next.
        """
        if self._source.live and packet.pts is not None and packet.has_sidedata("prft"):
            microseconds: int = _REFERENCE_TIME.unpack_from(packet.get_sidedata("prft"))[0]
            claim = microseconds / 1e6 - float(packet.pts * packet.time_base)
            if abs(claim - self._claim) < _AGREED:
                self._unix_of_zero = claim
            self._claim = claim

    def _captured_at(self, frame: av.VideoFrame) -> float | None:
        if self._unix_of_zero is None or frame.time is None:
            return None
        return self._source.capture.captured_at(self._unix_of_zero + frame.time)

    def _expect_pictures(self) -> None:
        """Notice a live stream that sends on, but nothing that becomes a picture. Raises SourceError."""
        silence = (self._source.clock.monotonic_ns() - self._seen_ns) / 1e9
        if self._source.live and silence >= self._timeout:
            raise avfaults.silent(self._shown, self._timeout)

    def _decode(self, packet: av.Packet[av.VideoStream] | None) -> Sequence[av.VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.FFmpegError as error:
            log.debug("%s: a packet cannot be decoded: %s", self._source.camera, avfaults.reason(error))
            self._tally.undecodable += 1
            if self._source.live:  # a recording is counted at its end, when it is clear how much is missing
                self._source.observer(FrameLost(self._source.camera, "a packet could not be decoded"))
            return ()

    def _place(self, frame: av.VideoFrame) -> RawFrame:
        stamp = self._source.clock.monotonic_ns() / 1e9 if self._clockless else frame.time
        pts, breaks = self._time.place(stamp)
        size = frame.width, frame.height
        resized = self._size not in (None, size)
        self._size = size
        self._tally.frames += 1
        self._tally.mended += frame.is_corrupt
        self._tally.end = (frame.time or 0.0) + self._step
        pixels = partial(to_rgb, frame, self._source.options.size)
        return RawFrame(pts, pixels, self._captured_at(frame), breaks=breaks or resized)

    def _finish(self) -> None:
        """Account for what did not come."""
        tally, shown = self._tally, self._shown
        if self._source.live:
            if not tally.frames:
                raise SourceError(f"{shown} ended before its first picture; check the path of its URL")
            return
        if not tally.frames:
            raise SourceUnusable(f"{shown} holds no frames that can be decoded; check that it plays")
        if tally.mended:
            log.warning(_MENDED, self._source.camera, tally.mended, tally.frames)
        lost = tally.lost(self._container, self._stream, self._step)
        if lost and self._source.address.scheme != "file":
            raise SourceError(f"{shown} broke off: {lost} frames did not come; check the network and try again")
        if lost:
            detail = f"cut short or damaged: {tally.frames} frames could be decoded, about {lost} could not"
            self._source.observer(FrameLost(self._source.camera, detail, lost))
