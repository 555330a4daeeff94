"""Threads and their end: grabbers, batcher, stages and publisher, started together and joined together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from streamer.backoff import Backoff
from streamer.batcher import Batch, Batcher
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.crew import Crew
from streamer.errors import InputError, SourceError
from streamer.events import Event, Observer, PacketPublished, ignore
from streamer.fleet import Buffers, Camera, Fleet
from streamer.flight import Flight, Gate, Open
from streamer.governor import Governor, Target
from streamer.intake import Admission
from streamer.ledger import Ledger
from streamer.mailbox import Closed, Mailbox
from streamer.publisher import Publisher
from streamer.sinks.base import Sink
from streamer.sources.base import Source
from streamer.stages.base import Overlapping, Stage
from streamer.types import Packet

if TYPE_CHECKING:
    from streamer.service import Session

log = logging.getLogger(__name__)
T = TypeVar("T")
_ADMISSION, _BACKOFF = Admission(), Backoff()
_PATIENCE = 0.2  # seconds that threads get to end once nothing holds them
_HANGING_SEEN = 0.25  # how soon a stage that hangs is noticed, as a share of `limits.stage`


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A batch that a stage is working on."""

    batch: Batch
    finish: Callable[[], Sequence[Packet]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of a pipeline: together with the frame size they say how much memory it takes."""

    batch: int = 8  # frames that go through the graph together
    live_frames: int = 2  # newest frames kept a live camera; older ones are dropped
    file_frames: int = 16  # decoded frames a file may be ahead
    batches: int = 1  # batches waiting in front of each stage
    drain: float = 1.0  # seconds that what is inside may take after `stop`
    stage: float = 30.0  # seconds on one batch after which a stage is said to hang
    latency: float | None = None  # seconds from grab to hand-over to aim at, of cameras that drop frames


@dataclass(slots=True)
class Pipeline:
    """Sources through stages to sinks, until the sources end or `stop`. It runs once.

    Opens and closes neither stages nor sinks: they may serve another run. Cameras may be added, removed, paused and
    re-aimed while it runs, from any thread; one that has live cameras at its start goes on when the last is removed.
    """

    sources: Sequence[Source]
    stages: Sequence[Stage]  # in graph order
    sinks: Sequence[Sink]
    limits: Limits = field(default_factory=Limits)
    observer: Observer = ignore
    backoff: Mapping[str, Backoff] = field(default_factory=dict)  # by camera
    clock: Clock = SYSTEM_CLOCK
    first_seq: Mapping[str, int] = field(default_factory=dict)  # by camera, where a run goes on
    admissions: Mapping[str, Admission] = field(default_factory=dict)  # by camera
    _crew: Crew = field(init=False)
    _works: _Works = field(init=False)

    def __post_init__(self) -> None:
        if len({source.camera for source in self.sources}) < len(self.sources):
            raise InputError("two sources have the same camera name; give each its own")
        self._crew = Crew(self.clock)
        self._works = _Works(self)

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Session:
        """Make of a pipeline file, with *overrides* laid over it, a context manager that yields finished packets.

        It opens what the file names, when it is entered, and closes it all. Raises ConfigError.
        """
        from streamer.service import Session  # here, for a pipeline of one's own objects needs none of that

        return Session.from_yaml(path, overrides)

    @property
    def live(self) -> bool:
        return any(source.live for source in self.sources)

    @property
    def failures(self) -> Mapping[str, SourceError]:
        """The recorded sources that failed, by camera."""
        return self._works.fleet.failures

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that are in the pipeline now."""
        return self._works.fleet.cameras

    def add(self, source: Source, admission: Admission = _ADMISSION, backoff: Backoff = _BACKOFF) -> None:
        """Add a camera, or put it in place of the one of its name: seq and times go on, and stages forget.

        Raise InputError when the pipeline has ended.
        """
        self._works.fleet.put(Camera(source, admission, backoff))

    def remove(self, camera: str) -> None:
        """Take a camera out. Raise InputError when there is none of that name."""
        self._works.fleet.remove(camera)

    def pause(self, camera: str) -> None:
        """Close the connection to a camera until `resume`. Raise InputError as `remove` and `add`."""
        self._works.fleet.pause(camera)

    def resume(self, camera: str) -> None:
        """Connect again to a camera that was paused. Raise InputError as `remove` and `add`."""
        self._works.fleet.resume(camera)

    def depths(self) -> Mapping[str, int]:
        """Return what waits: frames of ``camera NAME``, batches in front of ``stage NAME`` and ``publish``."""
        return self._works.depths()

    def busy(self) -> Mapping[str, float]:
        """Return for each worker that has a batch in hand for how many seconds: ``batch``, ``stage NAME``, ``publish``.

        What works beside the frames is ``beside NAME``.
        """
        beside = {f"beside {stage.writes.node}": getattr(stage, "busy", 0.0) for stage in self.stages}
        return {**self._crew.busy(), **{name: seconds for name, seconds in beside.items() if seconds}}

    def stop(self) -> None:
        """Let every source end; what is inside still goes through, for at most `limits.drain` seconds.

        Callable from any thread but the one inside `run` (so not from a signal handler that interrupts it).
        """
        self._crew.stop()

    def run(self) -> None:
        """Run to the end; raise the first error of a stage or, when nothing is live, of a sink.

        A recorded source that fails ends alone and is left in `failures`.
        """
        works = self._works
        workers = works.start()
        try:
            while not self._crew.attend(workers, self.limits.stage * _HANGING_SEEN):
                self._crew.report_hanging(self.limits.stage)
        finally:
            self._end(workers)
        if self._crew.error is not None:
            raise self._crew.error

    def _end(self, workers: Sequence[threading.Thread]) -> None:
        """Let what is inside go through, within the deadline; then give up the rest and say what did not end."""
        crew, works = self._crew, self._works
        crew.stop()
        works.fleet.close()
        if crew.error is not None or not crew.join(workers, self.limits.drain):
            works.discard()
        if not crew.join(crew.left(), _PATIENCE):
            names = ", ".join(sorted(thread.name for thread in crew.left()))
            log.warning("did not end in time and is left behind: %s", names)
        works.ledger.settle()


class _Attended:
    """A gate that the crew hears of as well: who works on a batch, and since when."""

    def __init__(self, gate: Gate, crew: Crew, workers: Sequence[str]) -> None:
        self._gate, self._crew, self._workers = gate, crew, workers

    def __len__(self) -> int:
        return len(self._gate)

    def delay(self, size: int) -> float | None:
        return self._gate.delay(size)

    def enter(self, size: int) -> None:
        self._gate.enter(size)

    @contextmanager
    def working(self, step: int) -> Iterator[None]:
        with self._crew.working(self._workers[step]), self._gate.working(step):
            yield


class _Works:
    """What a run is made of: queues between the workers, and what each of them does."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._crew = pipeline, pipeline._crew
        limits, clock, stages = pipeline.limits, pipeline.clock, pipeline.stages
        changed = threading.Condition()
        self.ledger = Ledger(pipeline.observer)
        self._queues = [Mailbox[Batch](limits.batches) for _ in range(len(stages) + 1)]
        self._workers = ["batch", *(_called(stage) for stage in stages), "publish"]  # by step
        self._flight = Flight(len(self._workers), changed, clock) if pipeline.live else None
        gate = Open() if self._flight is None else self._flight
        self._gate = _Attended(gate, self._crew, self._workers)
        self._batcher = Batcher(changed, limits.batch, self.ledger, clock, self._gate)
        self.fleet = Fleet(
            self._crew, self._batcher, changed, Buffers(limits.live_frames, limits.file_frames), self.ledger, clock
        )
        for source in pipeline.sources:
            self.fleet.put(self._camera(source))
        self._governor = self._govern(limits.latency)
        self._started = False

    def start(self) -> list[threading.Thread]:
        """Start everything; return the threads whose end is the end of the run. Raise InputError at a second run."""
        pipeline, crew, queues = self._pipeline, self._crew, self._queues
        if self._started:
            raise InputError("this pipeline has run already; make another one")
        self._started = True
        publisher = Publisher(pipeline.sinks, self._observed(), pipeline.clock, live=pipeline.live)
        workers = [crew.start("batch", self._relay)]
        for index, stage in enumerate(pipeline.stages):
            jobs = self._jobs(index + 1, stage, queues[index], queues[index + 1])
            workers += [crew.start(_called(stage), job) for job in jobs]
        workers.append(crew.start("publish", partial(self._publish, publisher)))
        self.fleet.start()
        if not pipeline.live:
            self._batcher.close()
        return workers

    def depths(self) -> Mapping[str, int]:
        batches = {name: len(queue) for name, queue in zip(self._workers[1:], self._queues, strict=True)}
        return {**{f"camera {name}": count for name, count in self.fleet.depths().items()}, **batches}

    def discard(self) -> None:
        """Give up what has not gone through."""
        self.fleet.discard()
        for queue in self._queues:
            queue.discard()

    def _camera(self, source: Source) -> Camera:
        name, pipeline = source.camera, self._pipeline
        admission = pipeline.admissions.get(name, _ADMISSION)
        return Camera(source, admission, pipeline.backoff.get(name, _BACKOFF), pipeline.first_seq.get(name, 0))

    def _govern(self, latency: float | None) -> Governor | None:
        if latency is None or self._flight is None:
            return None
        target = Target(latency, self._pipeline.limits.batch)
        return Governor(target, self._pipeline.stages, self._batcher, self._flight, self.ledger)

    def _observed(self) -> Observer:
        """Let the governor see what is published, before anybody else, but for what had to wait by its own policy."""
        governor, ledger, fleet = self._governor, self.ledger, self.fleet
        if governor is None:
            return ledger

        def observe(event: Event) -> None:
            if isinstance(event, PacketPublished) and not fleet.ages(event.packet.frame.camera):
                governor(event)
            ledger(event)

        return observe

    # --- what the threads do ---

    def _relay(self) -> None:
        with closing(self._queues[0]) as outbox:
            for batch in self._batcher:
                outbox.put(batch)

    def _jobs(self, step: int, stage: Stage, inbox: Mailbox[Batch], outbox: Mailbox[Batch]) -> list[Callable[[], None]]:
        """What the threads of one stage do. Overlapping costs latency, so only recordings get it."""
        if self._pipeline.live or not isinstance(stage, Overlapping):
            return [partial(self._work, step, stage, inbox, outbox)]
        begun = Mailbox[_Begun](1)
        return [partial(self._begin, stage, inbox, begun), partial(self._finish, stage, begun, outbox)]

    def _work(self, step: int, stage: Stage, inbox: Mailbox[Batch], outbox: Mailbox[Batch]) -> None:
        """Run one stage over every batch, in order."""
        with _taking(inbox) as batches, closing(outbox):
            for batch in batches:
                with self._gate.working(step):
                    done = self._process(stage, batch)
                outbox.put(done)

    def _process(self, stage: Stage, batch: Batch) -> Batch:
        _forget(stage, batch)
        return self._marked(stage, batch, stage.process(batch.packets) if batch.packets else ())

    def _begin(self, stage: Overlapping, inbox: Mailbox[Batch], begun: Mailbox[_Begun]) -> None:
        """Do the first half of `_work`."""
        with _taking(inbox) as batches, closing(begun):
            for batch in batches:
                with self._crew.working(f"{_called(stage)} (begin)"):
                    _forget(stage, batch)
                    one = _Begun(batch, stage.begin(batch.packets) if batch.packets else tuple)
                begun.put(one)

    def _finish(self, stage: Overlapping, begun: Mailbox[_Begun], outbox: Mailbox[Batch]) -> None:
        """Do the second half of `_work`."""
        with _taking(begun) as started, closing(outbox):
            for one in started:
                with self._crew.working(_called(stage)):
                    done = self._marked(stage, one.batch, one.finish())
                outbox.put(done)

    def _marked(self, stage: Stage, batch: Batch, packets: Sequence[Packet]) -> Batch:
        if len(packets) != len(batch.packets):
            took = f"took {len(batch.packets)} packets and returned {len(packets)}"
            raise TypeError(f"{_called(stage)} {took}; correct it to return each that it took, in order")
        now = self._pipeline.clock.monotonic_ns()
        return Batch(tuple(packet.mark(stage.writes.node, now) for packet in packets), batch.breaks)

    def _publish(self, publisher: Publisher) -> None:
        step = len(self._pipeline.stages) + 1
        with _taking(self._queues[-1]) as batches:
            for batch in batches:
                with self._gate.working(step):
                    publisher.publish(batch)


def _called(stage: Stage) -> str:
    return f"stage {stage.writes.node}"


def _forget(stage: Stage, batch: Batch) -> None:
    for camera in batch.breaks:
        stage.forget(camera)


@contextmanager
def _taking(queue: Mailbox[T]) -> Iterator[Iterable[T]]:
    """Yield items until the queue is closed and empty; when their taker gives up, let nobody wait to put."""
    with closing(queue):
        yield _items(queue)


def _items(queue: Mailbox[T]) -> Iterator[T]:
    while True:
        try:
            item = queue.take()
        except Closed:
            return
        yield item


def run(sources: Sequence[Source], stages: Sequence[Stage], *sinks: Sink) -> None:
    """Run a pipeline to its end, with every policy at its default. Raises what `Pipeline.run` raises."""
    Pipeline(sources, stages, sinks).run()
