"""A real RTSP camera for tests: GStreamer's gst-rtsp-server plays an H.264 file, in a process of its own.

    with rtsp.serve(Path("clip.mp4")) as camera:
        open_source("gate", camera.url, …)

Each client sees the file from its beginning, at its own speed. Ask `missing()` first whether this machine can do it.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROBE = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
_INSTALL = (
    "apt-get install gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad, "
    "and python3-gi or pip install 'streamer[gstreamer]'"
)


@functools.cache
def _python() -> str | None:
    """Find a Python that has gst-rtsp-server: this one, else the system's."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if python and subprocess.run([python, "-c", _PROBE], capture_output=True, check=False).returncode == 0:
            return python
    return None


def missing() -> str | None:
    """Say what this machine lacks and how to get it; None when it can serve."""
    return None if _python() else f"no Python here has gst-rtsp-server; get it with: {_INSTALL}"


@dataclass(frozen=True)
class Camera:
    """A running server; *url* holds its user name and password, if it asks for them."""

    url: str
    process: subprocess.Popen[str]

    def freeze(self) -> None:
        """Fall silent with every connection left open, as a camera with a hung encoder does."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serve(video: Path, user: str = "", password: str = "") -> Iterator[Camera]:
    """Serve *video* (H.264 in MP4) on a free port; ask for *user* and *password* where they are given."""
    python = _python()
    assert python is not None, missing()
    command = [python, __file__, str(video.resolve()), user, password]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            assert port, "the RTSP server did not start; its message stands above"
            login = f"{user}:{password}@" if user else ""
            yield Camera(f"rtsp://{login}127.0.0.1:{port}/live", process)
        finally:
            process.kill()


def _main() -> None:
    import gi  # type: ignore[import-untyped,unused-ignore]  # pygobject has no types, and need not be here

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-untyped,unused-ignore]  # as above

    parser = argparse.ArgumentParser()
    for name in ("video", "user", "password"):
        parser.add_argument(name)
    args = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
    factory = GstRtspServer.RTSPMediaFactory()
    payload = "rtph264pay name=pay0 pt=96 config-interval=-1"
    factory.set_launch(f'( filesrc location="{args.video}" ! qtdemux ! h264parse ! {payload} )')
    if args.user:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(args.user, args.password), token)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.new_from_string("viewer, media.factory.access=(bool)true, media.factory.construct=(bool)true")
        )
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    _main()
