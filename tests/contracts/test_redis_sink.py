"""Results and figures in a real Redis: what is where, in which order, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from redisworld import AT, Witness, encode, eventually, ids, lossless, packet, publish, raw, sink, written

from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkError, SinkUnusable
from streamer.exporters.redis import RedisExporter
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.stats import CameraStats, Stats
from streamer.wire import decode_metrics


def test_a_result_is_in_the_stream_on_the_channel_and_the_latest(any_redis_url: str) -> None:
    with raw(any_redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.psubscribe("streamer:live:*")
        channel.get_message(timeout=5)  # that we have subscribed
        publish(any_redis_url, range(3))
        heard: list[bytes] = []
        while len(heard) < 3:
            message = channel.get_message(timeout=5)
            assert message is not None, heard
            heard.append(message["data"])
        entries = client.xrange("streamer:results:gate")
        expected = [encode(packet(seq)) for seq in range(3)]
        assert [fields for _, fields in entries] == [{b"json": data} for data in expected]
        assert heard == expected
        assert client.get("streamer:latest:gate") == expected[-1]
        assert 59_000 < client.pttl("streamer:latest:gate") <= 60_000
    assert written(any_redis_url) == ids(range(3))


def test_cameras_are_kept_apart_and_in_order(redis_url: str) -> None:
    writer = lossless(redis_url)
    for seq in range(500):
        writer.publish([packet(seq, "gate"), packet(seq, "garage")])
    writer.close()
    assert written(redis_url, "gate") == written(redis_url, "garage") == ids(range(500))


def test_options_are_honoured(redis_url: str) -> None:
    publish(redis_url, range(1000), prefix="other:", maxlen=100, latest_ttl=5.0)
    with raw(redis_url) as client:
        assert {key.decode() for key in client.keys("*")} == {"other:results:gate", "other:latest:gate"}
        assert 100 <= client.xlen("other:results:gate") < 300, "about maxlen: whole nodes are trimmed"
        assert client.pttl("other:latest:gate") <= 5_000


def test_a_clock_that_stepped_back_loses_nothing(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    publish(redis_url, range(100, 103))
    with caplog.at_level(logging.WARNING):
        publish(redis_url, range(3))
    with raw(redis_url) as client:
        seqs = [json.loads(fields[b"json"])["seq"] for _, fields in client.xrange("streamer:results:gate")]
    assert seqs == [100, 101, 102, 0, 1, 2]
    assert len(caplog.records) == 1, "said once"
    assert "clock" in caplog.text


def test_two_producers_of_one_camera_lose_nothing(redis_url: str) -> None:
    first, second = lossless(redis_url), lossless(redis_url)
    for seq in range(0, 300, 2):
        first.publish([packet(seq)])
        second.publish([packet(seq + 1)])
    first.close()
    second.close()
    with raw(redis_url) as client:
        seqs = [json.loads(fields[b"json"])["seq"] for _, fields in client.xrange("streamer:results:gate")]
    assert sorted(seqs) == list(range(300))


def test_check_says_nothing_when_all_is_well(any_redis_url: str) -> None:
    writer = sink(any_redis_url)
    writer.check()
    writer.close()


# --- refusals ---


@pytest.fixture
def guarded() -> EmbeddedRedis:
    return EmbeddedRedis({"requirepass": "s3cret"})


def test_a_refused_password_is_one_sentence_without_it(guarded: EmbeddedRedis) -> None:
    with guarded as server:
        for url in (server.url, server.url.replace("://", "://:wr0ng@")):
            writer = lossless(url)
            with pytest.raises(SinkUnusable, match="refuses the user name or password") as caught:
                writer.check()
            assert "wr0ng" not in str(caught.value)
            assert "\n" not in str(caught.value)
            with pytest.raises(SinkUnusable):
                publish_until_refused(writer)
            with pytest.raises(SinkUnusable):
                writer.close()
        publish(server.url.replace("://", "://:s3cret@"), range(3))
        assert written(server.url.replace("://", "://:s3cret@")) == ids(range(3))


def test_a_missing_permission_is_named(redis_server: EmbeddedRedis) -> None:
    with raw(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "guest", "on", ">pw", "~*", "&*", "+@all", "-xadd")
    writer = lossless(redis_server.url.replace("://", "://guest:pw@"))
    with pytest.raises(SinkUnusable, match="xadd"):
        publish_until_refused(writer)
    writer.abort()


def test_a_key_that_is_something_else_is_named_and_mended(redis_url: str) -> None:
    with raw(redis_url) as client:
        client.set("streamer:results:gate", "not a stream")
        witness = Witness()
        writer = lossless(redis_url, witness)
        with pytest.raises(SinkUnusable, match="WRONGTYPE"):
            publish_until_refused(writer)
        client.delete("streamer:results:gate")
        eventually(lambda: witness.states[-1:] == [None], "recovery")
    writer.publish([packet(9999)])
    writer.close()
    assert written(redis_url)[-1:] == ids([9999])


def test_a_permission_to_publish_alone_may_be_missing(redis_server: EmbeddedRedis) -> None:
    with raw(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "guest", "on", ">pw", "~*", "&none", "+@all")
    writer = lossless(redis_server.url.replace("://", "://guest:pw@"))
    with pytest.raises(SinkUnusable, match="channel"):
        publish_until_refused(writer)
    writer.abort()


def publish_until_refused(writer: RedisSink) -> None:
    def attempt() -> None:
        writer.publish([packet(0)])

    eventually(attempt)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://u:s3cret@localhost:port/0"])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(SinkUnusable, match="is no Redis URL") as caught:
        RedisSink(url, encode)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SinkUnusable):
        RedisExporter(url)


def test_a_server_that_is_none_is_an_error_that_may_pass() -> None:
    with pytest.raises(SinkError, match="cannot be reached") as caught:
        sink("redis://127.0.0.1:1/0").check()
    assert not isinstance(caught.value, SinkUnusable)


def test_a_database_that_is_none_is_refused(redis_url: str) -> None:
    with pytest.raises(SinkUnusable, match="DB index"):
        sink(redis_url.replace("/0", "/99")).check()


def test_nothing_is_taken_after_the_end(redis_url: str) -> None:
    writer = RedisSink(redis_url, encode, RedisOptions())
    writer.close()
    with pytest.raises(SinkError, match="closed"):
        writer.publish([packet(0)])


# --- figures ---


def test_figures_go_to_the_hash_and_the_stream(any_redis_url: str) -> None:
    stats = Stats(AT, {"gate": CameraStats("running", fps_in=25.0), "yard": CameraStats("retrying", "no route")})
    with RedisExporter(any_redis_url) as exporter, raw(any_redis_url) as client:
        exporter.export(stats)
        cameras = {name.decode(): json.loads(text) for name, text in client.hgetall("streamer:cameras").items()}
        assert cameras["gate"]["fps_in"] == 25.0
        yard = cameras["yard"]
        assert (yard["state"], yard["error"], yard["at"]) == ("retrying", "no route", AT)
        exporter.export(Stats(AT + 1))
        assert not client.exists("streamer:cameras"), "they were removed"
        entries = [decode_metrics(fields[b"json"]) for _, fields in client.xrange("streamer:metrics")]
    assert [entry.at for entry in entries] == [AT, AT + 1]
    assert entries[0].cameras["yard"].error == "no route"


def test_figures_that_nobody_takes_raise_and_the_next_ones_arrive(redis_server: EmbeddedRedis) -> None:
    with RedisExporter(redis_server.url) as exporter:
        exporter.export(Stats(AT))
        redis_server.stop()
        with pytest.raises(SinkError):
            exporter.export(Stats(AT))
        redis_server.start()
        exporter.export(Stats(AT + 2))
    with raw(redis_server.url) as client:
        assert client.xlen("streamer:metrics") == 1


# --- ways to get there ---


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    with EmbeddedRedis({"unixsocket": str(tmp_path / "redis.sock")}) as server:
        publish(f"unix://{tmp_path / 'redis.sock'}?db=0", range(3))
        assert written(server.url) == ids(range(3))


def test_tls_is_checked(tmp_path: Path) -> None:
    if not (shutil.which("openssl") and shutil.which("redis-server")):
        pytest.skip("needs openssl and a redis-server with TLS; install them with: apt install openssl redis-server")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    tls = {"tls-port": str(port), "tls-cert-file": str(certificate), "tls-key-file": str(key), "tls-auth-clients": "no"}
    with EmbeddedRedis(tls, binary=lambda: Path(str(shutil.which("redis-server")))) as server:
        with pytest.raises(SinkUnusable, match="certificate that cannot be verified"):
            sink(f"rediss://localhost:{port}/0").check()
        publish(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}", range(3))
        assert written(server.url) == ids(range(3))
