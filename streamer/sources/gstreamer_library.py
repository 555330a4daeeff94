"""The border to GStreamer itself: imported when a camera first needs it, and asked what it can do here."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from streamer.errors import ConfigError

_APT = "apt-get install"
_BINDINGS = f"{_APT} libgirepository-1.0-1 gir1.2-gst-plugins-base-1.0, then pip install 'streamer[gstreamer]'"
_USUAL = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav"
_PACKAGES = {  # of the elements that plans and people use; what is not here is in one of the usual packages
    "gstreamer1.0-plugins-base": ("appsink", "parsebin", "decodebin", "decodebin3", "uridecodebin", "tcpclientsrc",
                                  "tcpserversrc", "videoconvert", "videoscale", "videorate", "videotestsrc"),
    "gstreamer1.0-plugins-good": ("rtspsrc", "udpsrc", "souphttpsrc", "v4l2src", "qtdemux", "matroskademux", "jpegdec",
                                  "rtph264depay", "rtph265depay", "rtpjitterbuffer", "multipartdemux"),
    "gstreamer1.0-plugins-bad": ("h264parse", "h265parse", "jpegparse", "srtsrc", "rtmp2src", "tsdemux", "nvh264dec",
                                 "nvh265dec", "vah264dec", "vah265dec", "vapostproc", "v4l2slh264dec"),
    "gstreamer1.0-libav": ("avdec_h264", "avdec_h265", "avdec_mjpeg"),
    "gstreamer1.0-plugins-ugly": ("x264enc",),
    "gstreamer1.0-vaapi": ("vaapidecodebin", "vaapih264dec", "vaapih265dec", "vaapipostproc"),
}  # fmt: skip  # one line a package reads better


@functools.cache
def gstreamer() -> SimpleNamespace:
    """Import and start GStreamer: `.Gst`, `.GstVideo`, `.GLib`. Raises ConfigError, with the line that installs it."""
    _keep_unwinder()
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        gi.require_version("GstVideo", "1.0")
        from gi.repository import GLib, Gst, GstApp, GstVideo
    except (ImportError, ValueError) as error:  # ValueError: no typelib of that name
        raise ConfigError(f"GStreamer cannot be used ({error}); get it with: {_BINDINGS}") from error
    Gst.init(None)
    return SimpleNamespace(Gst=Gst, GstApp=GstApp, GstVideo=GstVideo, GLib=GLib)


def _keep_unwinder() -> None:
    """Put GCC's unwinder before libunwind, which GStreamer brings for all to see.

    OpenVINO's libraries, loaded later, would else throw their C++ exceptions by the one and catch them by the other,
    and the process would be aborted.
    """
    with suppress(OSError):  # no such library: then there is no GCC whose exceptions could be mixed up
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)


@functools.cache
def elements() -> frozenset[str]:
    """Name every element that this machine's registry has; a hardware decoder is in it only with its driver."""
    Gst = gstreamer().Gst  # noqa: N806 - the library's own name
    factories = Gst.Registry.get().get_feature_list(Gst.ElementFactory)
    return frozenset(factory.get_name() for factory in factories)


def each(iterator: Any) -> Iterator[Any]:
    """Go through one of GStreamer's iterators."""
    ok = gstreamer().Gst.IteratorResult.OK
    while True:
        result, value = iterator.next()
        if result != ok:
            return
        yield value


def install(missing: Iterable[str]) -> str:
    """Return the line that installs the elements *missing*."""
    owners = {name: package for package, names in _PACKAGES.items() for name in names}
    return f"{_APT} {' '.join(sorted({owners.get(name, _USUAL) for name in missing}))}"


def install_usual() -> str:
    """Return the line that installs what most streams need."""
    return f"{_APT} {_USUAL}"
