"""A pipeline's figures as a table for 80 columns and more, or as lines of a log."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamer.events import CameraStatus
from streamer.stats import CameraStats, GpuStats, LatencyTarget, Percentiles, ProcessStats, SinkStats, Stats

_STYLES: Mapping[CameraStatus, str] = {
    "connecting": "yellow",
    "running": "green",
    "retrying": "bold yellow",
    "paused": "cyan",
    "ended": "dim",
    "failed": "bold red",
}


def render(stats: Stats) -> RenderableType:
    """Draw one row a camera, then what is wrong, then what all of them share."""
    if not stats.cameras:
        return Text("no cameras yet", "dim")
    parts: list[RenderableType] = [_table(stats)]
    parts += [Text(line, "yellow") for name, camera in stats.cameras.items() for line in _of_camera(name, camera)]
    parts += [Text(line, "bold red") for line in troubles(stats)]
    parts += [Text(line, "dim") for line in _summary(stats)]
    return Group(*parts)


def plain(name: str, camera: CameraStats) -> str:
    """Say in one line how a camera is doing."""
    facts = [f"{camera.fps_in:.1f} FPS in, {camera.fps_out:.1f} out", _drops(camera)]
    if camera.latency_ms is not None:
        facts.append(f"latency {_percentiles(camera.latency_ms)} ms")
    if camera.end_to_end_ms is not None:
        facts.append(f"end to end {_percentiles(camera.end_to_end_ms)} ms")
    if camera.seen:
        facts.append(_seen(camera))
    return "; ".join([f"{clean(name)}: {camera.state}, {', '.join(facts)}", *_of_camera("", camera)])


def troubles(stats: Stats) -> Iterator[str]:
    """Say what is wrong beside the cameras, a line each."""
    for name, sink in stats.sinks.items():
        yield from _of_sink(name, sink)
    if stats.latency is not None and not stats.latency.held:
        yield _of_latency(stats.latency)


def screenshot(stats: Stats, path: Path, width: int = 96) -> None:
    """Save what the live table shows as an SVG picture."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(stats))
    path.write_text(console.export_svg(title="streamer", unique_id="streamer"), encoding="utf-8")


def clean(text: str) -> str:
    """Take out what would move the cursor or colour the screen: names and errors come from outside."""
    return "".join(c if c.isprintable() else " " for c in text)


def _table(stats: Stats) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True, padding=0)
    acknowledged = any(camera.end_to_end_ms for camera in stats.cameras.values())
    table.add_column("camera", no_wrap=True, overflow="ellipsis", max_width=12 if acknowledged else 14, style="bold")
    table.add_column("state", no_wrap=True, min_width=10)
    for name in ("FPS in", "out", "dropped", "p50/95/99 ms", *(["end to end"] if acknowledged else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("seen", ratio=1, min_width=12 if acknowledged else 16, overflow="fold")
    for name, camera in stats.cameras.items():
        table.add_row(*_row(name, camera, [camera.end_to_end_ms] if acknowledged else []))
    return table


def _row(name: str, camera: CameraStats, end_to_end: list[Percentiles | None]) -> Iterator[Text]:
    dropped = sum(camera.dropped.values())
    yield Text(clean(name))
    yield Text(camera.state, _STYLES.get(camera.state, ""))  # a newer streamer may know more states
    yield Text(f"{camera.fps_in:.1f}")
    yield Text(f"{camera.fps_out:.1f}")
    yield Text(str(dropped), "yellow" if dropped else "dim")
    for latency in (camera.latency_ms, *end_to_end):
        yield Text("" if latency is None else _percentiles(latency))
    yield Text(_seen(camera))


def _of_camera(name: str, camera: CameraStats) -> Iterator[str]:
    start = f"{clean(name)}: " if name else ""
    if camera.error:
        yield f"{start}{clean(camera.error)}"
    if camera.lost:
        yield f"{start}{camera.lost} frames could not be decoded"


def _of_sink(name: str, sink: SinkStats) -> Iterator[str]:
    if sink.error:
        yield f"{clean(name)}: {clean(sink.error)}"
    if sink.dropped:
        yield f"{clean(name)}: {sink.dropped} results were given up"


def _summary(stats: Stats) -> Iterator[str]:
    """Say what all cameras share, a line each; what there is nothing to say about is left out."""
    dropped = sum((Counter(camera.dropped) for camera in stats.cameras.values()), Counter[str]())
    waiting = {name: depth for name, depth in stats.queues.items() if depth}
    shed = {node: of.shed for node, of in stats.nodes.items() if of.shed}
    flow = [] if stats.batch_size is None else [f"batches of {stats.batch_size:.1f}"]
    flow += [f"waiting: {_counts(waiting)}"] if waiting else []
    flow += [f"dropped: {_counts(dropped)}"] if dropped else []
    flow += [f"left out: {_counts(shed)}"] if shed else []
    if flow:
        yield "; ".join(flow)
    if (latency := stats.latency) is not None and latency.held:
        yield _of_latency(latency)
    if stats.process is not None:
        yield "; ".join([_of_process(stats.process), *(_of_gpu(*one) for one in stats.gpus.items())])
    well = [clean(name) for name, sink in stats.sinks.items() if not sink.error]
    if well:
        yield f"writing to {', '.join(well)}"


def _of_process(process: ProcessStats) -> str:
    facts = (f"{process.cpu:.0%} CPU of a core", f"{process.rss / 1e6:.0f} MB", f"{process.threads} threads")
    return f"process: {', '.join(facts)}, {process.files} files; machine: {process.machine_cpu:.0%} CPU"


def _of_gpu(number: str, gpu: GpuStats) -> str:
    facts = [] if gpu.busy is None else [f"{gpu.busy:.0%}"]
    facts += [] if gpu.decoder_busy is None else [f"decoder {gpu.decoder_busy:.0%}"]
    if gpu.memory_used is not None and gpu.memory_total is not None:
        facts.append(f"{gpu.memory_used / 1e9:.1f} of {gpu.memory_total / 1e9:.0f} GB")
    facts += [] if gpu.temperature is None else [f"{gpu.temperature:.0f} °C"]
    return f"GPU {clean(number)}: {', '.join(facts) or 'tells nothing'}"


def _of_latency(latency: LatencyTarget) -> str:
    target = "" if latency.target_ms is None else f" of {latency.target_ms:.0f} ms"
    return f"latency: {clean(latency.detail) or f'the target{target} is held'}"


def _drops(camera: CameraStats) -> str:
    reasons = f" ({_counts(camera.dropped)})" if camera.dropped else ""
    return f"{sum(camera.dropped.values())} dropped{reasons}"


def _percentiles(latency: Percentiles) -> str:
    return "/".join(f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}" for ms in (latency.p50, latency.p95, latency.p99))


def _seen(camera: CameraStats) -> str:
    return _counts(camera.seen)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{clean(label)} {count}" for label, count in counts.items())
