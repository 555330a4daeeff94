"""What a dashboard or a consumer sees, against real servers: nothing stale, nothing lost in a group, misses counted."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redisworld import AT, eventually, ids, lossless, packet, publish, raw

from streamer.backoff import Backoff
from streamer.client import ClientError, Message, Tuning, aio, history, latest, metrics, subscribe
from streamer.embedded import EmbeddedRedis
from streamer.exporters.redis import RedisExporter
from streamer.stats import Stats
from streamer.wire import DetectionsResult, WireError
from streamer.wire.link import Timeouts

TUNING = Tuning(backoff=Backoff(0.01, 0.05), timeouts=Timeouts(1.0, 2.0), claim_after=0.2)
PATIENT = Tuning(backoff=Backoff(0.01, 0.05), timeouts=Timeouts(1.0, 2.0), claim_after=3600.0)


@dataclass
class Hands:
    """A clock whose time passes only when a consumer works."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def seqs(messages: Iterator[Message], count: int) -> list[int]:
    return [message.seq for message in islice(messages, count)]


def add(url: str, payload: bytes, camera: str = "gate", field: str = "json") -> None:
    with raw(url) as client:
        client.xadd(f"streamer:results:{camera}", {field: payload})


# --- without a group ---


def test_a_subscriber_sees_what_comes_after_the_call(any_redis_url: str) -> None:
    publish(any_redis_url, range(5))
    messages = subscribe(any_redis_url, camera="gate", tuning=TUNING)
    publish(any_redis_url, range(5, 10))
    got = list(islice(messages, 5))
    assert [m.seq for m in got] == [5, 6, 7, 8, 9]
    assert {m.missed for m in got} == {0}
    result = got[0].results["yolo"]
    assert isinstance(result, DetectionsResult)
    assert result.items[0].label == "person"


def test_a_camera_may_be_named_before_it_exists(redis_url: str) -> None:
    messages = subscribe(redis_url, camera=["gate", "garage"], tuning=TUNING)
    publish(redis_url, range(3))
    publish(redis_url, range(3), "yard")
    publish(redis_url, range(3), "garage")
    got = [(m.camera, m.seq) for m in islice(messages, 6)]
    assert sorted(got) == [(camera, seq) for camera in ("garage", "gate") for seq in range(3)]


def test_all_cameras_are_followed_and_new_ones_too(redis_url: str) -> None:
    publish(redis_url, range(3), "old")
    messages = subscribe(redis_url, tuning=TUNING)
    publish(redis_url, range(3, 5), "old")
    assert seqs(messages, 2) == [3, 4]
    publish(redis_url, range(4), "new")
    assert [(m.camera, m.seq, m.missed) for m in islice(messages, 4)] == [("new", seq, 0) for seq in range(4)]


def test_a_prefix_may_look_like_a_pattern(redis_url: str) -> None:
    publish(redis_url, range(2), prefix="sXr[1]:")
    messages = subscribe(redis_url, prefix="s*r[1]:", tuning=TUNING)
    publish(redis_url, range(2), prefix="s*r[1]:")
    assert seqs(messages, 2) == [0, 1]


def test_one_that_is_far_behind_skips_to_the_newest_and_knows_how_many_it_missed(redis_url: str) -> None:
    still = Tuning(backoff=Backoff(0.01, 0.05), now=Hands())  # however long it takes to publish
    messages = subscribe(redis_url, camera="gate", tuning=still)
    publish(redis_url, range(64))
    assert seqs(messages, 1) == [0]  # 64 behind is not yet too far
    publish(redis_url, range(64, 1000))
    got = list(islice(messages, 64))
    assert [m.seq for m in got[:63]] == list(range(1, 64))
    assert (got[63].seq, got[63].missed) == (999, 999 - 64)
    publish(redis_url, [1000])
    assert [(m.seq, m.missed) for m in islice(messages, 1)] == [(1000, 0)]


def test_what_was_fetched_is_not_handed_out_stale(redis_url: str) -> None:
    clock = Hands()
    tuning = Tuning(backlog=10, backoff=Backoff(0.01, 0.05), now=clock)
    messages = subscribe(redis_url, camera="gate", tuning=tuning)
    publish(redis_url, range(10))
    assert seqs(messages, 1) == [0]  # nine more are in our hands
    publish(redis_url, range(10, 30))
    clock.seconds += 60  # a slow consumer
    message = next(messages)
    assert (message.seq, message.missed) == (29, 28)


def test_every_message_is_either_seen_or_counted(redis_url: str) -> None:
    clock = Hands()
    tuning = Tuning(backlog=7, backoff=Backoff(0.01, 0.05), now=clock)
    messages = subscribe(redis_url, camera="gate", tuning=tuning)
    next_seq, seen, missed = 0, 0, 0
    for burst in (3, 8, 7, 30, 1, 100, 6, 2):
        publish(redis_url, range(next_seq, next_seq + burst), maxlen=50)
        next_seq += burst
        for message in messages:
            seen, missed = seen + 1, missed + message.missed
            clock.seconds += 0.06
            if message.seq == next_seq - 1:
                break
    assert seen + missed == next_seq
    assert missed >= 100


def test_what_redis_trimmed_before_it_was_read_is_counted(redis_url: str) -> None:
    clock = Hands()
    tuning = Tuning(backoff=Backoff(0.01, 0.05), now=clock)
    messages = subscribe(redis_url, camera="gate", tuning=tuning)
    publish(redis_url, [0])
    assert seqs(messages, 1) == [0]
    publish(redis_url, range(1, 41))
    with raw(redis_url) as client:
        client.xtrim("streamer:results:gate", maxlen=10, approximate=False)
    clock.seconds += 60
    got = list(islice(messages, 10))
    assert [m.seq for m in got] == list(range(31, 41))
    assert sum(m.missed for m in got) == 30


def test_entries_that_are_no_messages_are_skipped_and_counted(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    messages = subscribe(redis_url, camera="gate", tuning=TUNING)
    publish(redis_url, [0])
    with raw(redis_url) as client:
        client.xadd("streamer:results:gate", {"json": b"\xff"}, id=ids([1])[0])
        client.xadd("streamer:results:gate", {"other": b"{}"}, id=ids([2])[0])
    publish(redis_url, [3])
    assert [(m.seq, m.missed) for m in islice(messages, 2)] == [(0, 0), (3, 2)]
    assert len(caplog.records) == 2


def test_a_stream_that_begins_anew_is_followed(redis_url: str) -> None:
    publish(redis_url, range(1000, 1010))
    messages = subscribe(redis_url, camera="gate", tuning=TUNING)
    with raw(redis_url) as client:
        client.flushall()
    publish(redis_url, range(3))
    assert seqs(messages, 3) == [0, 1, 2]


def come_back(server: EmbeddedRedis) -> None:
    server.start()
    publish(server.url, range(3, 6))


def test_a_subscription_outlives_a_restart(redis_server: EmbeddedRedis, caplog: pytest.LogCaptureFixture) -> None:
    messages = subscribe(redis_server.url, camera="gate", tuning=TUNING)
    publish(redis_server.url, range(3))
    assert seqs(messages, 3) == [0, 1, 2]
    with caplog.at_level(logging.INFO, "streamer.client"):
        redis_server.stop()
        back = threading.Thread(target=come_back, args=(redis_server,))
        back.start()
        assert seqs(messages, 3) == [3, 4, 5]
        back.join()
    assert [record.levelname for record in caplog.records if "client" in record.name] == ["WARNING", "INFO"]


# --- errors ---


def test_a_refused_password_is_said_at_once() -> None:
    with EmbeddedRedis({"requirepass": "s3cret"}) as server:
        for group in (None, "workers"):
            with pytest.raises(ClientError, match="password") as caught:
                subscribe(server.url.replace("://", "://:wr0ng@"), group=group)
            assert "wr0ng" not in str(caught.value)
        with pytest.raises(ClientError, match="password"):
            latest(server.url, camera="gate")


def test_a_password_changed_meanwhile_ends_the_subscription(redis_server: EmbeddedRedis) -> None:
    messages = subscribe(redis_server.url, camera="gate", tuning=TUNING)
    with raw(redis_server.url) as client:
        client.config_set("requirepass", "s3cret")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(ClientError, match="password"):
        next(messages)


def test_a_server_that_never_answered_is_an_error() -> None:
    with pytest.raises(ClientError, match="cannot be reached"):
        subscribe("redis://127.0.0.1:1/0")
    with pytest.raises(ClientError, match="is no Redis URL"):
        subscribe("http://localhost")


def test_a_consumer_needs_a_group(redis_url: str) -> None:
    with pytest.raises(ClientError, match="group="):
        subscribe(redis_url, consumer="me")


def test_a_key_that_is_no_stream_is_an_error(redis_url: str) -> None:
    with raw(redis_url) as client:
        client.set("streamer:results:gate", "text")
    with pytest.raises(ClientError, match="WRONGTYPE"):
        subscribe(redis_url, camera="gate")


# --- with a group ---


def pending(url: str, group: str = "workers") -> int:
    with raw(url) as client:
        return int(client.xpending("streamer:results:gate", group)["pending"])


def test_a_group_begins_at_the_oldest_and_acknowledges_what_was_used(any_redis_url: str) -> None:
    publish(any_redis_url, range(5))
    messages = subscribe(any_redis_url, camera="gate", group="workers", tuning=PATIENT)
    assert next(messages).seq == 0
    assert pending(any_redis_url) == 5
    assert next(messages).seq == 1
    assert pending(any_redis_url) == 4
    assert seqs(messages, 3) == [2, 3, 4]


def test_a_group_goes_on_where_it_stopped(redis_url: str) -> None:
    publish(redis_url, range(3))
    first = subscribe(redis_url, camera="gate", group="workers", consumer="me", tuning=PATIENT)
    assert seqs(first, 2) == [0, 1]
    del first  # with 1 in its hands and 2 read ahead
    publish(redis_url, range(3, 6))
    second = subscribe(redis_url, camera="gate", group="workers", consumer="me", tuning=PATIENT)
    assert seqs(second, 5) == [1, 2, 3, 4, 5]


def test_an_exception_in_the_loop_leaves_the_message_pending(redis_url: str) -> None:
    publish(redis_url, range(2))

    def handle() -> None:
        for message in subscribe(redis_url, camera="gate", group="workers", tuning=PATIENT):
            if message.seq == 1:
                raise RuntimeError("the handler failed")

    with pytest.raises(RuntimeError, match="the handler failed"):
        handle()
    assert pending(redis_url) == 1


def test_what_a_dead_consumer_left_comes_to_another(redis_url: str) -> None:
    publish(redis_url, range(4))
    dead = subscribe(redis_url, camera="gate", group="workers", consumer="dead", tuning=PATIENT)
    assert seqs(dead, 2) == [0, 1]
    alive = subscribe(redis_url, camera="gate", group="workers", consumer="alive", tuning=TUNING)
    assert seqs(alive, 3) == [1, 2, 3]
    publish(redis_url, [4])
    assert seqs(alive, 1) == [4]
    assert pending(redis_url) == 1


def test_a_killed_process_loses_nothing(redis_url: str) -> None:
    publish(redis_url, range(3))
    script = (
        "import sys, time\nfrom streamer.client import subscribe\n"
        f"for m in subscribe({redis_url!r}, camera='gate', group='workers'):\n"
        "    print(m.seq, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline().strip() == "0"
        victim.kill()
    assert seqs(subscribe(redis_url, camera="gate", group="workers", tuning=TUNING), 3) == [0, 1, 2]


def test_a_group_shares_the_work(redis_url: str) -> None:
    publish(redis_url, range(100))
    tuning = Tuning(chunk=5, claim_after=3600)
    members = [subscribe(redis_url, camera="gate", group="workers", tuning=tuning) for _ in range(2)]
    got = [seqs(member, 10) for member in members]
    assert not set(got[0]) & set(got[1])
    everyone = subscribe(redis_url, camera="gate", group="others", tuning=tuning)
    assert seqs(everyone, 100) == list(range(100)), "each group sees everything"


def test_what_was_claimed_from_a_slow_consumer_is_not_handled_twice(redis_url: str) -> None:
    clock = Hands()
    publish(redis_url, range(4))
    slow_tuning = Tuning(claim_after=0.1, now=clock)
    slow = subscribe(redis_url, camera="gate", group="workers", consumer="slow", tuning=slow_tuning)
    assert seqs(slow, 1) == [0]  # and 1, 2, 3 read ahead
    quick = subscribe(redis_url, camera="gate", group="workers", consumer="quick", tuning=TUNING)
    assert seqs(quick, 4) == [0, 1, 2, 3], "all of it claimed"
    publish(redis_url, [4])
    clock.seconds += 10
    assert seqs(slow, 1) == [4]


def test_a_group_outlives_a_restart_that_kept_the_data(tmp_path: Path) -> None:
    with EmbeddedRedis({"appendonly": "yes", "appendfsync": "always"}, directory=tmp_path) as server:
        publish(server.url, range(50))
        messages = subscribe(server.url, camera="gate", group="workers", tuning=PATIENT)
        got = seqs(messages, 10)
        server.stop()
        server.start()
        got += seqs(messages, 40)
        publish(server.url, range(50, 60))
        got += seqs(messages, 10)
    assert sorted(set(got)) == list(range(60))
    assert len(got) - 60 <= 1


def test_a_group_outlives_a_restart_that_lost_the_data(redis_server: EmbeddedRedis) -> None:
    publish(redis_server.url, range(5))
    messages = subscribe(redis_server.url, group="workers", tuning=PATIENT)
    assert seqs(messages, 5) == list(range(5))
    redis_server.stop()
    redis_server.start()
    publish(redis_server.url, range(5, 8))
    assert seqs(messages, 3) == [5, 6, 7]


def test_a_group_skips_what_is_no_message_or_was_trimmed(redis_url: str) -> None:
    publish(redis_url, range(3))
    first = subscribe(redis_url, camera="gate", group="workers", consumer="me", tuning=PATIENT)
    assert seqs(first, 1) == [0]
    with raw(redis_url) as client:
        client.xdel("streamer:results:gate", *ids([1]))
        client.xadd("streamer:results:gate", {"json": "nonsense"}, id=ids([3])[0])
    publish(redis_url, [4])
    second = subscribe(redis_url, camera="gate", group="workers", consumer="me", tuning=PATIENT)
    assert [(m.seq, m.missed) for m in islice(second, 3)] == [(0, 0), (2, 1), (4, 1)]
    publish(redis_url, [5])
    assert seqs(second, 1) == [5]
    assert pending(redis_url) == 1


def test_a_group_picks_up_new_cameras(redis_url: str) -> None:
    messages = subscribe(redis_url, group="workers", tuning=TUNING)
    publish(redis_url, range(2), "new")
    assert seqs(messages, 2) == [0, 1]


# --- questions with one answer ---


def test_the_latest_of_a_camera(redis_url: str) -> None:
    assert latest(redis_url, camera="gate") is None
    publish(redis_url, range(3))
    message = latest(redis_url, camera="gate")
    assert message is not None
    assert message.seq == 2
    with raw(redis_url) as client:
        client.set("streamer:latest:gate", "nonsense")
    with pytest.raises(WireError):
        latest(redis_url, camera="gate")


def test_history_is_in_order_and_as_long_as_asked(redis_url: str) -> None:
    assert list(history(redis_url, camera="gate")) == []
    publish(redis_url, range(1200))
    assert seqs(history(redis_url, camera="gate"), 2000) == list(range(1200))
    assert seqs(history(redis_url, camera="gate", limit=3), 9) == [1197, 1198, 1199]
    assert seqs(history(redis_url, camera="gate", start=AT + 4, end=AT + 4.2), 9) == [100, 101, 102, 103, 104, 105]
    assert seqs(history(redis_url, camera="gate", end=AT + 4, limit=2), 9) == [99, 100]
    assert seqs(history(redis_url, camera="gate", start=AT + 47.9), 9) == [1198, 1199]


def test_figures_come_at_once_and_then_as_they_are_made(redis_url: str) -> None:
    with RedisExporter(redis_url) as exporter:
        exporter.export(Stats(1.0))
        exporter.export(Stats(2.0))
        figures = metrics(redis_url, tuning=TUNING)
        assert next(figures).at == 2.0
        exporter.export(Stats(3.0))
        exporter.export(Stats(4.0))
        assert next(figures).at == 4.0, "a slow reader gets the newest"


# --- asyncio ---


def test_asyncio_twins_say_the_same(redis_url: str) -> None:
    async def talk() -> dict[str, Any]:
        publish(redis_url, range(5))
        got: dict[str, Any] = {}
        newest = await aio.latest(redis_url, camera="gate")
        got["latest"] = newest and newest.seq
        got["history"] = [m.seq async for m in aio.history(redis_url, camera="gate", limit=2)]
        async with aclosing(aio.subscribe(redis_url, camera="gate", group="workers", tuning=TUNING)) as messages:
            got["group"] = [(await anext(messages)).seq for _ in range(5)]
        async with aclosing(aio.subscribe(redis_url, camera="gate", tuning=TUNING)) as messages:
            following = asyncio.ensure_future(anext(messages))
            seq = 5
            while not following.done():  # until it has begun
                await asyncio.to_thread(publish, redis_url, [seq])
                seq += 1
            got["follows"] = following.result().seq >= 5
        with RedisExporter(redis_url) as exporter:
            exporter.export(Stats(7.0))
        async with aclosing(aio.metrics(redis_url)) as figures:
            got["metrics"] = (await anext(figures)).at
        return got

    assert asyncio.run(talk()) == {
        "latest": 4, "history": [3, 4], "group": [0, 1, 2, 3, 4], "follows": True, "metrics": 7.0,
    }  # fmt: skip


def test_asyncio_errors_and_restarts(redis_server: EmbeddedRedis) -> None:
    async def talk() -> list[int]:
        with pytest.raises(ClientError, match="cannot be reached"):
            await anext(aio.subscribe("redis://127.0.0.1:1/0"))
        with pytest.raises(ClientError, match="is no Redis URL"):
            await aio.latest("http://localhost", camera="gate")
        publish(redis_server.url, [0])
        async with aclosing(aio.subscribe(redis_server.url, group="workers", tuning=TUNING)) as messages:
            got = [(await anext(messages)).seq]
            redis_server.stop()
            following = asyncio.ensure_future(anext(messages))
            await asyncio.to_thread(redis_server.start)
            await asyncio.to_thread(publish, redis_server.url, [1])
            return [*got, (await following).seq]

    assert asyncio.run(talk()) == [0, 1]


def test_many_subscriptions_share_one_event_loop(redis_url: str) -> None:
    async def follow(camera: str) -> list[int]:
        async with aclosing(aio.subscribe(redis_url, camera=camera, group="workers", tuning=TUNING)) as messages:
            return [(await anext(messages)).seq for _ in range(20)]

    async def talk() -> list[list[int]]:
        following = [asyncio.ensure_future(follow(f"camera {i}")) for i in range(5)]
        writer = lossless(redis_url)
        for i in range(5):
            writer.publish([packet(seq, f"camera {i}") for seq in range(20)])
        await asyncio.to_thread(writer.close)
        return await asyncio.gather(*following)

    assert asyncio.run(talk()) == [list(range(20))] * 5


def test_a_cancelled_wait_ends_at_once(redis_url: str) -> None:
    async def talk() -> None:
        messages = aio.subscribe(redis_url, camera="gate")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(messages), 0.05)
        await messages.aclose()

    asyncio.run(talk())
    with raw(redis_url) as client:
        eventually(lambda: len(client.client_list()) == 1, "the end of the connection")
