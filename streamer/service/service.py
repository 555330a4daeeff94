"""One pipeline file, opened: its graph, sinks and exporters around a pipeline whose cameras may change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Self

from engines.build.base import Tell, silent
from engines.load import Upkeep
from engines.zoo import Progress, ignore
from streamer import build, config
from streamer.control import Desk, listening
from streamer.errors import InputError
from streamer.events import CameraState, Event
from streamer.exporters.http import serving
from streamer.exporters.redis import RedisExporter
from streamer.exporters.ticker import exporting
from streamer.health import ENDED, STARTING, Health, health_of
from streamer.monitor import Monitor
from streamer.monitor.machine import Machine
from streamer.pipeline import Pipeline
from streamer.service.change import Change, beyond_cameras, difference
from streamer.sinks.base import Sink
from streamer.sinks.files import Existing
from streamer.sources.base import Source
from streamer.stats import Stats

log = logging.getLogger(__name__)


Phase = Literal["started", "ending"]


def silence(phase: Phase) -> None:
    """Tell nobody that a pipeline has started, or ends."""


def no_sinks(outlet: build.Outlet) -> Sequence[Sink]:  # noqa: ARG001 - as any `Hosting.sinks`
    """Publish nowhere but where the file says."""
    return ()


@dataclass(frozen=True, slots=True)
class Hosting:
    """What the program decides in which a pipeline file runs."""

    name: str = "pipeline"  # under which it answers control messages
    existing: Existing = "append"  # what becomes of output files that hold something
    progress: Progress = ignore  # hears how far a download is
    tell: Tell = silent  # hears what is said in passing
    sinks: Callable[[build.Outlet], Sequence[Sink]] = no_sinks  # beside those of the file; closed by whoever made them
    phase: Callable[[Phase], None] = silence  # hears that the threads run, and that the end has begun; must be quick


class Service:
    """A context manager: inside, everything is open that *settings* name, and `pipeline` can be run once.

    Cameras may be changed from any thread but a signal handler's; two changes do not mix.
    """

    def __init__(self, settings: config.Pipeline, hosting: Hosting | None = None) -> None:
        """Open nothing yet. Raise InputError when a model is not known."""
        self.settings = settings
        labels = {name: facts.labels for name, facts in build.find_facts(settings).items()}
        self.monitor = Monitor(labels, target=settings.latency)
        self.sinks: Sequence[Sink] = ()
        self.started = threading.Event()  # set once the pipeline's threads run
        self.ending = threading.Event()  # set once no more frames are taken
        self._hosting, self._machine = hosting or Hosting(), Machine.found()
        self._roster = _Roster(dict(settings.cameras), settings.publish, settings.limits.cameras)
        self._pipeline: Pipeline | None = None
        self._graph: build.Graph | None = None
        self._stack = ExitStack()
        self._lock, self._phases = threading.RLock(), threading.Lock()  # of changes; of started and ending

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    @property
    def pipeline(self) -> Pipeline:
        if self._pipeline is None:
            raise InputError("this pipeline is not open; use it in a with statement")
        return self._pipeline

    @property
    def graph(self) -> build.Graph:
        if self._graph is None:
            raise InputError("this pipeline is not open; use it in a with statement")
        return self._graph

    def stats(self) -> Stats:
        """Say how everything is doing."""
        stats = self.monitor.stats()
        if self._pipeline is not None:
            stats = replace(stats, queues=self._pipeline.depths(), busy=self._pipeline.busy())
        return self._machine.add_to(stats)

    def health(self) -> Health:
        """Say whether anything hangs, and whether results flow."""
        if self._pipeline is None or not self.started.is_set():
            return STARTING
        health = health_of(self.monitor.stats(), self._pipeline.busy(), self.settings.limits.stage)
        return replace(ENDED, alive=health.alive) if self.ending.is_set() else health

    def run(self) -> None:
        """Run the pipeline to its end; raise what it raises."""
        try:
            self.pipeline.run()
        finally:
            self._enter(self.ending, "ending")

    def stop(self) -> None:
        """Let every source end, and what is inside go through. Callable from any thread but that of `run`."""
        self._enter(self.ending, "ending")
        self.pipeline.stop()

    # --- the cameras ---

    def cameras(self) -> Mapping[str, config.Camera]:
        """Return the cameras that there are now, and their settings."""
        with self._lock:
            return dict(self._roster.cameras)

    def add(self, name: str, camera: config.Camera) -> None:
        """Add a camera, or put it in place of the one of its name. Raise InputError, having changed nothing."""
        with self._lock:
            self._roster.check_room([name])
            self._put(name, camera, self._source(name, camera))

    def remove(self, name: str) -> None:
        """Take a camera out. Raise InputError when there is none of that name."""
        with self._lock:
            self._roster.find(name)
            self.pipeline.remove(name)
            del self._roster.cameras[name]

    def pause(self, name: str) -> None:
        """Close the connection to a camera until it is resumed. Raises as `remove`."""
        with self._lock:
            camera = self._roster.find(name)
            self.pipeline.pause(name)
            self._roster.cameras[name] = camera.model_copy(update={"paused": True})

    def resume(self, name: str) -> None:
        """Connect again to a camera that was paused. Raises as `remove`."""
        with self._lock:
            camera = self._roster.find(name)
            self.pipeline.resume(name)
            self._roster.cameras[name] = camera.model_copy(update={"paused": False})

    def apply(self, settings: config.Pipeline) -> Change:
        """Let the cameras be as an edited file has them; those that it never named stay.

        Raise InputError, and change nothing, when anything but cameras differs or one of them cannot be.
        """
        with self._lock:
            if others := beyond_cameras(self.settings, settings):
                raise InputError(f"{', '.join(others)} changed: restart to apply them; nothing was changed")
            change = difference(self.settings.cameras, settings.cameras, self._roster.cameras)
            self._roster.check_room(change.added, len(change.removed))
            sources = {name: self._source(name, settings.cameras[name]) for name in (*change.changed, *change.added)}
            for name in change.removed:
                self.remove(name)
            for name, source in sources.items():
                self._put(name, settings.cameras[name], source)
            for name in change.paused:
                self.pause(name)
            for name in change.resumed:
                self.resume(name)
            self.settings = settings
        return change

    def _put(self, name: str, camera: config.Camera, source: Source) -> None:
        only = {name: camera}
        self.pipeline.add(source, build.make_admissions(only)[name], build.make_backoff(only)[name])
        self._roster.note(name, camera)

    def _source(self, name: str, camera: config.Camera) -> Source:
        """Make a source that fits what runs already. Raises InputError."""
        source = build.make_source(name, camera, self._observe)
        if source.live and not self.pipeline.live:
            raise InputError(f"{name}: is live, and this pipeline plays recordings to their end; run it in another")
        return source

    # --- opening ---

    def _open(self, stack: ExitStack) -> None:
        """Open everything, the cheapest first: what is wrong shows soon. Exporters close last: they see the end."""
        settings, hosting = self.settings, self._hosting
        if settings.monitor.http is not None:
            host, port = stack.enter_context(serving(settings.monitor.http, self.stats, self.health))
            hosting.tell(f"metrics, health and status at http://{host}:{port}/")
        sources = build.make_sources(settings.cameras, self._observe)
        live = any(source.live for source in sources)
        # Cameras do not wait for an engine that is built anew; recordings can.
        beside = stack.enter_context(ThreadPoolExecutor(1, "engine")) if live else None
        upkeep = Upkeep(hosting.tell, beside)
        self._graph = stack.enter_context(
            build.open_graph(settings, build.goal_of(sources), hosting.progress, upkeep, self._observe, live=live)
        )
        for node, runtime in self._graph.runtimes.items():
            hosting.tell(f"{node}: {runtime}")
        self._open_exporters(stack)
        outlet = build.Outlet(self._graph.facts, tuple(settings.cameras), live, self._observe, hosting.existing)
        self.sinks = [*stack.enter_context(build.open_sinks(settings.publish, outlet)), *hosting.sinks(outlet)]
        self._pipeline = Pipeline(
            sources,
            self._graph.stages,
            self.sinks,
            build.make_limits(settings),
            self._observe,
            build.make_backoff(settings.cameras),
            admissions=build.make_admissions(settings.cameras),
        )
        self._open_control(stack)

    def _open_exporters(self, stack: ExitStack) -> None:
        for sink in self.settings.publish:
            if isinstance(sink, config.Redis):
                exporter = stack.enter_context(RedisExporter(sink.url, sink.prefix))
                stack.enter_context(exporting(self.stats, exporter.export))

    def _open_control(self, stack: ExitStack) -> None:
        """Listen once at each place, however many sinks write there."""
        desk = Desk(self._hosting.name, self)
        sinks = [sink for sink in self.settings.publish if isinstance(sink, config.Redis) and sink.control]
        for url, prefix in dict.fromkeys((sink.url, sink.prefix) for sink in sinks):
            stack.enter_context(listening(url, prefix, desk))

    def _observe(self, event: Event) -> None:
        self.monitor(event)
        if isinstance(event, CameraState) and not self.started.is_set():
            self._enter(self.started, "started")

    def _enter(self, phase: threading.Event, name: Phase) -> None:
        with self._phases:  # not the lock of changes: this may be called from deep inside one of another thread
            new = not phase.is_set()
            phase.set()
        if new:
            self._hosting.phase(name)


@dataclass(slots=True)
class _Roster:
    """The cameras that there are, and what can be said of them without the pipeline."""

    cameras: dict[str, config.Camera]
    publish: Sequence[config.Publish]
    most: int
    _drawn: set[str] = field(init=False)  # those whose videos are written, or that were said not to be

    def __post_init__(self) -> None:
        self._drawn = set(self.cameras)

    def find(self, name: str) -> config.Camera:
        if name not in self.cameras:
            raise InputError(f"there is no camera {name!r}; there are: {', '.join(self.cameras) or 'none'}")
        return self.cameras[name]

    def check_room(self, coming: Sequence[str], going: int = 0) -> None:
        count = len({*self.cameras, *coming}) - going
        if count > self.most:
            raise InputError(f"{count} cameras are more than limits.cameras allows, {self.most}; raise it and restart")

    def note(self, name: str, camera: config.Camera) -> None:
        """Take a camera in, and say once what it goes without."""
        self.cameras[name] = camera
        videos = [str(sink.path) for sink in self.publish if isinstance(sink, config.Video)]
        if videos and name not in self._drawn:
            self._drawn.add(name)
            log.warning("%s: came after the start, so it is not drawn into %s; restart for that", name, videos[0])
