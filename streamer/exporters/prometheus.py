"""The figures as Prometheus and OpenMetrics read them. `prometheus_client` writes the format and negotiates it.

Names are public API: dashboards and alerts are built on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from streamer import __version__
from streamer.events import CameraStatus
from streamer.health import Health
from streamer.stats import Histogram, Stats

# There from the start at 0, so that the first drop of a kind is an increase.
_REASONS = ("late", "skipped", "corrupt", "paused")
_STATES: tuple[str, ...] = get_args(CameraStatus)

Rows = Iterable[tuple[tuple[str, ...], float | None]]  # the values of the labels, and the figure


def exposition(stats: Stats, health: Health, accept: str = "") -> tuple[bytes, str]:
    """Return a page and its content type, in the best format that the header *accept* names."""
    encode, kind = choose_encoder(accept)
    return encode(_Page(stats, health)), kind


class _Page(Collector):
    """What one scrape gets."""

    def __init__(self, stats: Stats, health: Health) -> None:
        self._stats, self._health = stats, health

    def collect(self) -> Iterator[Metric]:
        families = (_of_pipeline(self._health), _of_cameras(self._stats), _of_histograms(self._stats))
        return chain(*families, _of_graph(self._stats), _of_sinks(self._stats), _of_process(self._stats))


def _of_pipeline(health: Health) -> Iterator[Metric]:
    yield InfoMetricFamily("streamer", "What runs.", {"version": __version__})
    yield _gauge("streamer_alive", "1 unless a thread hangs.", (), [((), health.alive)])
    yield _gauge("streamer_ready", "1 when results can be expected.", (), [((), health.ready)])


def _of_cameras(stats: Stats) -> Iterator[Metric]:
    cameras, label = stats.cameras, ("camera",)
    drops = (
        ((name, reason), count)
        for name, camera in cameras.items()
        for reason, count in {**dict.fromkeys(_REASONS, 0), **camera.dropped}.items()
    )
    states = (((name, state), state == camera.state) for name, camera in cameras.items() for state in _STATES)
    yield _counter("streamer_frames_grabbed", "Frames that came.", label, _each(stats, "grabbed"))
    yield _counter("streamer_frames_dropped", "Frames given up, by reason.", (*label, "reason"), drops)
    yield _counter("streamer_frames_lost", "Frames the source could not decode.", label, _each(stats, "lost"))
    yield _counter("streamer_frames_published", "Frames handed to the sinks.", label, _each(stats, "published"))
    yield _counter("streamer_reconnects", "Times a camera broke off.", label, _each(stats, "reconnects"))
    yield _gauge("streamer_fps_in", "Frames that come a second, over 10 s.", label, _each(stats, "fps_in"))
    yield _gauge("streamer_fps_out", "Frames published a second, over 10 s.", label, _each(stats, "fps_out"))
    yield _gauge("streamer_camera_state", "1 for the state a camera is in.", (*label, "state"), states)


def _of_histograms(stats: Stats) -> Iterator[Metric]:
    told = stats.histograms
    latency = (((name,), one) for name, one in told.latency.items())
    steps = (((step,), one) for step, one in told.stages.items())
    batch = [((), told.batch)] if told.batch else []
    yield _histogram("streamer_latency_seconds", "From grab to hand-over.", ("camera",), latency)
    yield _histogram("streamer_stage_seconds", "A step of the way, the wait for it included.", ("step",), steps)
    yield _histogram(
        "streamer_end_to_end_seconds",
        "From capture until the server acknowledged the result.",
        ("camera", "sink"),
        told.end_to_end.items(),
    )
    yield _histogram("streamer_batch_size", "Frames that go through the graph together.", (), batch)


def _of_graph(stats: Stats) -> Iterator[Metric]:
    queues = (((queue,), depth) for queue, depth in stats.queues.items())
    busy = (((thread,), seconds) for thread, seconds in stats.busy.items())
    shed = (((node,), of.shed) for node, of in stats.nodes.items())
    yield _gauge("streamer_queue_depth", "Frames of a camera or batches of a step that wait.", ("queue",), queues)
    yield _gauge("streamer_busy_seconds", "How long a thread has been at its present batch.", ("thread",), busy)
    yield _counter("streamer_work_shed", "Pieces of its own work that a node left out.", ("node",), shed)
    if (latency := stats.latency) is not None:
        target = None if latency.target_ms is None else latency.target_ms / 1e3
        yield _gauge("streamer_latency_target_seconds", "The latency asked for.", (), [((), target)])
        yield _gauge("streamer_latency_held", "1 while the latency target is held.", (), [((), latency.held)])


def _of_sinks(stats: Stats) -> Iterator[Metric]:
    sinks = stats.sinks.items()
    up, written = (((name,), not sink.error) for name, sink in sinks), (((name,), sink.written) for name, sink in sinks)
    dropped = (((name,), sink.dropped) for name, sink in sinks)
    yield _gauge("streamer_sink_up", "1 while a sink can write.", ("sink",), up)
    yield _counter("streamer_results_written", "Results that the server acknowledged.", ("sink",), written)
    yield _counter("streamer_results_dropped", "Results a sink gave up.", ("sink",), dropped)


def _of_process(stats: Stats) -> Iterator[Metric]:
    if (process := stats.process) is not None:
        yield _counter("process_cpu_seconds", "CPU time spent.", (), [((), process.cpu_seconds)])
        yield _gauge("process_resident_memory_bytes", "Memory.", (), [((), process.rss)])
        yield _gauge("process_open_fds", "Open file descriptors.", (), [((), process.files)])
        yield _gauge("process_threads", "Threads.", (), [((), process.threads)])
        yield _gauge("process_start_time_seconds", "When it started, Unix time.", (), [((), process.started)])
        yield _gauge("streamer_machine_cpu_ratio", "Of all cores, by all processes.", (), [((), process.machine_cpu)])
    if stats.gpus:
        yield from _of_gpus(stats)


def _of_gpus(stats: Stats) -> Iterator[Metric]:
    told = (
        ("streamer_gpu_busy_ratio", "How busy it is.", "busy"),
        ("streamer_gpu_decoder_busy_ratio", "How busy its video decoder is.", "decoder_busy"),
        ("streamer_gpu_memory_used_bytes", "Memory in use, by all processes.", "memory_used"),
        ("streamer_gpu_memory_total_bytes", "Memory there is.", "memory_total"),
        ("streamer_gpu_temperature_celsius", "Temperature.", "temperature"),
    )
    for name, text, figure in told:
        rows = (((number, gpu.name), getattr(gpu, figure)) for number, gpu in stats.gpus.items())
        yield _gauge(name, text, ("gpu", "name"), rows)


def _each(stats: Stats, figure: str) -> Rows:
    return (((name,), getattr(camera, figure)) for name, camera in stats.cameras.items())


def _counter(name: str, text: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=labels), rows)


def _gauge(name: str, text: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), rows)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, rows: Rows) -> Metric:
    for values, figure in rows:
        if figure is not None:
            family.add_metric(values, float(figure))
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Histogram]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, one in rows:
        bounds = (*map(floatToGoString, one.bounds), "+Inf")
        family.add_metric(values, list(zip(bounds, accumulate(one.counts), strict=True)), one.total)
    return family
