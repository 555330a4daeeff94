"""From configuration to sinks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from streamer import config
from streamer.errors import InputError, SinkError, SinkUnusable
from streamer.events import Observer, ignore
from streamer.sinks.base import Sink
from streamer.sinks.files import Existing
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.sinks.video import VideoSink
from streamer.urls import redact
from streamer.wire import Encoder, NodeFacts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outlet:
    """What it takes to open a sink."""

    facts: Mapping[str, NodeFacts]  # by node
    cameras: tuple[str, ...]
    live: bool
    observer: Observer = ignore
    existing: Existing = "refuse"  # what to do with output files that hold something
    _encoders: dict[frozenset[str] | None, Encoder] = field(default_factory=dict, init=False, repr=False, compare=False)

    def encoder(self, nodes: Sequence[str] | None = None) -> Encoder:
        """Make what writes the results of *nodes*, one for all sinks that want the same: so each is encoded once."""
        key = None if nodes is None else frozenset(nodes)
        return self._encoders.setdefault(key, Encoder(self.facts, nodes))


@contextmanager
def open_sinks(wanted: Sequence[config.Publish], outlet: Outlet) -> Iterator[list[Sink]]:
    """Open every sink; at the end deliver what is still on its way, and close them. Raises SinkError."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(sink))
            for entry in wanted
            for sink in _SINKS.get(type(entry), _own)(entry, outlet)
        ]


def check_sink(entry: config.Publish) -> str:
    """Find out whether a sink would work, and say what was found. Raises SinkError."""
    if isinstance(entry, config.Redis):
        with closing(RedisSink(entry.url, lambda _: b"")) as sink:
            sink.check()
        return f"answers at {redact(entry.url)}"
    if isinstance(entry, config.JsonLines | config.Video):
        if entry.path.is_dir():
            raise SinkUnusable(f"{entry.path} is a folder; name a file in it")
        folder = next(parent for parent in entry.path.absolute().parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise SinkUnusable(f"{entry.path} cannot be written: no permission in {folder}")
        return f"can be written in {folder}"
    check = getattr(entry, "check", None)
    return str(check()) if callable(check) else "is opened when the pipeline runs"


def _redis(entry: config.Redis, outlet: Outlet) -> Iterator[Sink]:
    """Refuse a wrong password before anything starts; a live pipeline waits for a server that is not there yet."""
    options = RedisOptions(entry.prefix, entry.maxlen, entry.latest_ttl, entry.buffer, entry.buffer_bytes)
    if not outlet.live:
        options = replace(options, when_full="wait", close_deadline=None)
    encoder = outlet.encoder(entry.nodes)
    sink = RedisSink(entry.url, encoder, options, outlet.observer, encoder.beside)
    try:
        sink.check()
    except SinkUnusable:
        raise
    except SinkError as error:
        if not outlet.live:
            raise SinkUnusable(str(error)) from error
        log.warning("%s; results wait until it does", error)
    yield sink


def _json_lines(entry: config.JsonLines, outlet: Outlet) -> Iterator[Sink]:
    yield JsonlSink(entry.path, outlet.encoder(entry.nodes), existing=outlet.existing)


def _video(entry: config.Video, outlet: Outlet) -> Iterator[Sink]:
    if len(outlet.cameras) > 1 and "{camera}" not in str(entry.path):
        raise InputError(
            f"publish: {entry.path} is one video for {len(outlet.cameras)} cameras; put {{camera}} into it"
        )
    facts = {name: one for name, one in outlet.facts.items() if entry.nodes is None or name in entry.nodes}
    for camera in outlet.cameras:
        path = Path(str(entry.path).replace("{camera}", camera))
        yield VideoSink(path, camera, facts, existing=outlet.existing, flow=entry.flow)


def _own(entry: Openable, outlet: Outlet) -> Iterator[Sink]:
    yield entry.open(outlet)


class Openable(Protocol):
    """A sink of another package; `check() -> str` may tell, or raise SinkError, whether it would work."""

    def open(self, outlet: Outlet, /) -> Sink: ...


_SINKS: dict[type[config.Publish], Callable[[Any, Outlet], Iterator[Sink]]] = {
    config.Redis: _redis,
    config.JsonLines: _json_lines,
    config.Video: _video,
}
