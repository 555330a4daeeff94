"""RTSP cameras that die and come back by the clock, for soak tests: cheap, and nothing of them in the test's process.

    with flappy.cameras(4, every=20) as urls:
        …

Each camera is a gst-rtsp-server of its own that plays a coded file of 640 x 360. Every *every* seconds it is killed and
started again on the same port, the cameras in turn. Ask `rtsp.missing()` first whether this machine can do it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import rtsp
from reels import reel
from videos import Clip

_SIZE = (640, 360)
_SPARE = 10  # seconds of film beyond those that a camera lives


@contextmanager
def cameras(count: int, every: float, fps: int = 15, away: float = 0.0) -> Iterator[list[str]]:
    """Serve *count* cameras and yield their URLs; each is gone for *away* seconds after every *every* seconds."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Clip(4 * fps, _SIZE, fps, options={"g": str(fps), "preset": "ultrafast"})
        film = reel(Path(folder) / "film.mp4", every + _SPARE, clip)
        command = [sys.executable, __file__, str(film), str(count), str(every), str(away)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as warden:
            assert warden.stdout is not None
            assert warden.stdin is not None
            try:
                urls = warden.stdout.readline().split()
                assert len(urls) == count, "the cameras did not start; their message stands above"
                yield urls
            finally:
                warden.stdin.close()  # it lets its cameras go, and ends


# --- in the warden's process ---


def _guard(film: Path, count: int, every: float, away: float) -> None:
    """Serve until standard input ends."""
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    with ExitStack() as stack:
        served = [stack.enter_context(rtsp.serve(film)) for _ in range(count)]
        print(*(camera.url for camera in served), flush=True)
        began = time.monotonic()
        for turn in range(1, sys.maxsize):
            if over.wait(max(0.0, began + turn * every / count - time.monotonic())):
                return
            camera = served[turn % count]
            camera.kill()
            over.wait(away)
            camera.start()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, kind in (("film", Path), ("count", int), ("every", float), ("away", float)):
        parser.add_argument(name, type=kind)
    _guard(**vars(parser.parse_args()))
