"""Whether a pipeline is alive and ready, and what troubles it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from streamer.stats import CameraStats, LatencyTarget, SinkStats, Stats

_IDLE = ("paused", "ended")  # nobody expects frames of these


@dataclass(frozen=True, slots=True)
class Health:
    """*alive*: no restart is needed. *ready*: results can be expected."""

    alive: bool
    ready: bool
    troubles: tuple[str, ...] = ()


STARTING = Health(alive=True, ready=False, troubles=("starting: models are being opened",))
ENDED = Health(alive=True, ready=False, troubles=("ending: no more frames are taken",))


def health_of(stats: Stats, busy: Mapping[str, float], limit: float) -> Health:
    """Judge a pipeline that has started.

    Alive: no thread of *busy* (its name -> seconds at its present batch) has needed more than *limit* seconds.
    Ready: a camera is running, or none is expected to.
    """
    hanging = {thread: seconds for thread, seconds in busy.items() if seconds > limit}
    expected = [camera.state for camera in stats.cameras.values() if camera.state not in _IDLE]
    troubles = [f"{thread} has been working on one batch for {seconds:.0f} s" for thread, seconds in hanging.items()]
    troubles += [line for name, camera in stats.cameras.items() for line in _of_camera(name, camera)]
    troubles += [line for name, sink in stats.sinks.items() for line in _of_sink(name, sink)]
    troubles += _of_latency(stats.latency)
    ready = not expected or "running" in expected
    if not ready and not troubles:
        troubles = ["no camera has connected yet"]
    return Health(not hanging, ready, tuple(troubles))


def _of_camera(name: str, camera: CameraStats) -> Iterator[str]:
    if camera.state in ("retrying", "failed") or (camera.state == "connecting" and camera.error):
        yield f"{name}: {camera.state}: {camera.error or 'no reason is known'}"


def _of_sink(name: str, sink: SinkStats) -> Iterator[str]:
    if sink.error:
        yield f"{name}: {sink.error}"


def _of_latency(latency: LatencyTarget | None) -> Iterator[str]:
    if latency is not None and not latency.held:
        yield f"latency: {latency.detail}"
