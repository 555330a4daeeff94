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

    An export that fails is said once, until it works again; the pipeline goes on.
    """
    over = threading.Event()
    attempt = _Attempt(export)

    def work() -> None:
        while not over.wait(interval):
            attempt(read())

    thread = threading.Thread(target=work, name="export", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        attempt(read())


class _Attempt:
    def __init__(self, export: Export) -> None:
        self._export = export
        self._failing = False

    def __call__(self, stats: Stats) -> None:
        try:
            self._export(stats)
        except (SinkError, OSError) as error:  # OSError: the terminal is gone
            if not self._failing:
                log.warning("figures cannot be exported: %s", error)
            self._failing = True
            return
        self._failing = False
