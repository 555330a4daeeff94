"""Events and whole fields through a real Redis: with their results, once, and read as they come."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from itertools import islice

import numpy as np
import pytest
from happenings import ENCODER, FLOW, eventful, packet, publish, writer
from redisworld import AT, Proxy, eventually, raw

from streamer.backoff import Backoff
from streamer.client import Tuning, aio, events, flow, latest
from streamer.embedded import EmbeddedRedis
from streamer.types import Note, Packet
from streamer.wire import LineCrossed, OtherEvent, OtherResult, decode_event
from streamer.wire.link import Timeouts

TUNING = Tuning(backoff=Backoff(0.01, 0.05), timeouts=Timeouts(1.0, 2.0), claim_after=0.2)


def stream(url: str, camera: str = "gate") -> list[bytes]:
    with raw(url) as client:
        return [fields[b"json"] for _, fields in client.xrange(f"streamer:events:{camera}")]


def told(*packets: Packet) -> list[bytes]:
    return [event for one in packets for event in ENCODER.beside(one).events]


def test_events_are_in_a_stream_of_their_own_in_order(any_redis_url: str) -> None:
    packets = [eventful(0), packet(1), eventful(2), eventful(2, "yard")]
    publish(any_redis_url, *packets)
    assert stream(any_redis_url) == told(*packets[:3])
    assert stream(any_redis_url, "yard") == told(packets[3])
    with raw(any_redis_url) as client:
        assert client.xlen("streamer:results:gate") == 3


def test_a_note_and_its_events_reach_subscribers(redis_url: str) -> None:
    publish(redis_url, packet(3, mine=Note("fall", {"lying": [7]}, [{"kind": "fell", "track_id": 7}])))
    found = latest(redis_url, "gate")
    assert found is not None
    result = found.results["mine"]
    assert isinstance(result, OtherResult)
    assert (result.kind, result.data["lying"]) == ("fall", [7])
    (event,) = [decode_event(data) for data in stream(redis_url)]
    assert isinstance(event.event, OtherEvent)
    assert (event.node, event.event.kind, event.event.data) == ("mine", "fell", {"track_id": 7, "pts": 0.12})


def test_the_stream_of_events_has_its_own_bound(redis_url: str) -> None:
    publish(redis_url, *(eventful(seq) for seq in range(300)), maxlen=100, prefix="other:")
    with raw(redis_url) as client:
        assert 100 <= client.xlen("other:events:gate") < 400
        assert client.xlen("other:results:gate") < 300


@pytest.mark.parametrize("cut", [200, 1_000, 3_000, 9_000, 20_000, 40_000])
def test_a_connection_that_is_cut_loses_and_doubles_no_event(redis_url: str, cut: int) -> None:
    packets = [eventful(seq) for seq in range(12)]
    with Proxy(redis_url, [cut, cut]) as proxy:
        publish(proxy.url, *packets)
    assert stream(redis_url) == told(*packets)


def test_a_clock_that_stepped_back_loses_no_event(redis_url: str) -> None:
    publish(redis_url, eventful(100))
    publish(redis_url, eventful(0))
    assert stream(redis_url) == told(eventful(100), eventful(0))


def test_a_resumed_run_brings_the_events_of_its_lines_and_none_twice(redis_url: str) -> None:
    """Killed after an event was written and before its result was: the line's events are there already."""
    publish(redis_url, eventful(0))
    with raw(redis_url) as client:
        client.delete("streamer:results:gate")
    sink = writer(redis_url)
    for seq in (0, 1):
        sink.publish_encoded("gate", AT + seq * 0.04, seq, ENCODER(eventful(seq)))
    sink.close()
    assert stream(redis_url) == told(eventful(0), eventful(1))


# --- read ---


def test_events_are_followed_like_results(redis_url: str) -> None:
    publish(redis_url, eventful(0))
    found = events(redis_url, tuning=TUNING)
    publish(redis_url, eventful(1), eventful(1, "yard"))
    got = list(islice(found, 10))
    assert [(one.camera, one.seq) for one in got].count(("gate", 1)) == 5
    assert [(one.camera, one.seq) for one in got].count(("yard", 1)) == 5
    assert {one.missed for one in got} == {0}
    crossed = next(one.event for one in got if isinstance(one.event, LineCrossed))
    assert (crossed.line, crossed.direction, crossed.label) == ("door", "left_to_right", "car")


def test_a_group_gets_every_event_once_from_the_first_on(redis_url: str) -> None:
    publish(redis_url, eventful(0), eventful(1))
    got = list(islice(events(redis_url, camera="gate", group="alarm", consumer="a", tuning=TUNING), 10))
    assert [one.seq for one in got] == [0] * 5 + [1] * 5


def test_results_and_events_do_not_mix(redis_url: str) -> None:
    """A camera may be called like a stream."""
    publish(redis_url, eventful(0, "events:gate"))
    assert [one.camera for one in islice(events(redis_url, group="g", tuning=TUNING), 5)] == ["events:gate"] * 5


def test_asyncio_says_the_same(redis_url: str) -> None:
    publish(redis_url, eventful(0), packet(1, flow=FLOW))

    async def read() -> list[str]:
        async with aclosing(aio.events(redis_url, group="g", tuning=TUNING)) as found:
            kinds = [(await anext(found)).event.kind for _ in range(5)]
        newest = await aio.flow(redis_url, "gate", "flow")
        assert newest is not None
        assert newest.seq == 1
        return kinds

    assert asyncio.run(read()) == [json.loads(data)["event"]["kind"] for data in told(eventful(0))]


# --- fields ---


def test_the_newest_field_is_kept_for_a_while(redis_url: str) -> None:
    assert flow(redis_url, "gate", "flow") is None
    publish(redis_url, *(packet(seq, flow=FLOW, summary=FLOW) for seq in range(5)), latest_ttl=30.0)
    got = flow(redis_url, "gate", "flow")
    assert got is not None
    assert got.seq == 4
    np.testing.assert_allclose(got.flow.uv, FLOW.uv, rtol=1e-3, atol=1e-3)
    with raw(redis_url) as client:
        assert {key.decode() for key in client.keys("streamer:flow:*")} == {"streamer:flow:gate:flow"}
        assert 29_000 < client.pttl("streamer:flow:gate:flow") <= 30_000


def test_while_redis_is_away_one_field_is_held_and_no_more(redis_server: EmbeddedRedis) -> None:
    sink = writer(redis_server.url)
    sink.publish([packet(0, flow=FLOW)])
    eventually(lambda: flow(redis_server.url, "gate", "flow"), "the first field")
    redis_server.stop()
    for seq in range(1, 200):
        sink.publish([packet(seq, flow=FLOW)])
    held = sink._outbox.newest.size
    assert held <= 2 * len(ENCODER.beside(packet(0, flow=FLOW)).fields["flow"])
    redis_server.start()
    sink.close()
    got = flow(redis_server.url, "gate", "flow")
    assert got is not None
    assert got.seq == 199


def test_events_are_events(redis_url: str) -> None:
    publish(redis_url, eventful(0))
    assert [decode_event(data).seq for data in stream(redis_url)] == [0] * 5
