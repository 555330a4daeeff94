"""How a pipeline is doing, for people at a terminal: a live table, a progress bar, and plain lines where neither works.

The live table is what `run`, `demo` and `watch` have to say, so it goes to standard output; progress goes to standard
error, since the results of `process` are its files. Nothing here has a thread: what is shown is what is handed over.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.events import CameraStatus
from streamer.monitor import Rate
from streamer.stats import CameraStats, Percentiles, SinkStats, Stats

PLAIN_EVERY = 5.0  # seconds between lines where the output is not a terminal
_REDRAW_EVERY = 0.1  # seconds between two pictures of the progress bar

_STYLES: Mapping[CameraStatus, str] = {
    "connecting": "yellow",
    "running": "green",
    "retrying": "bold yellow",
    "ended": "dim",
    "failed": "bold red",
}


def render(stats: Stats) -> RenderableType:
    """Draw one row a camera, then what is wrong, then the sinks; made for 80 columns and more."""
    if not stats.cameras:
        return Text("no cameras yet", "dim")
    parts: list[RenderableType] = [_table(stats)]
    parts += [Text(line, "yellow") for name, camera in stats.cameras.items() for line in _troubles(name, camera)]
    parts += [Text(line, "bold red") for name, sink in stats.sinks.items() for line in _sink_troubles(name, sink)]
    well = [_clean(name) for name, sink in stats.sinks.items() if not sink.error]
    parts += [Text(f"writing to {', '.join(well)}", "dim")] if well else []
    return Group(*parts)


def plain(name: str, camera: CameraStats) -> str:
    """Say in one line how a camera is doing."""
    facts = [f"{camera.fps_in:.1f} FPS in, {camera.fps_out:.1f} out", f"{_dropped(camera)} dropped"]
    if camera.latency_ms is not None:
        facts.append(f"latency {_percentiles(camera.latency_ms)} ms")
    if camera.seen:
        facts.append(_seen(camera))
    return "; ".join([f"{_clean(name)}: {camera.state}, {', '.join(facts)}", *_troubles("", camera)])


def screenshot(stats: Stats, path: Path, width: int = 96) -> None:
    """Save what the live table shows as an SVG picture."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(stats))
    path.write_text(console.export_svg(title="streamer", unique_id="streamer"), encoding="utf-8")


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
        for line in (plain(name, camera) for name, camera in stats.cameras.items()):
            _print_line(self._console, line)
        for name, sink in stats.sinks.items():
            for line in _sink_troubles(name, sink):
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
        return f"{_clean(self.name)}: {self.count()}{before}, {fps:.0f} FPS, {timedelta(seconds=round(took))}"


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
                self._console, f"{file.number}/{self._files} {_clean(file.name)}: {', '.join(filter(None, facts))}"
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
        name = Text(f"{file.number}/{self._files} {_clean(file.name)}")
        row.add_row(name, bar, Text(file.count()), Text(f"{fps:.0f} FPS", "green"), Text(file.left(fps), "cyan"))
        return row

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9


def _table(stats: Stats) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True, padding=0)
    table.add_column("camera", no_wrap=True, overflow="ellipsis", max_width=14, style="bold")
    table.add_column("state", no_wrap=True, min_width=10)
    table.add_column("FPS in", justify="right", no_wrap=True)
    table.add_column("FPS out", justify="right", no_wrap=True)
    table.add_column("dropped", justify="right", no_wrap=True)
    table.add_column("p50/95/99 ms", justify="right", no_wrap=True)
    table.add_column("seen", ratio=1, min_width=16, overflow="fold")
    for name, camera in stats.cameras.items():
        table.add_row(*_row(name, camera))
    return table


def _row(name: str, camera: CameraStats) -> Iterator[Text]:
    dropped = _dropped(camera)
    yield Text(_clean(name))
    yield Text(camera.state, _STYLES[camera.state])
    yield Text(f"{camera.fps_in:.1f}")
    yield Text(f"{camera.fps_out:.1f}")
    yield Text(str(dropped), "yellow" if dropped else "dim")
    yield Text("" if camera.latency_ms is None else _percentiles(camera.latency_ms))
    yield Text(_seen(camera))


def _troubles(name: str, camera: CameraStats) -> Iterator[str]:
    start = f"{_clean(name)}: " if name else ""
    if camera.error:
        yield f"{start}{_clean(camera.error)}"
    if camera.lost:
        yield f"{start}{camera.lost} frames could not be decoded"


def _sink_troubles(name: str, sink: SinkStats) -> Iterator[str]:
    if sink.error:
        yield f"{_clean(name)}: {_clean(sink.error)}"
    if sink.dropped:
        yield f"{_clean(name)}: {sink.dropped} results were given up"


def _dropped(camera: CameraStats) -> int:
    return sum(camera.dropped.values())


def _percentiles(latency: Percentiles) -> str:
    return "/".join(f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}" for ms in (latency.p50, latency.p95, latency.p99))


def _seen(camera: CameraStats) -> str:
    return ", ".join(f"{_clean(label)} {count}" for label, count in camera.seen.items())


def _clean(text: str) -> str:
    """Take out what would move the cursor or colour the screen: names and errors come from outside."""
    return "".join(c if c.isprintable() else " " for c in text)


def _print_line(console: Console, line: str) -> None:
    with suppress(OSError):  # nobody reads it: the work goes on
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
