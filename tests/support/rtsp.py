"""A real RTSP camera for tests: GStreamer's gst-rtsp-server plays a coded file, in a process of its own.

    with rtsp.serve(Path("clip.mp4")) as camera:
        open_source("gate", camera.url, …)
        camera.kill(); camera.start()

Each client sees the file (H.264 or H.265, in MP4, Matroska or a transport stream) from its beginning, at its own speed,
with RTCP sender reports. Ask `missing()` first whether this machine can do it. Nothing survives the test's own process.
"""

from __future__ import annotations

import functools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
class Plan:
    """What a server serves, and to whom."""

    video: str
    codec: str  # "h264" or "h265"
    user: str = ""  # empty: anybody
    password: str = ""
    loss: float = 0.0  # share of RTP packets that never arrive
    port: int = 0  # 0: any that is free


@dataclass
class Camera:
    """A server, and what may happen to it. It listens on the same port whenever it runs."""

    plan: Plan
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def url(self) -> str:
        """The camera's address, with the user name and password that it first asked for."""
        login = f"{self.plan.user}:{self.plan.password}@" if self.plan.user else ""
        return f"rtsp://{login}127.0.0.1:{self.plan.port}/live"

    def start(self, password: str | None = None) -> None:
        """Start the server (again); ask for another *password* where one is given."""
        plan = asdict(self.plan) | ({} if password is None else {"password": password})
        command = [_python() or sys.executable, __file__, json.dumps(plan)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self._answer()
        assert port, "the RTSP server did not start; its message stands above"
        self.plan = Plan(**{**asdict(self.plan), "port": int(port)})

    def kill(self) -> None:
        """End it at once: the system closes its sockets, its port is closed."""
        self.process.kill()
        self.process.communicate()

    def freeze(self) -> None:
        """Fall silent with every connection left open, as a camera with a hung system does."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def show(self, video: Path) -> None:
        """Hang up, and show every new client another video, of any codec."""
        self._tell("show", str(video.resolve()), codec_of(video))
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection."""
        self._tell("hang_up")

    def withhold(self, drop: bool) -> None:
        """Answer as ever, but send no pictures, until told otherwise."""
        self._tell("set", "valve", "drop", drop)

    def garble(self, share: float) -> None:
        """Change this share of all coded bytes at random."""
        self._tell("set", "garble", "probability", share)

    def _tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def codec_of(video: Path) -> str:
    import av  # not at the top: the server's Python may not have it

    with av.open(str(video)) as container:
        return {"h264": "h264", "hevc": "h265"}[container.streams.video[0].codec.canonical_name]


@contextmanager
def serve(video: Path, user: str = "", password: str = "", loss: float = 0.0) -> Iterator[Camera]:
    """Serve *video* on a free port; ask for *user* and *password* where they are given; *loss* is of RTP packets."""
    assert _python() is not None, missing()
    camera = Camera(Plan(str(video.resolve()), codec_of(video), user, password, loss))
    try:
        yield camera
    finally:
        camera.kill()


# --- in the server's process ---

_DEMUXERS = {".mp4": "qtdemux", ".mkv": "matroskademux", ".ts": "tsdemux"}


def _launch(video: str, codec: str, loss: float) -> str:
    demuxer = _DEMUXERS[Path(video).suffix]
    faults = "breakmydata name=garble ! valve name=valve"
    pay = f"rtp{codec}pay name=pay0 pt=96 config-interval=-1"
    if loss:  # in small packets, so that a picture may lose a part
        pay = f"{pay.replace('pay0', 'pay')} mtu=300 ! identity name=pay0 drop-probability={loss}"
    return f'( filesrc location="{video}" ! {demuxer} ! {codec}parse ! {faults} ! {pay} )'


class _Server:
    """A gst-rtsp-server that takes orders from its standard input, and ends with it."""

    def __init__(self, plan: Plan) -> None:
        import gi  # type: ignore[import-untyped,unused-ignore]  # pygobject has no types, and need not be here

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-untyped,unused-ignore]  # as above

        self._plan, self._glib, self._gst, self._rtsp = plan, GLib, Gst, GstRtspServer
        self._medias: list[Any] = []
        self._properties: dict[tuple[str, str], Any] = {}
        Gst.init(None)
        GLib.random_set_seed(1)  # it decides which packets are lost
        self._server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(plan.port))
        self._loop = GLib.MainLoop()

    def run(self) -> None:
        """Serve until standard input ends; say the port as soon as it listens."""
        if self._plan.user:
            self._ask_for_password()
        self.show(self._plan.video, self._plan.codec)
        assert self._server.attach(None), f"port {self._plan.port} is taken"
        print(self._server.get_bound_port(), flush=True)
        condition = self._glib.IOCondition.IN | self._glib.IOCondition.HUP
        self._glib.io_add_watch(sys.stdin, self._glib.PRIORITY_DEFAULT, condition, self._obey)
        self._loop.run()

    def show(self, video: str, codec: str) -> None:
        factory = self._rtsp.RTSPMediaFactory()
        factory.set_launch(_launch(video, codec, self._plan.loss))
        factory.connect("media-configure", self._configure)
        if self._plan.user:
            structure = "viewer, media.factory.access=(bool)true, media.factory.construct=(bool)true"
            factory.add_role_from_structure(self._gst.Structure.new_from_string(structure))
        self._server.get_mount_points().add_factory("/live", factory)

    def set(self, element: str, name: str, value: object) -> None:
        self._properties[element, name] = value
        for media in self._medias:
            media.get_element().get_by_name(element).set_property(name, value)

    def hang_up(self) -> None:
        self._server.client_filter(lambda *_: self._rtsp.RTSPFilterResult.REMOVE)

    def _obey(self, stdin: Any, _: Any) -> bool:
        line = stdin.readline()
        if not line:  # whoever started us is gone
            self._loop.quit()
            return False
        word, *values = json.loads(line)
        orders: Mapping[str, Callable[..., None]] = {"show": self.show, "set": self.set, "hang_up": self.hang_up}
        orders[word](*values)
        print("done", flush=True)
        return True

    def _ask_for_password(self) -> None:
        auth, token = self._rtsp.RTSPAuth(), self._rtsp.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(self._rtsp.RTSPAuth.make_basic(self._plan.user, self._plan.password), token)
        self._server.set_auth(auth)

    def _configure(self, _: Any, media: Any) -> None:
        media.connect("new-state", self._changed)
        media.connect("unprepared", self._gone)

    def _gone(self, media: Any) -> None:
        self._medias = [other for other in self._medias if other != media]

    def _changed(self, media: Any, state: int) -> None:
        """Break what plays, and not before: a client could not be told what to expect."""
        if state == int(self._gst.State.PLAYING) and media not in self._medias:
            self._medias.append(media)
            for (element, name), value in self._properties.items():
                media.get_element().get_by_name(element).set_property(name, value)


if __name__ == "__main__":
    _Server(Plan(**json.loads(sys.argv[1]))).run()
