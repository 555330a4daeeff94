"""From configuration to sources, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.runtimes.base import Goal
from streamer import config, pipeline
from streamer.backoff import Backoff
from streamer.events import Observer
from streamer.sources import SourceOptions, open_source
from streamer.sources.adapters import Paced
from streamer.sources.base import Source


def make_sources(cameras: Mapping[str, config.Camera], observer: Observer) -> list[Source]:
    """Make a source for every camera; nothing is opened yet."""
    return [_source(name, camera, observer) for name, camera in cameras.items()]


def goal_of(sources: Sequence[Source]) -> Goal:
    """Say what models should aim at: one live camera wants each frame soon; more of them, or recordings, want many."""
    return "latency" if len(sources) == 1 and sources[0].live else "throughput"


def _source(name: str, camera: config.Camera, observer: Observer) -> Source:
    options = SourceOptions(
        transport=camera.transport, open_timeout=camera.open_timeout, read_timeout=camera.read_timeout
    )
    source = open_source(name, camera.url, options, observer)
    return Paced(source) if camera.realtime and not source.live else source


def make_backoff(cameras: Mapping[str, config.Camera]) -> dict[str, Backoff]:
    return {name: Backoff(c.reconnect.delay, c.reconnect.max_delay) for name, c in cameras.items()}


def make_limits(limits: config.Limits) -> pipeline.Limits:
    return pipeline.Limits(limits.batch, limits.live_frames, limits.file_frames, limits.batches)
