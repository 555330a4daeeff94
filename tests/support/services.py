"""Whole pipelines for tests to open, run and change: the lightest graph there is, cameras that need nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from redisworld import eventually

from streamer import build, config
from streamer.events import Event
from streamer.notes import Note
from streamer.service import Hosting, Service
from streamer.sinks.base import Sink
from streamer.sinks.memory import MemorySink
from streamer.types import Frame

LIVE = "synthetic://?size=64x64&fps=25"


class Look:
    """Look at each frame and find nothing."""

    reads = ()
    writes = Note

    def __call__(self, frame: Frame) -> None:
        return None


NODE: Mapping[str, Any] = {"kind": "python", "class": "services:Look"}


def recorded(frames: int = 20) -> str:
    return f"synthetic://?size=64x64&fps=25&frames={frames}&realtime=0"


def plain(cameras: Mapping[str, str | Mapping[str, Any]], **keys: Any) -> dict[str, Any]:
    """Write a pipeline down: a camera is a URL, or all its settings; *keys* are the other parts of the file."""
    written = {name: {"url": camera} if isinstance(camera, str) else dict(camera) for name, camera in cameras.items()}
    return {"cameras": written, "nodes": {"look": dict(NODE)}, **keys}


def settings(cameras: Mapping[str, str | Mapping[str, Any]], **keys: Any) -> config.Pipeline:
    return config.parse(yaml.safe_dump(plain(cameras, **keys)), "p.yaml")


def written(path: Path, cameras: Mapping[str, str | Mapping[str, Any]], **keys: Any) -> Path:
    path.write_text(yaml.safe_dump(plain(cameras, **keys)))
    return path


class Recorder:
    """What came out of a service, and what could be observed."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.events: list[Event] = []

    def seqs(self, camera: str) -> list[int]:
        return [packet.frame.seq for packet in list(self.sink.packets) if packet.frame.camera == camera]

    def awaits(self, camera: str, frames: int) -> None:
        """Wait until so many of a camera have come."""
        eventually(lambda: len(self.seqs(camera)) >= frames, f"{frames} frames of {camera}")

    def sinks(self, outlet: build.Outlet) -> list[Sink]:
        return [self.sink]


@contextmanager
def running(of: config.Pipeline, recorder: Recorder | None = None, name: str = "p") -> Iterator[Service]:
    """Run a pipeline in a thread until the context ends; raise what it raised."""
    recorder = recorder or Recorder()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            service.run()
        except BaseException as error:  # noqa: BLE001 - carried to the test, which raises it
            errors.append(error)

    with Service(of, replace(Hosting(name), sinks=recorder.sinks)) as service:
        thread = threading.Thread(target=run, name="run")
        thread.start()
        try:
            eventually(service.started.is_set, "the start")
            yield service
        finally:
            service.stop()
            thread.join(10)
    assert not thread.is_alive()
    if errors:
        raise errors[0]
