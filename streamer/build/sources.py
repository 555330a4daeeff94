"""From configuration to sources, and what bounds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.runtimes.base import Goal
from streamer import config, pipeline
from streamer.backoff import Backoff
from streamer.errors import ConfigError
from streamer.events import Observer
from streamer.intake import Admission
from streamer.sources import SourceOptions, open_pipeline, open_source
from streamer.sources.adapters import Paced
from streamer.sources.base import Source


def make_sources(cameras: Mapping[str, config.Camera], observer: Observer) -> list[Source]:
    """Make a source for every camera; nothing is opened yet."""
    return [make_source(name, camera, observer) for name, camera in cameras.items()]


def make_source(name: str, camera: config.Camera, observer: Observer) -> Source:
    """Make the source of one camera; it is not opened yet."""
    options = SourceOptions(
        transport=camera.transport,
        open_timeout=camera.open_timeout,
        read_timeout=camera.read_timeout,
        size=camera.size,
        backend=camera.source,
    )
    if camera.pipeline:
        try:
            return open_pipeline(name, camera.pipeline, options, observer)
        except ConfigError as error:
            raise ConfigError(f"cameras.{name}.pipeline: {error}") from error
    source = open_source(name, camera.url, options, observer)
    return Paced(source) if camera.realtime and not source.live else source


def goal_of(sources: Sequence[Source]) -> Goal:
    """Say what models should aim at: one live camera wants each frame soon; more of them, or recordings, want many."""
    return "latency" if len(sources) == 1 and sources[0].live else "throughput"


def make_backoff(cameras: Mapping[str, config.Camera]) -> dict[str, Backoff]:
    """Say for every camera how long to wait before it is tried again."""
    return {name: _backoff(camera.reconnect) for name, camera in cameras.items()}


def make_admissions(cameras: Mapping[str, config.Camera]) -> dict[str, Admission]:
    """Say for every camera which of its frames get in, and how they rank."""
    return {name: Admission(c.fps, c.priority, c.drop, c.paused) for name, c in cameras.items()}


def _backoff(reconnect: config.Reconnect) -> Backoff:
    return Backoff(reconnect.delay, reconnect.max_delay, refused=reconnect.refused)


def make_limits(settings: config.Pipeline) -> pipeline.Limits:
    limits = settings.limits
    return pipeline.Limits(
        batch=limits.batch,
        live_frames=limits.live_frames,
        file_frames=limits.file_frames,
        batches=limits.batches,
        drain=limits.drain,
        stage=limits.stage,
        latency=settings.latency,
    )
