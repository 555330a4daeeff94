"""The films as live cameras: over RTSP where GStreamer can serve them, else as files that play at their own speed."""

from __future__ import annotations

import functools
import json
import logging
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamer.selftest.films import Footage

log = logging.getLogger(__name__)

_PROBE = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
_SERVER = Path(__file__).with_name("rtspserver.py")
_STARTED = 10.0  # seconds within which it must listen
_LONG = "60s"  # until a camera is tried again: a film is shown once


@dataclass(frozen=True, slots=True)
class Cameras:
    """How each film is had, as a pipeline file would say it."""

    how: str  # for people
    told: Mapping[str, Mapping[str, Any]]  # settings by camera


@contextmanager
def live_cameras(footage: Sequence[Footage]) -> Iterator[Cameras]:
    """Let each film be a camera for as long as the context lasts."""
    with _served(footage) as port:
        if port is None:
            told = {each.film.name: {"url": str(each.path), "realtime": True, "drop": "newest"} for each in footage}
            yield Cameras("files at their own speed", told)
            return
        patient = {"reconnect": {"delay": _LONG, "max_delay": _LONG}}
        names = [each.film.name for each in footage]
        yield Cameras("RTSP", {name: {"url": f"rtsp://127.0.0.1:{port}/{name}", **patient} for name in names})


@contextmanager
def _served(footage: Sequence[Footage]) -> Iterator[int | None]:
    """Serve all films; yield the port, None where nothing here can."""
    python = _python()
    if python is None:
        yield None
        return
    files = json.dumps({each.film.name: str(each.path.resolve()) for each in footage})
    with subprocess.Popen(  # noqa: S603 - our own command line
        [python, str(_SERVER), files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            yield _port(server)
        finally:
            server.kill()


def _port(server: subprocess.Popen[str]) -> int | None:
    out = server.stdout
    ready = out is not None and select.select([out], [], [], _STARTED)[0]
    said = out.readline().strip() if ready and out is not None else ""
    if not said.isdigit():
        log.warning("GStreamer's RTSP server does not start; the films are played from files instead")
        return None
    return int(said)


@functools.cache
def _python() -> str | None:
    """Find a Python that has GStreamer's RTSP server: this one, else the system's."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if python is None:
            continue
        probe = subprocess.run([python, "-c", _PROBE], capture_output=True, check=False)  # noqa: S603 - as above
        if probe.returncode == 0:
            return python
    return None
