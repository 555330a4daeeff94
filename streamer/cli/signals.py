"""Run a pipeline under a person's or a supervisor's hand: the first signal drains, the second kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from streamer.pipeline import Pipeline
from streamer.sinks.base import Sink
from streamer.sinks.redis import RedisSink

_MOMENT = 1.5  # seconds: what is inside a pipeline has gone through by then


class Runner:
    """Runs pipelines one after another; after a signal the running one drains and none is started."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._pipeline: Pipeline | None = None
        self._started = False
        self.sinks: Sequence[Sink] = ()  # open ones, to be hurried by a signal whenever it comes

    def run(self, pipeline: Pipeline) -> None:
        """Run *pipeline* to its end in a thread of its own, and raise what it raises.

        Signal handlers interrupt the main thread at any point, also where it holds a lock; so it must hold none.
        """
        self._pipeline, self._started = pipeline, True
        if self.signal is not None:  # looked at only now: a signal from here on finds the pipeline and stops it
            return
        errors: list[BaseException] = []
        thread = threading.Thread(target=_collect, args=(pipeline, errors), name="pipeline")
        thread.start()
        thread.join()
        self._pipeline = None
        if errors:
            raise errors[0]

    def wait(self) -> None:
        """Wait for a signal."""
        signal.pause()

    def stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal. The next one of its kind ends the process at once."""
        self.signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)
        hurry(self.sinks)
        if self._pipeline is not None:
            self._pipeline.stop()
        elif not self._started:
            raise KeyboardInterrupt  # nothing runs that could be drained: a model is being fetched or opened


def hurry(sinks: Iterable[Sink]) -> None:
    """After a signal nobody waits for a Redis that is away: give it a moment, then give up and count what is left."""
    for sink in sinks:
        if isinstance(sink, RedisSink):
            timer = threading.Timer(_MOMENT, sink.abort)
            timer.daemon = True
            timer.start()


@contextmanager
def signals() -> Iterator[Runner]:
    """Handle SIGINT and SIGTERM as long as the context lasts."""
    runner = Runner()
    before = {number: signal.signal(number, runner.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield runner
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _collect(pipeline: Pipeline, errors: list[BaseException]) -> None:
    try:
        pipeline.run()
    except BaseException as error:  # noqa: BLE001 - carried to the main thread, which raises it
        errors.append(error)
