"""What the commands say beside their results: on stderr, so that stdout stays clean."""

from __future__ import annotations

import logging
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from streamer import logs

log = logging.getLogger(__name__)

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def note(sentence: str) -> None:
    """Say something in passing: where no person reads it, as a line of the log."""
    if not logs.read_by_people():
        log.info("%s", sentence)
        return
    with suppress(OSError):  # nobody reads it
        stderr.print(sentence, style="dim", soft_wrap=True, markup=False, emoji=False)


class Fetching:
    """Draw a progress bar as soon as a download reports its first bytes; draw nothing when there is none."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self._progress is None:
            columns = (TextColumn("fetching weights"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._progress = Progress(*columns, TimeRemainingColumn(), console=stderr, transient=True)
            self._progress.start()
            self._progress.add_task("fetching", total=total)
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)
        if done == total:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was: a download may end early."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


fetching = Fetching()
