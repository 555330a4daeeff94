"""A connection to Redis is cut wherever it can be, in what is asked or in what is answered: ids compared one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from happenings import ENCODER, eventful
from happenings import packet as bare
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redisfaults import deadline
from redisworld import QUICK, Proxy, Witness, raw

from streamer.backoff import Backoff
from streamer.sinks.redis import RedisOptions, RedisSink

PACKETS = (bare(0), eventful(1), bare(2), bare(3, "yard"), eventful(4))
STREAMS = ("results:gate", "results:yard", "events:gate", "events:yard")
OPTIONS = RedisOptions(capacity=1000, close_deadline=20.0, backoff=Backoff(0.001, 0.005), timeouts=QUICK["timeouts"])
POLICIES = pytest.mark.parametrize(
    "options", [OPTIONS, replace(OPTIONS, when_full="wait", close_deadline=None)], ids=["live", "recorded"]
)


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    with deadline(60):
        yield


def write(url: str, options: RedisOptions, cuts: list[int | None], replies: list[int | None]) -> tuple[int, int]:
    """Write the packets through a proxy, and see that all is there once; return the bytes each way."""
    witness = Witness()
    with raw(url) as client:
        client.flushall()
        with Proxy(url, cuts, replies) as proxy:
            sink = RedisSink(proxy.url, ENCODER, options, witness, ENCODER.beside)
            sink.publish(PACKETS[:3])
            sink.publish(PACKETS[3:])
            sink.close()
        there = {name: client.xrange(f"streamer:{name}") for name in STREAMS}
    for camera in ("gate", "yard"):
        mine = [packet for packet in PACKETS if packet.frame.camera == camera]
        assert [(entry.decode(), fields[b"json"]) for entry, fields in there[f"results:{camera}"]] == [
            (f"{round(p.frame.captured_at * 1000)}-{p.frame.seq}", ENCODER(p)) for p in mine
        ]
        told = [event for packet in mine for event in ENCODER.beside(packet).events]
        assert [fields[b"json"] for _, fields in there[f"events:{camera}"]] == told
    assert witness.acknowledged == {(p.frame.camera, p.frame.captured_at): 1 for p in PACKETS}
    assert not witness.dropped
    return proxy.asked, proxy.answered


@POLICIES
def test_wherever_it_is_cut_nothing_is_lost_or_doubled(redis_url: str, options: RedisOptions) -> None:
    asked, answered = write(redis_url, options, [], [])
    for offset in range(0, asked + 89, 89):
        write(redis_url, options, [offset], [])
    for offset in range(0, answered + 5, 5):
        write(redis_url, options, [], [offset])


offsets = st.lists(st.none() | st.integers(0, 11_000), max_size=5)


@POLICIES
@given(cuts=offsets, replies=st.lists(st.none() | st.integers(0, 500), max_size=5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_again_and_again(
    redis_url: str, options: RedisOptions, cuts: list[int | None], replies: list[int | None]
) -> None:
    write(redis_url, options, cuts, replies)
