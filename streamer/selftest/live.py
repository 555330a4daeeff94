"""The films as live cameras through everything at once, on the machine's own choice of runtimes, into Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from engines.build.base import Tell
from streamer.selftest.cameras import live_cameras
from streamer.selftest.films import Footage
from streamer.selftest.lineup import Lineup
from streamer.selftest.reading import Reel, read_back
from streamer.selftest.recorded import Place, settings
from streamer.service import Hosting, Service
from streamer.stats import CameraStats, Stats

_SPARE = 8.0  # seconds that cameras may take beyond the length of their film
_LOOK = 0.05  # seconds between two looks at whether all has come
_OVER = frozenset({"retrying", "ended", "failed"})


@dataclass(frozen=True, slots=True)
class Lived:
    """What a live run has left."""

    how: str  # the films were shown
    reels: tuple[Reel, ...]
    stats: Stats
    span: tuple[float, float]  # Unix seconds in which it ran
    runtimes: Mapping[str, str]  # what each node's model ran on, for people


def run_live(footage: Sequence[Footage], lineup: Lineup, place: Place, tell: Tell) -> Lived:
    """Run all nodes over all films, each shown once. Raises StreamerError and EngineError."""
    with live_cameras(footage) as cameras:
        told = settings(cameras.told, lineup.chosen(footage), place, {})
        with Service(told, Hosting("selftest", tell=tell)) as service:
            began = time.time()
            with _stopped_at_end(service, footage):
                service.run()
            span, runtimes = (began, time.time()), service.graph.runtimes
        stats = service.monitor.stats()  # only now: closing waits for the last results to arrive
    return Lived(cameras.how, read_back(place.url, place.prefix, footage), stats, span, runtimes)


@contextmanager
def _stopped_at_end(service: Service, footage: Sequence[Footage]) -> Iterator[None]:
    """Stop a pipeline whose cameras would go on for ever, once each film has been shown."""
    over = threading.Event()
    deadline = time.monotonic() + max(each.film.seconds for each in footage) + _SPARE

    def watch() -> None:
        while not over.wait(_LOOK):
            cameras = service.monitor.stats().cameras
            if time.monotonic() > deadline or all(_shown(cameras.get(each.film.name), each) for each in footage):
                service.stop()
                return

    thread = threading.Thread(target=watch, name="selftest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _shown(camera: CameraStats | None, footage: Footage) -> bool:
    return camera is not None and (camera.grabbed >= footage.film.frames or camera.state in _OVER)
