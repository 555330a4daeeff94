"""Run a pipeline under a person's or a supervisor's hand: the first signal drains, the second kills, SIGHUP reloads.

Signals come to a thread of their own, as bytes that the interpreter writes where a library has the main thread in its
hands: so they are heard in every state. What runs in the main thread when one comes is only `Runner.interrupt`, which
takes no lock: it may find any of them held by the very code that it interrupts.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Protocol

from streamer.cli.terminals import terminal_watch
from streamer.sinks.base import Sink
from streamer.sinks.redis import RedisSink

log = logging.getLogger(__name__)

DEADLINE = 4.5  # seconds from the first signal to the end of the process, come what may
_MOMENT = 1.5  # seconds: what is inside a pipeline has gone through by then
_LAST_WORDS = 0.3  # seconds that a line on stderr may take at the very end
_ENDINGS = (signal.SIGINT, signal.SIGTERM)


class Runnable(Protocol):
    """What runs until its end, or until it is told to stop; a `Service` or a `Pipeline`."""

    def run(self) -> None: ...
    def stop(self) -> None: ...  # callable from any other thread


class Runner:
    """Runs pipelines one after another; after a signal the running one drains and none is started."""

    def __init__(self, outlives_terminal: Callable[[], bool] = lambda: True) -> None:
        """*outlives_terminal* tells, at a SIGHUP, whether it may mean anything else than that the terminal is gone."""
        self.signal: signal.Signals | None = None
        self.sinks: Sequence[Sink] = ()  # open ones, to be hurried by a signal whenever it comes
        self.deadline = DEADLINE
        self.reload = threading.Event()  # set by SIGHUP
        self._outlives_terminal = outlives_terminal
        self._running: Runnable | None = None
        self._started = self._interrupted = False
        self._told = threading.Event()
        self._last_resort: threading.Timer | None = None

    def run(self, work: Runnable) -> None:
        """Run *work* to its end, and raise what it raises; do nothing after a signal."""
        self._running, self._started = work, True
        if self.signal is None:  # looked at only now: a signal from here on finds the work and stops it
            work.run()
        self._running = None

    def wait(self) -> None:
        """Wait for a signal."""
        self._started = True
        if self.signal is None:
            self._told.wait()

    def interrupt(self, number: int) -> None:
        """Note a signal in the main thread; where nothing runs that could be drained, interrupt it, once."""
        self.signal = self.signal or signal.Signals(number)
        if not (self._started or self._interrupted):  # a model is being fetched or opened
            self._interrupted = True
            raise KeyboardInterrupt(number)

    def attend(self, numbers: socket.socket) -> None:
        """Act on the signals that come, until *numbers* is closed. Takes a thread of its own."""
        ending = False
        while received := numbers.recv(1):
            number = received[0]
            if number == signal.SIGHUP and self._outlives_terminal():
                self.reload.set()
            elif number in (*_ENDINGS, signal.SIGHUP):
                if ending:
                    _die(number)
                ending = True
                self._end(signal.SIGTERM if number == signal.SIGHUP else number)

    def release(self) -> None:
        """Say that all has ended by itself."""
        if self._last_resort is not None:
            self._last_resort.cancel()

    def _end(self, number: int) -> None:
        self.signal = self.signal or signal.Signals(number)
        self._last_resort = _later(self.deadline, _give_up, number, self.deadline)
        self._told.set()
        _hurry(self.sinks)
        if self._running is not None:
            _later(0, self._running.stop)  # in another thread: whatever it waits for, the next signal is heard


@contextmanager
def signals(*, reloads: bool = False) -> Iterator[Runner]:
    """Handle SIGINT and SIGTERM as long as the context lasts, and SIGHUP where it *reloads*."""
    numbers = (*_ENDINGS, signal.SIGHUP) if reloads else _ENDINGS
    runner = Runner(terminal_watch())
    with _attending(runner) as descriptor, _handlers(numbers, runner), _waking(descriptor):
        yield runner


@contextmanager
def _attending(runner: Runner) -> Iterator[int]:
    """Let a thread attend to the signals whose numbers are written to the descriptor that is yielded."""
    here, there = socket.socketpair()
    there.setblocking(False)
    thread = threading.Thread(target=runner.attend, args=(here,), name="signals", daemon=True)
    thread.start()
    with here, there:
        try:
            yield there.fileno()
        finally:
            runner.release()
            here.shutdown(socket.SHUT_RD)
            thread.join()


@contextmanager
def _handlers(numbers: Iterable[signal.Signals], runner: Runner) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            if number != signal.SIGHUP:
                runner.interrupt(number)
        except KeyboardInterrupt:
            if callable(outer := before.get(signal.Signals(number))):
                outer(number, frame)  # whoever handled signals before us wants to know, too
            raise

    before.update({number: signal.signal(number, handle) for number in numbers})
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _waking(descriptor: int) -> Iterator[None]:
    """Have the interpreter write the number of each signal to *descriptor*, at once and from whatever state."""
    before = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


def _hurry(sinks: Iterable[Sink]) -> None:
    """After a signal nobody waits for a Redis that is away: give it a moment, then give up and count what is left."""
    for sink in sinks:
        if isinstance(sink, RedisSink):
            _later(_MOMENT, sink.abort)


def _later(seconds: float, job: Callable[..., object], *args: object) -> threading.Timer:
    timer = threading.Timer(seconds, job, args)
    timer.daemon = True
    timer.start()
    return timer


def _give_up(number: int, seconds: float) -> None:
    """End the process although something in it does not, and say what; not even a lock of stderr's may keep it."""
    still = sorted(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
    words = "%s: not everything has ended within %.1f s; ended by force, with %s"
    told = words, signal.Signals(number).name, seconds, ", ".join(still)
    speaker = threading.Thread(target=log.error, args=told, daemon=True)
    speaker.start()
    speaker.join(_LAST_WORDS)
    _die(number)


def _die(number: int) -> NoReturn:
    os._exit(128 + number)
