"""Threads and their end: grabbers, batcher, stages and publisher, started together and joined together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from streamer.backoff import Backoff
from streamer.batcher import Batch, Batcher, Grabbed
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import InputError, SourceError
from streamer.events import FrameDropped, Observer, ignore
from streamer.grabber import Grabber, Timeline
from streamer.ledger import Ledger
from streamer.mailbox import Closed, Mailbox
from streamer.publisher import Publisher
from streamer.sinks.base import Sink
from streamer.sources.base import Source
from streamer.stages.base import Overlapping, Stage
from streamer.types import Packet

log = logging.getLogger(__name__)
T = TypeVar("T")
Threads = Sequence[threading.Thread]
_PATIENCE = 0.2  # seconds that threads get to end once nothing holds them


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


@dataclass(slots=True)
class Pipeline:
    """Sources through stages to sinks, until the sources end or `stop`.

    Opens and closes neither stages nor sinks: they may serve another run.
    """

    sources: Sequence[Source]
    stages: Sequence[Stage]  # in graph order
    sinks: Sequence[Sink]
    limits: Limits = field(default_factory=Limits)
    observer: Observer = ignore
    backoff: Mapping[str, Backoff] = field(default_factory=dict)  # by camera
    clock: Clock = SYSTEM_CLOCK
    first_seq: Mapping[str, int] = field(default_factory=dict)  # by camera, where a run goes on
    failures: dict[str, SourceError] = field(default_factory=dict, init=False)  # recorded sources that failed
    _ledger: Ledger = field(default_factory=lambda: Ledger(ignore), init=False)
    _error: BaseException | None = field(default=None, init=False)
    _running: set[threading.Thread] = field(default_factory=set, init=False)
    _turn: threading.Condition = field(default_factory=threading.Condition, init=False)  # a thread ended, or `stop`
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def live(self) -> bool:
        return any(source.live for source in self.sources)

    def stop(self) -> None:
        """Let every source end; what is inside still goes through, for at most `limits.drain` seconds.

        Callable from any thread but the one inside `run` (so not from a signal handler that interrupts it).
        """
        with self._turn:
            self._stop.set()
            self._turn.notify_all()

    def run(self) -> None:
        """Run to the end; raise the first error of a stage or, when nothing is live, of a sink.

        A recorded source that fails ends alone and is left in `failures`.
        """
        if len({source.camera for source in self.sources}) < len(self.sources):
            raise InputError("two sources have the same camera name; give each its own")
        self._ledger = Ledger(self.observer)
        changed = threading.Condition()
        mailboxes = {s.camera: self._mailbox(s, changed) for s in self.sources}
        queues = [Mailbox[Batch](self.limits.batches) for _ in range(len(self.stages) + 1)]
        batcher = Batcher(mailboxes, changed, self.limits.batch, self._ledger, self.clock)
        publisher = Publisher(self.sinks, self._ledger, self.clock, live=self.live)
        workers = [
            self._thread("batch", partial(_relay, batcher, queues[0])),
            *(
                self._thread(f"stage {stage.writes.node}", job)
                for stage, inbox, outbox in zip(self.stages, queues, queues[1:], strict=False)
                for job in self._jobs(stage, inbox, outbox)
            ),
            self._thread("publish", partial(_publish, publisher, queues[-1])),
        ]
        grabbers = [self._thread(f"grab {s.camera}", partial(self._grab, s, mailboxes[s.camera])) for s in self.sources]
        self._running = {*workers, *grabbers}
        for thread in (*workers, *grabbers):
            thread.start()
        try:
            self._wait(workers)
        finally:
            self._end(workers, [*mailboxes.values()], queues)
        if self._error is not None:
            raise self._error

    # --- threads ---

    def _thread(self, name: str, job: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=self._guard, args=(job,), name=name, daemon=True)

    def _guard(self, job: Callable[[], None]) -> None:
        """Run *job*; keep the first error for `run` to raise, and let everything end after it."""
        try:
            job()
        except Closed:
            pass  # whoever comes next in line has ended; so do we
        except BaseException as error:  # noqa: BLE001 - a thread's border: `run` raises it again
            with self._turn:
                self._error = self._error or error
                self._stop.set()
        finally:
            with self._turn:
                self._running.discard(threading.current_thread())
                self._turn.notify_all()

    def _grab(self, source: Source, mailbox: Mailbox[Grabbed]) -> None:
        timeline = Timeline(self.clock, self.first_seq.get(source.camera, 0))
        backoff = self.backoff.get(source.camera, Backoff())
        try:
            Grabber(source, mailbox, self._stop, timeline, backoff, self._ledger).run()
        except SourceError as error:
            self.failures[source.camera] = error

    def _jobs(self, stage: Stage, inbox: Mailbox[Batch], outbox: Mailbox[Batch]) -> list[Callable[[], None]]:
        """What the threads of one stage do. Overlapping costs latency, so only recordings get it."""
        if self.live or not isinstance(stage, Overlapping):
            return [partial(self._work, stage, inbox, outbox)]
        begun = Mailbox[_Begun](1)
        return [partial(self._begin, stage, inbox, begun), partial(self._finish, stage, begun, outbox)]

    def _work(self, stage: Stage, inbox: Mailbox[Batch], outbox: Mailbox[Batch]) -> None:
        """Run one stage over every batch, in order."""
        with _taking(inbox) as batches, closing(outbox):
            for batch in batches:
                _forget(stage, batch)
                outbox.put(self._marked(stage, batch, stage.process(batch.packets) if batch.packets else ()))

    def _begin(self, stage: Overlapping, inbox: Mailbox[Batch], begun: Mailbox[_Begun]) -> None:
        """Do the first half of `_work`."""
        with _taking(inbox) as batches, closing(begun):
            for batch in batches:
                _forget(stage, batch)
                begun.put(_Begun(batch, stage.begin(batch.packets) if batch.packets else tuple))

    def _finish(self, stage: Overlapping, begun: Mailbox[_Begun], outbox: Mailbox[Batch]) -> None:
        """Do the second half of `_work`."""
        with _taking(begun) as started, closing(outbox):
            for one in started:
                outbox.put(self._marked(stage, one.batch, one.finish()))

    def _marked(self, stage: Stage, batch: Batch, packets: Sequence[Packet]) -> Batch:
        now = self.clock.monotonic_ns()
        return Batch(tuple(packet.mark(stage.writes.node, now) for packet in packets), batch.breaks)

    def _mailbox(self, source: Source, changed: threading.Condition) -> Mailbox[Grabbed]:
        if not source.live:
            return Mailbox(self.limits.file_frames, changed=changed)
        late = FrameDropped(source.camera, "late")
        return Mailbox(self.limits.live_frames, lambda _: self._ledger(late), changed)

    # --- the end ---

    def _wait(self, threads: Threads, timeout: float | None = None) -> bool:
        """Wait until *threads* have ended; without *timeout*, no longer than until `stop`."""
        with self._turn:
            return self._turn.wait_for(
                lambda: self._running.isdisjoint(threads) or (timeout is None and self._stop.is_set()), timeout
            )

    def _end(self, workers: Threads, mailboxes: Sequence[Mailbox[Grabbed]], queues: Sequence[Mailbox[Batch]]) -> None:
        """Let what is inside go through, within the deadline; then give up the rest and say what did not end."""
        self.stop()
        for mailbox in mailboxes:
            mailbox.close()  # a grabber that waits for its camera cannot do it
        if self._error is not None or not self._wait(workers, self.limits.drain):
            for mailbox in mailboxes:
                mailbox.discard()
            for queue in queues:
                queue.discard()
        if not self._wait([*self._running], _PATIENCE):
            names = ", ".join(sorted(thread.name for thread in self._running))
            log.warning("did not end in time and is left behind: %s", names)
        self._ledger.settle()


def _relay(batches: Iterable[Batch], outbox: Mailbox[Batch]) -> None:
    with closing(outbox):
        for batch in batches:
            outbox.put(batch)


def _publish(publisher: Publisher, inbox: Mailbox[Batch]) -> None:
    with _taking(inbox) as batches:
        publisher.run(batches)


def _forget(stage: Stage, batch: Batch) -> None:
    for camera in batch.breaks:
        stage.forget(camera)


@contextmanager
def _taking(queue: Mailbox[T]) -> Iterator[Iterator[T]]:
    """Yield items until the queue is closed and empty; when their taker gives up, let nobody wait to put."""
    with closing(queue):
        yield _items(queue)


def _items(queue: Mailbox[T]) -> Iterator[T]:
    while True:
        try:
            taken = queue.take(1)
        except Closed:
            return
        yield from taken


def run(sources: Sequence[Source], stages: Sequence[Stage], *sinks: Sink) -> None:
    """Run a pipeline to its end, with every policy at its default. Raises what `Pipeline.run` raises."""
    Pipeline(sources, stages, sinks).run()
