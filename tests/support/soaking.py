"""A whole streamer in a process of its own that runs for a while and weighs itself; for soak tests.

python soaking.py SECONDS REDIS-URL CAMERA-URL…        prints one JSON object, `Soaked`
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import psutil
from services import settings

from streamer import build
from streamer.events import CameraState, Event, FrameDropped, FrameGrabbed, ResultsDropped, ResultsWritten
from streamer.service import Hosting, Service
from streamer.sinks.base import Sink
from streamer.types import Packet


@dataclass(slots=True)
class Line:
    """What one camera's results were like, in numbers only: a soak must not remember frames."""

    published: int = 0
    last: int = -1
    gaps: int = 0  # numbers left out
    doubled: int = 0  # numbers that came again, or late


@dataclass
class Soaked:
    lines: dict[str, Line] = field(default_factory=dict)
    grabbed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    dropped: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # frames by camera
    opened: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    written: int = 0  # results that Redis acknowledged
    given_up: int = 0
    resident: list[int] = field(default_factory=list)  # bytes, once a second
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    before: tuple[int, int] = (0, 0)  # threads and files before it began
    after: tuple[int, int] = (0, 0)  # and when it was over


class Tallies:
    """A sink and an observer that count."""

    name = "tallies"

    def __init__(self) -> None:
        self.soaked = Soaked()

    def publish(self, packets: Sequence[Packet]) -> None:
        for frame in (packet.frame for packet in packets):
            line = self.soaked.lines.setdefault(frame.camera, Line())
            line.published += 1
            line.doubled += frame.seq <= line.last
            line.gaps += max(0, frame.seq - line.last - 1)
            line.last = max(line.last, frame.seq)

    def close(self) -> None:
        pass

    def __call__(self, event: Event) -> None:
        match event:
            case FrameGrabbed(camera):
                self.soaked.grabbed[camera] += 1
            case FrameDropped(camera, _, count):
                self.soaked.dropped[camera] += count
            case CameraState(camera, "running"):
                self.soaked.opened[camera] += 1
            case ResultsWritten(_, results):
                self.soaked.written += len(results)
            case ResultsDropped(_, count):
                self.soaked.given_up += count


class Watching(Service):
    """A service that tells a test as well what is observed."""

    tallies: Tallies

    def _observe(self, event: Event) -> None:
        super()._observe(event)
        self.tallies(event)


def soak(seconds: float, redis: str, cameras: Sequence[str]) -> Soaked:
    """Run a pipeline of everything that `streamer run` opens."""
    tallies, me = Tallies(), psutil.Process()
    soaked = tallies.soaked
    soaked.before = (me.num_threads(), me.num_fds())
    of = settings(
        {f"cam{i}": {"url": url, "read_timeout": "3s"} for i, url in enumerate(cameras)},
        publish=[{"kind": "redis", "url": redis, "maxlen": 500}],
        monitor={"http": "127.0.0.1:0"},
    )

    def sinks(outlet: build.Outlet) -> Sequence[Sink]:
        return [tallies]

    service = Watching(of, Hosting(sinks=sinks))
    service.tallies = tallies
    with service:
        thread = threading.Thread(target=service.run)
        thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(1.0)  # between two weighings
            soaked.resident.append(me.memory_info().rss)
            soaked.threads.append(me.num_threads())
            soaked.files.append(me.num_fds())
        service.stop()
        thread.join()
    gc.collect()
    soaked.after = (me.num_threads(), me.num_fds())
    return soaked


if __name__ == "__main__":
    told = vars(soak(float(sys.argv[1]), sys.argv[2], sys.argv[3:]))
    print(json.dumps({**told, "lines": {camera: asdict(line) for camera, line in told["lines"].items()}}))
