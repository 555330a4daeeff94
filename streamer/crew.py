"""The one owner of a pipeline's threads: who runs, who works on what since when, and which error came first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.mailbox import Closed

log = logging.getLogger(__name__)


class Crew:
    """Threads that are started, watched and waited for together."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.error: BaseException | None = None  # the first one that a thread raised
        self.stopping = threading.Event()
        self._clock = clock
        self._running: set[threading.Thread] = set()
        self._working: dict[str, int] = {}  # by thread: since when it has been at its present piece of work, ns
        self._told: set[tuple[str, int]] = set()  # pieces of work whose thread was said to hang
        self._turn = threading.Condition()  # a thread ended, or `stop`

    def start(self, name: str, job: Callable[[], None]) -> threading.Thread:
        """Run *job* in a thread of its own; its first error stops all."""
        thread = threading.Thread(target=self._guard, args=(job,), name=name, daemon=True)
        with self._turn:
            self._running.add(thread)
        thread.start()
        return thread

    def stop(self) -> None:
        """Let whoever waits know that the end has come."""
        with self._turn:
            self.stopping.set()
            self._turn.notify_all()

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Note that the thread *name* works on something, until the context ends."""
        with self._turn:
            self._working[name] = self._clock.monotonic_ns()
        try:
            yield
        finally:
            with self._turn:
                self._working.pop(name, None)

    def busy(self) -> Mapping[str, float]:
        """Return for each thread that is at work for how many seconds it has been at its present piece."""
        now = self._clock.monotonic_ns()
        with self._turn:
            return {name: (now - since) / 1e9 for name, since in self._working.items()}

    def report_hanging(self, limit: float) -> None:
        """Log each thread that has been at one piece of work for more than *limit* seconds, once a piece."""
        now = self._clock.monotonic_ns()
        with self._turn:
            hanging = {(name, since) for name, since in self._working.items() if now - since > limit * 1e9}
            new, self._told = hanging - self._told, hanging
        for name, since in sorted(new):
            log.error(
                "%s has been working on one batch for %.0f s and holds up all that follows", name, (now - since) / 1e9
            )

    def join(self, threads: Collection[threading.Thread], timeout: float | None = None) -> bool:
        """Wait until *threads* have ended; return whether they have."""
        with self._turn:
            return self._turn.wait_for(lambda: self._running.isdisjoint(threads), timeout)

    def attend(self, threads: Collection[threading.Thread], timeout: float) -> bool:
        """Wait until *threads* have ended or `stop`, at most *timeout* seconds; return whether either has come."""
        with self._turn:
            return self._turn.wait_for(lambda: self._running.isdisjoint(threads) or self.stopping.is_set(), timeout)

    def left(self) -> tuple[threading.Thread, ...]:
        """Return those that still run."""
        with self._turn:
            return tuple(self._running)

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Closed:
            pass  # whoever comes next in line has ended; so do we
        except BaseException as error:  # noqa: BLE001 - a thread's border: `Pipeline.run` raises it again
            with self._turn:
                self.error = self.error or error
                self.stopping.set()
        finally:
            with self._turn:
                self._running.discard(threading.current_thread())
                self._turn.notify_all()
