"""Figures in Redis, and what `streamer watch` makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from figures import everything
from redisworld import AT, raw

from streamer import client
from streamer.cli import main
from streamer.cli.watch import to_stats
from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkError
from streamer.exporters.redis import RedisExporter
from streamer.stats import CameraStats, Stats
from streamer.wire import Metrics, decode_metrics, encode_camera, encode_metrics

GATE, YARD = CameraStats("running", fps_in=25.0), CameraStats("paused")


def cameras(url: str) -> set[str]:
    with raw(url) as connection:
        return {name.decode() for name in connection.hkeys("streamer:cameras")}


def test_what_goes_over_the_wire_comes_back_whole() -> None:
    stats = everything()
    assert to_stats(decode_metrics(encode_metrics(stats))) == stats
    assert b"histogram" not in encode_metrics(stats)


def test_a_message_of_an_older_streamer_is_read() -> None:
    old = b'{"schema":1,"at":7.0,"cameras":{"gate":{"state":"running"}},"sinks":{"redis":{"error":null,"dropped":3}}}'
    stats = to_stats(decode_metrics(old))
    assert (stats.cameras["gate"].end_to_end_ms, stats.process, stats.latency) == (None, None, None)
    assert (stats.sinks["redis"].dropped, stats.sinks["redis"].written) == (3, 0)


def test_an_older_reader_finds_what_it_knows() -> None:
    told = json.loads(encode_metrics(everything()))
    assert (told["schema"], told["sinks"]["redis"]["dropped"]) == (1, 1)
    assert told["cameras"]["gate"].keys() >= {"state", "error", "fps_in", "fps_out", "dropped", "latency_ms", "seen"}
    assert Metrics.model_validate({**told, "weather": "fine"}).cameras["gate"].grabbed == 21


def test_a_removed_camera_leaves_the_hash_and_nobody_else_s(any_redis_url: str) -> None:
    with raw(any_redis_url) as connection:
        connection.hset("streamer:cameras", "elsewhere", encode_camera(GATE, AT))
    with RedisExporter(any_redis_url) as exporter:
        exporter.export(Stats(AT, {"gate": GATE, "yard": YARD}))
        assert cameras(any_redis_url) == {"elsewhere", "gate", "yard"}
        exporter.export(Stats(AT + 1, {"gate": GATE}))
        assert cameras(any_redis_url) == {"elsewhere", "gate"}
        exporter.export(Stats(AT + 2, {"gate": GATE, "yard": YARD}))
    assert cameras(any_redis_url) == {"elsewhere", "gate", "yard"}, "fields outlive the pipeline"


def test_the_last_camera_leaves_as_well(redis_url: str) -> None:
    with RedisExporter(redis_url) as exporter:
        exporter.export(Stats(AT, {"gate": GATE}))
        exporter.export(Stats(AT + 1))
    assert cameras(redis_url) == set()


def test_a_camera_that_was_removed_while_redis_was_away_leaves_later(redis_server: EmbeddedRedis) -> None:
    with RedisExporter(redis_server.url) as exporter:
        exporter.export(Stats(AT, {"gate": GATE, "yard": YARD}))
        redis_server.stop()
        with pytest.raises(SinkError):
            exporter.export(Stats(AT + 1, {"gate": GATE}))
        redis_server.start()
        with raw(redis_server.url) as connection:
            connection.hset("streamer:cameras", "yard", encode_camera(YARD, AT))  # where the server keeps its data
        exporter.export(Stats(AT + 2, {"gate": GATE}))
    assert cameras(redis_server.url) == {"gate"}


def test_the_client_reads_the_new_figures(redis_url: str) -> None:
    with RedisExporter(redis_url) as exporter:
        exporter.export(everything())
    told = next(client.metrics(redis_url))
    assert told.cameras["gate"].end_to_end_ms is not None
    assert (told.queues["stage yolo"], told.nodes["actions"].shed, told.gpus["0"].name) == (1, 1, "H200")


def test_watch_shows_them(redis_url: str, tmp_path: Path) -> None:
    with RedisExporter(redis_url) as exporter:
        exporter.export(everything())
    picture = tmp_path / "watch.svg"
    assert main(["watch", "--redis", redis_url, "--save", str(picture)]) == 0
    shown = picture.read_text().replace("&#160;", " ")
    for said in (
        "end to end",
        "paused",
        "dropped: late 1",
        "stage yolo 1",
        "left out: actions 1",
        "812 MB",
        "GPU 0: 61%",
    ):
        assert said in shown
    assert "latency: yolo alone takes 210 ms" in shown


def test_one_camera_alone_can_be_watched() -> None:
    stats = everything()
    seen = to_stats(decode_metrics(encode_metrics(stats)), "yard")
    assert seen == replace(stats, cameras={"yard": stats.cameras["yard"]})
