"""Whether the GStreamer source can be tested here."""

from __future__ import annotations

import functools

from streamer.errors import ConfigError
from streamer.sources.gstreamer_library import elements, install
from streamer.sources.gstreamer_plan import lacking

_NEEDED = (
    "rtspsrc ! souphttpsrc ! qtdemux ! matroskademux ! tsdemux ! hlsdemux ! multipartdemux ! h264parse ! h265parse ! "
    "avdec_h264 ! avdec_h265 ! avdec_mjpeg ! avdec_mpeg4 ! vp9dec ! rtph264depay ! rtph265depay"
)


@functools.cache
def missing() -> str | None:
    """Say what this machine lacks and how to get it; None when GStreamer can be tested here."""
    try:
        gone = lacking(_NEEDED, elements())
    except ConfigError as error:
        return str(error)
    return f"GStreamer lacks {', '.join(gone)}; {install(gone)}" if gone else None
