"""Throughput and latency against batch size, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from engines.build.bench import Point
from engines.errors import BuildError


def plot(points: Sequence[Point], title: str, path: Path) -> None:
    """Write a PNG: frames per second, and ms a batch with the tail to its 95th percentile. Raises BuildError."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    rates, times = figure.subplots(1, 2)
    for name in dict.fromkeys(point.name for point in points):
        _draw(rates, times, [point for point in points if point.name == name])
    _finish(rates, points, "frames/s")
    _finish(times, points, "ms per batch, median to 95th percentile")
    rates.legend(loc="lower right", frameon=False)
    figure.suptitle(title)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise BuildError(f"{path} cannot be written ({error.strerror}): plot to another folder") from error


def _draw(rates: Axes, times: Axes, points: Sequence[Point]) -> None:
    batches = [point.batch for point in points]
    (line,) = rates.plot(batches, [point.frames_per_s for point in points], marker="o", label=points[0].name)
    colour = line.get_color()
    rates.fill_between(batches, [p.slowest for p in points], [p.fastest for p in points], color=colour, alpha=0.15)
    times.plot(batches, [point.ms_p50 for point in points], marker="o", color=colour)
    times.fill_between(batches, [p.ms_p50 for p in points], [p.ms_p95 for p in points], color=colour, alpha=0.15)


def _finish(axes: Axes, points: Sequence[Point], what: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({p.batch for p in points}), [str(b) for b in sorted({p.batch for p in points})])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch")
    axes.set_title(what, fontsize="medium")
    axes.grid(visible=True, alpha=0.3)
