"""What the Redis sink tells of its results, what it holds while it cannot write, and what it finds there already."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from happenings import ENCODER, FLOW, eventful
from happenings import packet as bare
from redisfaults import deadline
from redisworld import AT, QUICK, Witness, encode, eventually, ids, lossless, packet, publish, raw, sink, written
from worlds import ManualClock

from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkError, SinkUnusable
from streamer.events import Event, ResultsWritten, Written
from streamer.sinks.outbox import BATCH_BYTES
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.types import Packet
from streamer.wire import entry_id


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    with deadline(30):
        yield


# --- what was acknowledged ---


def test_every_result_is_told_once_when_redis_has_acknowledged_it(any_redis_url: str) -> None:
    clock, told = ManualClock(unix=AT + 5.0), list[tuple[str, Event]]()

    def observe(event: Event) -> None:
        told.append((threading.current_thread().name, event))

    writer = RedisSink(any_redis_url, ENCODER, RedisOptions.lossless(**QUICK), observe, ENCODER.beside, clock)
    writer.publish([bare(0), eventful(1), eventful(2, "yard")])
    writer.close()
    assert {thread for thread, _ in told} == {"redis sink"}
    events = [event for _, event in told]
    assert all(isinstance(event, ResultsWritten) and event.sink == "redis" for event in events)
    assert [one for event in events if isinstance(event, ResultsWritten) for one in event.results] == [
        Written("gate", AT, AT + 5.0),
        Written("gate", AT + 0.04, AT + 5.0),
        Written("yard", AT + 0.08, AT + 5.0),
    ]


def test_a_batch_is_told_in_one_piece(redis_server: EmbeddedRedis) -> None:
    witness = Witness()
    redis_server.stop()
    writer = lossless(redis_server.url, witness)
    writer.publish([packet(seq) for seq in range(100)])
    eventually(lambda: witness.states)
    redis_server.start()
    writer.close()
    assert [len(e.results) for e in witness.events if isinstance(e, ResultsWritten)] == [100]


# --- what is held ---


def heavy(payload: bytes) -> Callable[[Packet], bytes]:
    return lambda _: payload


def test_a_live_sink_holds_no_more_bytes_than_it_may(redis_server: EmbeddedRedis) -> None:
    witness, bound, payload = Witness(), 1 << 20, json.dumps("x" * 100_000).encode()
    redis_server.stop()
    options = RedisOptions(capacity_bytes=bound, close_deadline=20.0, **QUICK)
    writer = RedisSink(redis_server.url, heavy(payload), options, witness)
    for seq in range(200):
        writer.publish([packet(seq)])
        assert writer.held <= bound + BATCH_BYTES + len(payload)
    redis_server.start()
    writer.close()
    there = written(redis_server.url)
    assert there == ids(range(200 - len(there), 200)), "the newest"
    assert 8 <= len(there) < 20
    assert len(there) + witness.dropped["gate"] == 200


def test_a_recording_waits_for_room(redis_server: EmbeddedRedis) -> None:
    bound, payload = 300_000, json.dumps("x" * 100_000).encode()
    redis_server.stop()
    witness = Witness()
    writer = RedisSink(redis_server.url, heavy(payload), RedisOptions.lossless(capacity_bytes=bound, **QUICK), witness)
    thread = threading.Thread(target=lambda: writer.publish([packet(seq) for seq in range(20)]))
    thread.start()
    eventually(lambda: witness.states)
    eventually(lambda: writer.held > 200_000)
    assert thread.is_alive()
    assert writer.held <= bound
    redis_server.start()
    thread.join()
    writer.close()
    assert written(redis_server.url) == ids(range(20))


def test_a_result_larger_than_all_that_may_wait_is_written(redis_url: str) -> None:
    writer = RedisSink(redis_url, heavy(b"7" * 50_000), RedisOptions.lossless(capacity_bytes=1000, **QUICK))
    writer.publish([packet(seq) for seq in range(5)])
    writer.close()
    assert written(redis_url) == ids(range(5))


def test_fields_are_held_within_the_bound_and_written_though_no_result_follows(redis_server: EmbeddedRedis) -> None:
    size, witness = len(ENCODER.beside(bare(0, flow=FLOW)).fields["flow"]), Witness()
    redis_server.stop()
    options = RedisOptions(capacity_bytes=20 * size, close_deadline=20.0, **QUICK)
    writer = RedisSink(redis_server.url, ENCODER, options, witness, ENCODER.beside)
    for number in range(50):
        writer.publish([bare(number, f"c{number:02}", flow=FLOW)])
    assert writer.held <= 20 * size + BATCH_BYTES
    redis_server.start()
    writer.close()
    with raw(redis_server.url) as client:
        there = sorted(key.decode() for key in client.keys("streamer:flow:*"))
    assert there == [f"streamer:flow:c{number:02}:flow" for number in range(50 - len(there), 50)]
    assert 1 < len(there) <= 10


# --- what breaks off ---


def unfit(_: Packet) -> Any:
    """Encode as what no client of Redis takes."""
    return bytearray(b"{}")


def test_a_writer_that_breaks_off_is_told_with_its_cause(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    witness = Witness()
    writer = RedisSink(redis_url, unfit, RedisOptions(**QUICK), witness)
    for seq in range(3):
        writer.publish([packet(seq)])
    eventually(lambda: witness.states)
    writer.close()
    assert "please report this" in str(witness.states)
    assert witness.dropped == {"gate": 3}
    assert caplog.records[0].exc_info is not None
    recording = RedisSink(redis_url, unfit, RedisOptions.lossless(**QUICK))
    recording.publish([packet(0)])
    with pytest.raises(SinkUnusable, match="please report this"):
        recording.close()


@pytest.mark.parametrize(("make", "says"), [(sink, "given up"), (lossless, "--resume")])
def test_what_is_left_at_the_end_is_told_and_what_to_do(
    make: Callable[..., RedisSink], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make("redis://127.0.0.1:1/0")
    writer.publish([packet(0)])
    writer.abort()
    with caplog.at_level(logging.WARNING):
        writer.close()
    assert says in caplog.messages[-1]
    with pytest.raises(SinkError, match="closed"):
        writer.publish([packet(1)])


# --- what is there already ---


def bring(url: str, seqs: range) -> list[int]:
    """Write what is not there yet; return which of the frames that was."""
    writer = lossless(url)
    stored = writer.stored("gate", since=entry_id(AT, 0))
    missing = [seq for seq in seqs if not stored.has(entry_id(AT + seq * 0.04, seq), encode(packet(seq)))]
    for seq in missing:
        writer.publish_encoded("gate", AT + seq * 0.04, seq, encode(packet(seq)))
    writer.close()
    return missing


def seqs(url: str) -> list[int]:
    with raw(url) as client:
        return [json.loads(fields[b"json"])["seq"] for _, fields in client.xrange("streamer:results:gate")]


def test_what_is_missing_is_brought_once(any_redis_url: str) -> None:
    publish(any_redis_url, range(5))
    assert bring(any_redis_url, range(300)) == [*range(5, 300)]
    assert bring(any_redis_url, range(300)) == []
    assert written(any_redis_url) == ids(range(300))


def test_another_run_in_between_hides_nothing(redis_url: str) -> None:
    publish(redis_url, range(5))
    publish(redis_url, range(1000, 1003))
    assert bring(redis_url, range(10)) == [5, 6, 7, 8, 9]
    assert bring(redis_url, range(10)) == [], "under whatever ids they are there"
    assert seqs(redis_url) == [0, 1, 2, 3, 4, 1000, 1001, 1002, 5, 6, 7, 8, 9]


def test_what_has_been_trimmed_is_not_brought_again(redis_url: str) -> None:
    publish(redis_url, range(500), maxlen=100)
    assert bring(redis_url, range(505)) == [*range(500, 505)]


def test_an_empty_server_gets_all(redis_url: str) -> None:
    assert bring(redis_url, range(5)) == [*range(5)]


def test_what_is_not_a_stream_is_refused(redis_url: str) -> None:
    with raw(redis_url) as client:
        client.set("streamer:results:gate", "not a stream")
    with pytest.raises(SinkUnusable, match="WRONGTYPE"):
        lossless(redis_url).stored("gate", entry_id(AT, 0))
