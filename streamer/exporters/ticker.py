"""Say how the pipeline is doing, again and again, from a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamer.errors import SinkError
from streamer.stats import Stats

log = logging.getLogger(__name__)

Export = Callable[[Stats], None]


@contextmanager
def exporting(read: Callable[[], Stats], export: Export, interval: float = 1.0) -> Iterator[None]:
    """Export what *read* says every *interval* seconds as long as the context lasts, and once more at its end.

    An attempt that fails is said once, until one works again; the pipeline goes on, and so do the attempts.
    """
    over = threading.Event()
    attempt = _Attempt(read, export)

    def work() -> None:
        while not over.wait(interval):
            attempt()

    thread = threading.Thread(target=work, name="export", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        attempt()


class _Attempt:
    """One export, tried again and again."""

    def __init__(self, read: Callable[[], Stats], export: Export) -> None:
        self._read, self._export = read, export
        self._said: type[Exception] | None = None  # what went wrong the last time

    def __call__(self) -> None:
        try:
            self._export(self._read())
        except SystemExit:  # what rich makes of a pipe that nobody reads any more
            self._fail(BrokenPipeError("nobody reads them any more"))
        except Exception as error:  # noqa: BLE001 - figures are never worth a pipeline: said, and tried again
            self._fail(error)
        else:
            self._said = None

    def _fail(self, error: Exception) -> None:
        if type(error) is not self._said:
            self._say(error)
        self._said = type(error)

    def _say(self, error: Exception) -> None:
        if isinstance(error, SinkError | OSError):  # OSError: the terminal is gone
            log.warning("figures cannot be exported: %s", error)
        else:
            log.error("figures cannot be exported, by a fault of the streamer's own: %s", error, exc_info=error)
