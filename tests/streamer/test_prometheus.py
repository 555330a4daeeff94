"""The page that Prometheus reads."""

from __future__ import annotations

import math
from collections.abc import Iterator

from figures import complete, everything, feed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from streamer.events import CameraRemoved, FrameGrabbed
from streamer.exporters.prometheus import exposition
from streamer.health import Health
from streamer.monitor import Monitor
from streamer.stats import Stats

HANGS = Health(False, False, ("stage yolo hangs",))
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(stats: Stats) -> Samples:
    families = parse(exposition(stats, HANGS)[0].decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def figure(of: Samples, name: str, /, **labels: str) -> float:
    return of[name, frozenset(labels.items())]


def counters(of: Samples) -> Iterator[tuple[str, frozenset[tuple[str, str]]]]:
    return (key for key in of if key[0].endswith(("_total", "_bucket", "_count", "_sum")))


def test_every_figure_is_there_in_base_units() -> None:
    got = samples(everything())
    assert figure(got, "streamer_frames_grabbed_total", camera="gate") == 21
    assert figure(got, "streamer_frames_published_total", camera="gate") == 20
    assert figure(got, "streamer_frames_dropped_total", camera="gate", reason="late") == 1
    assert figure(got, "streamer_frames_lost_total", camera="gate") == 1
    assert figure(got, "streamer_reconnects_total", camera="dock") == 1
    assert figure(got, "streamer_camera_state", camera="yard", state="paused") == 1
    assert figure(got, "streamer_camera_state", camera="yard", state="running") == 0
    assert figure(got, "streamer_results_written_total", sink="redis") == 20
    assert figure(got, "streamer_results_dropped_total", sink="redis") == 1
    assert figure(got, "streamer_sink_up", sink="redis") == 0
    assert figure(got, "streamer_queue_depth", queue="stage yolo") == 1
    assert figure(got, "streamer_busy_seconds", thread="stage yolo") == 34
    assert figure(got, "streamer_work_shed_total", node="actions") == 1
    assert figure(got, "streamer_latency_target_seconds") == 0.15
    assert figure(got, "streamer_latency_held") == 0
    assert figure(got, "streamer_alive") == 0
    assert figure(got, "process_resident_memory_bytes") == 812_000_000
    assert figure(got, "streamer_gpu_memory_used_bytes", gpu="0", name="H200") == 3_100_000_000


def test_what_a_gpu_does_not_tell_is_absent() -> None:
    assert not [key for key in samples(everything()) if ("name", "mute") in key[1]]


def test_histograms_are_cumulative_and_in_seconds() -> None:
    got = samples(everything())
    for name, labels, least, most in (
        ("streamer_latency_seconds", {"camera": "gate"}, "0.03", "0.05"),
        ("streamer_stage_seconds", {"step": "yolo"}, "0.03", "0.05"),
        ("streamer_end_to_end_seconds", {"camera": "gate", "sink": "redis"}, "0.075", "0.15"),
        ("streamer_batch_size", {}, "0.0", "1.0"),
    ):
        counts = {
            dict(key)["le"]: n for (of, key), n in got.items() if of == f"{name}_bucket" and labels.items() <= key
        }
        ordered = [counts[bound] for bound in sorted(counts, key=float)]
        assert ordered == sorted(ordered)
        assert (counts.get(least, 0), counts[most], counts["+Inf"]) == (0, 20, 20)
        assert figure(got, f"{name}_count", **labels) == 20
        assert not math.isnan(figure(got, f"{name}_sum", **labels))


def test_openmetrics_accepts_the_same_page() -> None:
    page, _ = exposition(everything(), HANGS, "application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(page.decode())}  # type: ignore[no-untyped-call]  # theirs
    assert {"streamer_frames_grabbed", "streamer_end_to_end_seconds", "process_cpu_seconds"} <= names


def test_no_series_stands_twice() -> None:
    lines = [
        line.rsplit(" ", 1)[0] for line in exposition(everything(), HANGS)[0].decode().splitlines() if line[0] != "#"
    ]
    assert len(set(lines)) == len(lines)


def test_totals_only_grow_while_a_camera_lives_and_go_with_it() -> None:
    monitor = Monitor({}, target=0.15)
    feed(monitor)
    first = samples(complete(monitor.stats()))
    feed(monitor)
    second = samples(complete(monitor.stats()))
    assert all(second[key] >= first[key] for key in counters(first))
    monitor(CameraRemoved("gate"))
    monitor(FrameGrabbed("gate"))
    third = samples(monitor.stats())
    assert not [key for key in third if ("camera", "gate") in key[1]]
    assert figure(third, "streamer_results_written_total", sink="redis") == 40


def test_before_anything_has_happened() -> None:
    got = samples(Stats(0.0))
    assert figure(got, "streamer_ready") == 0
    assert {name for name, _ in got} == {"streamer_info", "streamer_alive", "streamer_ready"}
