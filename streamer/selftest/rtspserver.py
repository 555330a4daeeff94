"""An RTSP server of H.264 files, as a process of its own: it may run in a Python that has GStreamer but none of ours.

It is given one argument, JSON of files by name; serves each at /NAME, from its beginning to everyone who asks; says the
port as soon as it listens; and ends with its standard input.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# Everything that a camera adds by itself: the headers again and again, and sender reports that tell when it was filmed.
_PLAY = '( filesrc location="{}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )'


def main(files: dict[str, str]) -> None:
    """Serve until standard input ends."""
    import gi  # pygobject has no types, and need not be here

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
    for name, path in files.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(_PLAY.format(path))
        server.get_mount_points().add_factory(f"/{name}", factory)
    if not server.attach(None):
        sys.exit("no port is free")
    loop = GLib.MainLoop()

    def ended(stdin: Any, _condition: Any) -> bool:
        there = bool(stdin.readline())
        if not there:
            loop.quit()
        return there

    GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, ended)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
