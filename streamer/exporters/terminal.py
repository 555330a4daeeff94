"""How a pipeline is doing, for people at a terminal: a live table, a progress bar, and plain lines where neither works.

The live table is what `run`, `demo` and `watch` have to say, so it goes to standard output; progress goes to standard
error, since the results of `process` are its files. Nothing here has a thread: what is shown is what is handed over.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.exporters.table import clean, plain, render, troubles
from streamer.monitor import Rate
from streamer.stats import Stats

PLAIN_EVERY = 5.0  # seconds between lines where the output is not a terminal
_REDRAW_EVERY = 0.1  # seconds between two pictures of the progress bar


class LiveTable:
    """Show `Stats` as a table that stays in place; where the output is no terminal, as a line a camera now and then."""

    def __init__(self, console: Console | None = None, every: float = PLAIN_EVERY) -> None:
        """*every* is the time between plain lines, in seconds of `Stats.at`."""
        self._console = console or Console()
        self._every = every
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._newest: Stats | None = None
        self._printed: Stats | None = None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._newest is not None and self._newest is not self._printed:
            self._print(self._newest)

    def export(self, stats: Stats) -> None:
        self._newest = stats
        if self._live is not None:
            self._live.update(render(stats), refresh=True)
        elif self._printed is None or stats.at - self._printed.at >= self._every:
            self._print(stats)

    def _print(self, stats: Stats) -> None:
        self._printed = stats
        for line in (*(plain(name, camera) for name, camera in stats.cameras.items()), *troubles(stats)):
            _print_line(self._console, line)


@dataclass(slots=True)
class _File:
    """How far one video is."""

    name: str
    number: int
    frames: int | None  # as far as is known; containers are wrong about it now and then
    done: int
    started: float  # seconds
    skipped: int  # frames that an earlier run had done
    rate: Rate = field(default_factory=Rate)

    def left(self, fps: float) -> str:
        """How long it will take at this pace."""
        if self.frames is None or fps <= 0:
            return ""
        return f"{timedelta(seconds=round(max(0, self.frames - self.done) / fps))} left"

    def count(self) -> str:
        return f"{self.done} frames" if self.frames is None else f"{self.done} of {max(self.done, self.frames)} frames"

    def summary(self, now: float) -> str:
        took = now - self.started
        fps = (self.done - self.skipped) / took if took > 0 else 0.0
        before = f", {self.skipped} of them earlier" if self.skipped else ""
        return f"{clean(self.name)}: {self.count()}{before}, {fps:.0f} FPS, {timedelta(seconds=round(took))}"


class ProcessProgress:
    """Show how far recorded videos are, one after the other. Thread-safe."""

    def __init__(
        self, files: int, console: Console | None = None, clock: Clock = SYSTEM_CLOCK, every: float = PLAIN_EVERY
    ) -> None:
        """*every* is the time in seconds between lines where *console* is no terminal."""
        self._files, self._clock = files, clock
        self._console = console or Console(stderr=True)
        drawn = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if drawn else None
        self._every = _REDRAW_EVERY if drawn else every
        self._file: _File | None = None
        self._started = 0
        self._shown = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._finish()
        if self._live is not None:
            self._live.stop()

    def start(self, name: str, *, frames: int | None, done: int = 0) -> None:
        """Begin with the next file: *frames* in it, as far as is known, of which an earlier run had *done* some."""
        with self._lock:
            self._finish()
            self._started += 1
            self._shown = now = self._now()
            self._file = _File(name, self._started, frames, done, now, done)
            if self._live is not None:
                self._show(self._file, 0.0)

    def advance(self, count: int = 1) -> None:
        """Count frames that are finished."""
        with self._lock:
            if self._file is None:
                return
            now = self._now()
            self._file.done += count
            for _ in range(count):
                self._file.rate.add(now)
            if now - self._shown >= self._every:
                self._shown = now
                self._show(self._file, self._file.rate.read(now))

    def _finish(self) -> None:
        """Leave one line about the file that is over."""
        if self._file is None:
            return
        if self._live is not None:
            self._live.update(Text(), refresh=True)
        _print_line(self._console, self._file.summary(self._now()))
        self._file = None

    def _show(self, file: _File, fps: float) -> None:
        if self._live is None:
            facts = (file.count(), f"{fps:.0f} FPS", file.left(fps))
            _print_line(
                self._console, f"{file.number}/{self._files} {clean(file.name)}: {', '.join(filter(None, facts))}"
            )
        else:
            self._live.update(self._bar(file, fps), refresh=True)

    def _bar(self, file: _File, fps: float) -> RenderableType:
        total = None if file.frames is None else max(file.frames, file.done, 1)
        bar = ProgressBar(total, file.done, pulse=total is None, animation_time=self._now())
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
        row.add_column(ratio=1, min_width=8)
        for _ in range(3):
            row.add_column(no_wrap=True, justify="right")
        name = Text(f"{file.number}/{self._files} {clean(file.name)}")
        row.add_row(name, bar, Text(file.count()), Text(f"{fps:.0f} FPS", "green"), Text(file.left(fps), "cyan"))
        return row

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9


def _print_line(console: Console, line: str) -> None:
    with suppress(OSError):  # nobody reads it: the work goes on
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
