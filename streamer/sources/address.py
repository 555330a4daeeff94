"""What a camera's URL means: checked word for word, and nothing opened."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamer import plugins
from streamer.errors import ConfigError
from streamer.urls import redact

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOST_SLASHES = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/?(?!/)")
_PATH_SETTINGS = re.compile(r"\?(\w+=[^?*\[]*)$")  # a "?" before anything else belongs to a glob
_DEVICE = re.compile(r"/dev/video\d+")
_RECORDED_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv"})


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to read a source, whatever kind it is; a source takes what it understands."""

    transport: Literal["tcp", "udp"] = "tcp"  # of RTSP
    open_timeout: float = 10.0  # seconds
    read_timeout: float = 10.0  # seconds without a picture after which a live source counts as broken
    threads: int | None = None  # of the decoder; None: one for live sources, all cores for files
    live: bool | None = None  # None: judged by the URL
    size: tuple[int, int] | None = None  # (width, height) in pixels to scale to; None: as it comes
    backend: Literal["auto", "av", "gstreamer"] = "auto"  # what decodes; auto: FFmpeg


@dataclass(frozen=True, slots=True)
class Address:
    """A URL understood: which row of SCHEMES reads it, and what that row is told."""

    scheme: str
    target: str = field(repr=False)  # what is opened: a URL with its password, or a path
    settings: Mapping[str, Any] = field(default_factory=dict)  # from the query, in the types of their readers

    @property
    def shown(self) -> str:
        """The only form that messages may hold."""
        return redact(self.target) or f"{self.scheme}://"


@dataclass(frozen=True, slots=True)
class Scheme:
    """One kind of source: who opens it ("module:function"), and how its URL is read."""

    factory: str
    read: Callable[[str, SplitResult], Address]
    gstreamer: str | None = None  # who opens it through GStreamer; None: nobody can


def parse_url(url: str) -> Address:
    """Read a camera's URL, or a path. Raises ConfigError, one sentence, when it cannot be meant."""
    match = _SCHEME.match(url)
    if match is None:
        return _path(url)
    name = match[1].lower()
    if name not in SCHEMES and plugins.offers("streamer.sources", name):
        return Address(name, _split(url).geturl(), dict(parse_qsl(urlsplit(url).query)))
    if name not in SCHEMES:
        raise ConfigError(f"{name}:// is no kind of source{_suggestion(name)}")
    return SCHEMES[name].read(name, _split(url))


def is_live(address: Address, options: SourceOptions) -> bool:
    """Judge whether a source is live: over HTTP a name such as clip.mp4 means a recording; files are, unless told."""
    if options.live is not None or address.scheme == "file":
        return bool(options.live)
    recorded = PurePosixPath(urlsplit(address.target).path).suffix.lower() in _RECORDED_SUFFIXES
    return not (recorded and address.scheme in ("http", "https"))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is parsed only when asked for
    except ValueError as error:
        # The URL is not shown: where a password broke it, nobody can tell which part of it is the password.
        raise ConfigError(f"the URL is malformed ({_ESCAPE})") from error
    if "@" in parts.query + parts.fragment and "@" not in parts.netloc:
        raise ConfigError(f"the URL has its '@' after a '?' or '#' ({_ESCAPE})")
    return parts


_ESCAPE = "write special characters of a password in percent-encoding: '#' is %23, '/' is %2F, '?' is %3F, '@' is %40"


def _suggestion(name: str) -> str:
    swapped = [scheme for scheme in SCHEMES if sorted(scheme) == sorted(name)]  # "rtps", which difflib calls "rtsps"
    near = swapped or difflib.get_close_matches(name, SCHEMES, 1)
    return f"; did you mean {near[0]}://?" if near else f"; there are {', '.join(SCHEMES)}, and plain paths"


# --- one reader a kind ---


def _path(text: str) -> Address:
    if not text.strip():
        raise ConfigError("the URL is empty; give a camera's URL, a path, or synthetic://")
    slip = _LOST_SLASHES.match(text)
    if slip and slip[1].lower() in SCHEMES:
        raise ConfigError(f"after {slip[1]}: two slashes are missing; write {slip[1].lower()}://…")
    query = _PATH_SETTINGS.search(text)
    path, settings = (text[: query.start()], query[1]) if query else (text, "")
    if _DEVICE.fullmatch(path):
        return Address("v4l2", path, _settings("v4l2", settings, _DEVICE_SETTINGS))
    return Address("file", path, _settings("file", settings, _FILE_SETTINGS))


def _file(scheme: str, parts: SplitResult) -> Address:
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"file://{parts.netloc}… names a host; write three slashes: file:///{parts.netloc}…")
    if not parts.path.strip("/"):
        raise ConfigError("file:// names no file; write file:///path/to/video.mp4")
    return Address(scheme, unquote(parts.path), _settings(scheme, parts.query, _FILE_SETTINGS))


def _device(scheme: str, parts: SplitResult) -> Address:
    if not parts.path.startswith("/") or parts.netloc:
        raise ConfigError(f"{scheme}:// names no device; write {scheme}:///dev/video0")
    return Address(scheme, parts.path, _settings(scheme, parts.query, _DEVICE_SETTINGS))


def _synthetic(scheme: str, parts: SplitResult) -> Address:
    if parts.path or parts.netloc not in ("", "city"):
        write = f"write {scheme}://?size=640x360&fps=15&seed=1, or {scheme}://city?objects=12"
        raise ConfigError(f"{scheme}:// has no host or path, unless it is city; {write}")
    if parts.netloc:
        return Address(scheme, f"{scheme}://city", _settings(scheme, parts.query, _CITY_SETTINGS))
    return Address(scheme, "", _settings(scheme, parts.query, _SYNTHETIC_SETTINGS))


def _host(scheme: str, parts: SplitResult) -> Address:
    if not parts.hostname:
        raise ConfigError(f"{scheme}:// names no host; write {scheme}://host:port/path")
    return Address(scheme, parts.geturl())


def _port(scheme: str, parts: SplitResult) -> Address:
    if parts.port is None:
        raise ConfigError(f"{scheme}:// names no port; write {scheme}://host:port")
    return Address(scheme, parts.geturl())


# --- settings in a query ---

Reader = Callable[[str], Any]


def _settings(scheme: str, query: str, known: Mapping[str, Reader]) -> Mapping[str, Any]:
    settings = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"{key!r} is no setting of {scheme}:// sources; {hint}")
        try:
            settings[key] = known[key](value)
        except ValueError as error:
            raise ConfigError(f"{key}={value} is not {error}") from error
    return settings


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or min(int(match[1]), int(match[2])) < _LEAST_SIDE:
        raise ValueError(f"a size; write WIDTHxHEIGHT in pixels, at least {_LEAST_SIDE} each, such as 640x360")
    return int(match[1]), int(match[2])


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= _MOST_FPS:
        raise ValueError(f"a frame rate; write frames a second, more than 0 and at most {_MOST_FPS}")
    return rate


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError("a whole number; write digits only")
    return int(text)


def _objects(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > _MOST_OBJECTS:
        raise ValueError(f"a number of objects; write a whole number up to {_MOST_OBJECTS}")
    return int(text)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("a flag; write 0 or 1")
    return text == "1"


_LEAST_SIDE = 16
_MOST_FPS = 1000
_MOST_OBJECTS = 200
_FILE_SETTINGS: Mapping[str, Reader] = {"fps": _rate}  # of a folder of images
_DEVICE_SETTINGS: Mapping[str, Reader] = {"size": _size, "fps": _rate, "format": str}
_SYNTHETIC_SETTINGS: Mapping[str, Reader] = {
    "size": _size,
    "fps": _rate,
    "seed": _count,
    "frames": _count,
    "realtime": _flag,
}
_CITY_SETTINGS: Mapping[str, Reader] = {**_SYNTHETIC_SETTINGS, "objects": _objects}

_NETWORK = "streamer.sources.av:from_network"
_GSTREAMER = "streamer.sources.gstreamer:from_address"
SCHEMES: Mapping[str, Scheme] = {
    "rtsp": Scheme(_NETWORK, _host, _GSTREAMER),
    "rtsps": Scheme(_NETWORK, _host, _GSTREAMER),
    "http": Scheme(_NETWORK, _host, _GSTREAMER),
    "https": Scheme(_NETWORK, _host, _GSTREAMER),
    "rtmp": Scheme(_NETWORK, _host, _GSTREAMER),
    "rtmps": Scheme(_NETWORK, _host, _GSTREAMER),
    "srt": Scheme(_NETWORK, _port, _GSTREAMER),
    "tcp": Scheme(_NETWORK, _port, _GSTREAMER),
    "udp": Scheme(_NETWORK, _port, _GSTREAMER),
    "file": Scheme("streamer.sources:from_path", _file, "streamer.sources:from_path"),
    "v4l2": Scheme("streamer.sources.av:from_device", _device, _GSTREAMER),
    "synthetic": Scheme("streamer.sources.synthetic:from_address", _synthetic),
}
