"""Which GStreamer elements a stream needs on this machine: a pure function from names to text.

A pipeline has two halves that meet where the stream is known: the head reads, demuxes and parses, the tail decodes into
an appsink. Both are in the words of gst-launch, so that a plan can be read, tried in a shell, and tested for machines
that are elsewhere: the hardware's tails have been checked as text only, by the names and properties that the elements'
documentation has (NVIDIA's Accelerated GStreamer guide for Jetson; nvcodec, va, vaapi and v4l2codecs of 1.22).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from streamer.sources.address import Address, SourceOptions

FORMATS = (
    *("I420", "NV12", "Y42B", "Y444", "GRAY8", "RGB", "BGR", "YUY2", "UYVY"),
    *("I420_10LE", "I422_10LE", "Y444_10LE", "P010_10LE", "GBR"),
)
CAPS = f"video/x-raw,format=(string){{{','.join(FORMATS)}}}"
HELD = 4  # pictures that an appsink holds
_OUT = "appsink name=out sync=false async=false enable-last-sample=false"
_KERNEL_BUFFER = 4 << 20  # bytes; a keyframe is a burst
_UDP_REORDER = 200  # milliseconds that a missing packet is waited for; costs nothing while none is missing
_TCP_BACKLOG = 2000  # milliseconds of packets that may wait for a slow decoder; TCP itself loses none


# --- the head ---


@dataclass(frozen=True, slots=True)
class Head:
    """From the address to parsed streams, which come out of its last element.

    *settings* are of the element named src; they hold URL and password, which therefore never stand in the text.
    """

    text: str
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)


def head(address: Address, options: SourceOptions) -> Head:
    """Plan the reading of *address*, of any scheme that GStreamer reads; *options* say whether it is live."""
    if address.scheme in ("http", "https") and urlsplit(address.target).path.endswith(".m3u8"):
        return Head("urisourcebin name=src parse-streams=true", {"uri": address.target})  # parsebin's HLS leaks files
    source, settings = _HEADS[address.scheme](address, options)
    return Head(f"{source} ! parsebin name=parse", settings)


_Reading = tuple[str, Mapping[str, object]]


def _file(address: Address, _options: SourceOptions) -> _Reading:
    return "filesrc name=src", {"location": address.target}


def _rtsp(address: Address, options: SourceOptions) -> _Reading:
    """Read RTSP; packets that a slow decoder leaves waiting are dropped beyond *latency*, else memory had no bound."""
    udp = options.transport == "udp"
    source = (
        f"rtspsrc name=src protocols={'udp+udp-mcast' if udp else 'tcp'} "
        f"latency={_UDP_REORDER if udp else _TCP_BACKLOG} drop-on-latency=true add-reference-timestamp-meta=true "
        f"tcp-timeout={round(options.open_timeout * 1e6)} timeout={round(options.read_timeout * 1e6)} "
        f"udp-buffer-size={_KERNEL_BUFFER} tls-validation-flags=0"  # cameras sign their own certificates
    )
    return source, _with_login(address)


def _http(address: Address, options: SourceOptions) -> _Reading:
    retries = 0 if options.live else 3  # a recording goes on, by a range request, where the connection broke
    timeout = math.ceil(max(options.open_timeout, options.read_timeout))
    return f"souphttpsrc name=src timeout={timeout} retries={retries} ssl-strict=false", _with_login(address)


def _rtmp(address: Address, options: SourceOptions) -> _Reading:
    return f"rtmp2src name=src timeout={math.ceil(options.open_timeout)}", {"location": address.target}


def _srt(address: Address, _options: SourceOptions) -> _Reading:
    return "srtsrc name=src", {"uri": address.target}


def _tcp(address: Address, options: SourceOptions) -> _Reading:
    parts = urlsplit(address.target)
    listens = parse_qs(parts.query).get("listen", ["0"])[-1] == "1"
    timeout = f" timeout={math.ceil(options.open_timeout)}"
    source = "tcpserversrc name=src" if listens else "tcpclientsrc name=src" + timeout
    return source, {"host": parts.hostname, "port": parts.port}


def _udp(address: Address, _options: SourceOptions) -> _Reading:
    parts = urlsplit(address.target)
    host = parts.hostname or "0.0.0.0"  # noqa: S104 - "udp://:5000" asks for every interface
    return f"udpsrc name=src buffer-size={_KERNEL_BUFFER}", {"address": host, "port": parts.port}


_DEVICE_MEDIA = {"mjpeg": "image/jpeg", "h264": "video/x-h264", "hevc": "video/x-h265", "h265": "video/x-h265"}
_DEVICE_FORMATS = {"yuyv422": "YUY2", "uyvy422": "UYVY", "nv12": "NV12", "yuv420p": "I420", "gray": "GRAY8"}  # FFmpeg's


def _device(address: Address, _options: SourceOptions) -> _Reading:
    """Read a USB camera: what FFmpeg calls a format is a media type here, or a format of raw video."""
    wanted = address.settings
    name = wanted.get("format", "")
    caps = [_DEVICE_MEDIA.get(name, "video/x-raw")]
    if name and name not in _DEVICE_MEDIA:
        caps.append(f"format={_DEVICE_FORMATS.get(name, name.upper())}")
    if size := wanted.get("size"):
        caps += _size(size)
    if fps := wanted.get("fps"):
        caps.append(f"framerate={_fraction(fps)}")
    return f"v4l2src name=src ! {','.join(caps)}", {"device": address.target}


_HEADS = {
    "file": _file,
    "rtsp": _rtsp,
    "rtsps": _rtsp,
    "http": _http,
    "https": _http,
    "rtmp": _rtmp,
    "rtmps": _rtmp,
    "srt": _srt,
    "tcp": _tcp,
    "udp": _udp,
    "v4l2": _device,
}


def _with_login(address: Address) -> Mapping[str, object]:
    """Take user name and password out of a URL: inside it, GStreamer would repeat them in its messages."""
    parts = urlsplit(address.target)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    settings: dict[str, object] = {"location": parts._replace(netloc=host).geturl()}
    return settings | ({"user-id": unquote(user), "user-pw": unquote(password)} if login else {})


def _size(size: tuple[int, int]) -> list[str]:
    return [f"width={size[0]}", f"height={size[1]}"]


def _fraction(fps: float) -> str:
    return f"{round(fps)}/1" if fps == round(fps) else f"{round(fps * 1001)}/1001"


# --- the tail ---


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of decoders: what each codec is decoded by, and how its pictures come to main memory.

    *scaled* are ways to scale there, best first; where none is at hand, pictures are scaled when they are converted.
    """

    name: str
    decoders: Mapping[str, str]
    plain: str = ""
    scaled: tuple[str, ...] = ()
    pooled: bool = False  # its pictures lie in a few buffers that the driver wants back soon
    hardware: bool = True


@dataclass(frozen=True, slots=True)
class Tail:
    """From a parsed stream to the appsink named out."""

    text: str
    family: Family
    codec: str

    @property
    def countable(self) -> bool:
        """Whether each compressed picture becomes a frame: in VP8, VP9 and AV1, some are there for others only."""
        return self.codec in (H264, H265, JPEG)


def tails(codec: str, address: Address, options: SourceOptions, elements: Collection[str]) -> Iterator[Tail]:
    """Plan the decoding of *codec*, a caps' name such as video/x-h264: best way first, all of them possible here."""
    out = _sink(address, options)
    if codec == RAW:
        yield Tail(out, _RAW, codec)
        return
    threads = options.threads or (1 if options.live else 0)
    for family in _FAMILIES:
        decoder = family.decoders.get(codec, "").format(threads=threads)
        if decoder and not lacking(_chain(decoder, family.plain), elements):
            yield Tail(_chain(decoder, _delivery(family, options.size, elements), out), family, codec)
    yield Tail(_chain("decodebin", out), _ANY, codec)


def describe(address: Address, options: SourceOptions, elements: Collection[str], codec: str) -> str:
    """Return the whole pipeline for *codec* as one line for gst-launch-1.0, without the settings of src."""
    return f"{head(address, options).text} ! {next(tails(codec, address, options, elements)).text}"


def lacking(text: str, elements: Collection[str]) -> list[str]:
    """Name the elements in *text*, a chain in gst-launch's words, that are not among *elements*."""
    words = (part.split() for part in text.split(" ! ") if part.strip())
    return [first for first, *_ in words if "/" not in first and first not in elements]  # a "/" means caps


def _sink(address: Address, options: SourceOptions) -> str:
    """Plan the appsink: one that is full drops its oldest picture where nobody would wait, else its decoder waits."""
    drops = bool(options.live) and address.scheme in _IMPATIENT
    return f'{_OUT} max-buffers={HELD} drop={str(drops).lower()} caps="{CAPS}"'


_IMPATIENT = frozenset({"rtsp", "rtsps", "srt", "udp", "v4l2"})  # they go on sending, whoever reads
H264, H265, JPEG = "video/x-h264", "video/x-h265", "image/jpeg"
VP9, AV1, RAW = "video/x-vp9", "video/x-av1", "video/x-raw"
_NV12 = "video/x-raw,format=NV12"
_CUDA = "video/x-raw(memory:CUDAMemory)"
_TO = "width={width},height={height}"
_LIBAV = "max-threads={threads} output-corrupt=false"  # like FFmpeg itself: nothing before the first keyframe
_RAW = Family("none", {}, pooled=True, hardware=False)  # a camera's own buffers
_ANY = Family("decodebin", {}, hardware=False)  # whatever GStreamer finds best


def _parsed(h264: str, h265: str) -> dict[str, str]:
    """Put a parser in front, which turns the stream into the form that a hardware decoder wants."""
    return {H264: f"h264parse ! {h264}", H265: f"h265parse ! {h265}"}


_FAMILIES = (
    Family(
        "Jetson",
        _parsed("nvv4l2decoder", "nvv4l2decoder") | {JPEG: "nvv4l2decoder mjpeg=true"},
        f"nvvidconv ! {_NV12}",
        (f"nvvidconv ! {_NV12},{_TO}",),
        pooled=True,
    ),
    Family(
        "DeepStream",
        _parsed("nvv4l2decoder", "nvv4l2decoder"),
        f"nvvideoconvert ! {_NV12}",
        (f"nvvideoconvert ! {_NV12},{_TO}",),
        pooled=True,
    ),
    Family(
        "NVDEC",
        _parsed("nvh264dec", "nvh265dec") | {VP9: "nvvp9dec", AV1: "nvav1dec"},
        "",
        (f"cudaconvertscale ! {_CUDA},{_TO} ! cudadownload", f"cudascale ! {_CUDA},{_TO} ! cudadownload"),
    ),
    Family(
        "VA-API",
        _parsed("vah264dec", "vah265dec") | {JPEG: "jpegparse ! vajpegdec", VP9: "vavp9dec", AV1: "vaav1dec"},
        "",
        (f"vapostproc ! {_NV12},{_TO}",),
    ),
    Family(
        "VA-API (old plugin)",
        _parsed("vaapidecodebin", "vaapidecodebin"),
        f"vaapipostproc ! {_NV12}",
        (f"vaapipostproc ! {_NV12},{_TO}",),
    ),
    Family("V4L2 stateless", _parsed("v4l2slh264dec", "v4l2slh265dec") | {VP9: "v4l2slvp9dec"}, pooled=True),
    Family("V4L2", _parsed("v4l2h264dec", "v4l2h265dec"), pooled=True),
    Family("libjpeg", {JPEG: "jpegdec"}, hardware=False),  # in 0.6 of the time that libav takes for it
    Family(
        "libav",
        {H264: f"avdec_h264 {_LIBAV}", H265: f"avdec_h265 {_LIBAV}", JPEG: "jpegparse ! avdec_mjpeg"},
        hardware=False,
    ),
)


def _delivery(family: Family, size: tuple[int, int] | None, elements: Collection[str]) -> str:
    possible = (way for way in family.scaled if size and not lacking(way, elements))
    width, height = size or (0, 0)
    return next(possible, family.plain).format(width=width, height=height)


def _chain(*parts: str) -> str:
    return " ! ".join(part for part in parts if part)
