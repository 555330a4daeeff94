"""Redis dies, hangs, fills up or drops connections while results are published; ids are compared one by one."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redisworld import Proxy, Witness, eventually, ids, lossless, packet, publish, raw, sink, written

from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkError
from streamer.wire.link import Timeouts


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that keeps across restarts all that it acknowledged."""
    with EmbeddedRedis({"appendonly": "yes", "appendfsync": "always"}, directory=tmp_path) as server:
        yield server


def grown(url: str, beyond: int) -> bool:
    return len(written(url)) > beyond


def restart(server: EmbeddedRedis) -> None:
    server.stop()
    server.start()


# --- recordings: nothing lost, nothing doubled ---


def test_a_recording_survives_a_server_that_is_killed_again_and_again(durable: EmbeddedRedis) -> None:
    witness = Witness()
    writer = lossless(durable.url, witness, capacity=20)

    def work() -> None:
        for seq in range(3000):
            writer.publish([packet(seq)])
        writer.close()

    thread = threading.Thread(target=work)
    thread.start()
    for enough in (100, 700, 1500):
        eventually(partial(grown, durable.url, enough))
        restart(durable)  # in the middle of a batch
    thread.join(30)
    assert written(durable.url) == ids(range(3000))
    assert not witness.dropped
    assert len(witness.states) >= 2, "the restarts were noticed"
    assert witness.states[-1] is None


@pytest.mark.parametrize("seed", range(4))
def test_cut_connections_neither_lose_nor_double(redis_url: str, seed: int) -> None:
    chance = random.Random(seed)
    cuts = [chance.randrange(100, 30_000) for _ in range(15)]
    with Proxy(redis_url, cuts) as proxy:
        writer = lossless(proxy.url, capacity=50)
        for seq in range(1500):
            writer.publish([packet(seq)])
        writer.close()
        assert proxy.connections > 5, "it was cut"
    assert written(redis_url) == ids(range(1500))


def test_results_written_before_a_cut_are_not_announced_again(redis_url: str) -> None:
    with raw(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("streamer:live:gate")
        channel.get_message(timeout=1)
        with Proxy(redis_url, [4000, 5000, 6000, 9000]) as proxy:
            publish(proxy.url, range(200), capacity=10)
        heard = [m["data"] for m in iter(lambda: channel.get_message(timeout=0.2), None)]
    assert len(heard) == len(set(heard))


def test_a_server_that_lost_its_data_gets_the_rest(redis_server: EmbeddedRedis) -> None:
    writer = lossless(redis_server.url)
    writer.publish([packet(seq) for seq in range(10)])
    eventually(lambda: len(written(redis_server.url)) == 10)
    redis_server.stop()
    writer.publish([packet(seq) for seq in range(10, 20)])
    redis_server.start()
    writer.close()
    assert written(redis_server.url) == ids(range(10, 20))


def test_an_unanswering_server_is_noticed(redis_server: EmbeddedRedis) -> None:
    witness = Witness()
    writer = lossless(redis_server.url, witness, timeouts=Timeouts(0.3, 0.3))
    writer.publish([packet(0)])
    eventually(lambda: written(redis_server.url))
    os.kill(redis_server.pid, signal.SIGSTOP)
    writer.publish([packet(seq) for seq in range(1, 50)])
    eventually(lambda: witness.states, "the loss")
    assert "does not answer in time" in str(witness.states[0])
    os.kill(redis_server.pid, signal.SIGCONT)
    writer.close()
    assert written(redis_server.url) == ids(range(50)), "what the stopped server had in its socket came once"


def test_a_full_server_is_waited_for(redis_server: EmbeddedRedis) -> None:
    witness = Witness()
    with raw(redis_server.url) as client:
        writer = lossless(redis_server.url, witness)
        writer.publish([packet(seq) for seq in range(10)])
        eventually(lambda: len(written(redis_server.url)) == 10)
        client.config_set("maxmemory", "1")
        writer.publish([packet(seq) for seq in range(10, 20)])
        eventually(lambda: witness.states, "the refusal")
        assert "cannot serve at the moment" in str(witness.states[0])
        client.config_set("maxmemory", "0")
        writer.close()
    assert written(redis_server.url) == ids(range(20))
    assert witness.states == [witness.states[0], None]


def test_a_read_only_replica_is_waited_for(redis_server: EmbeddedRedis) -> None:
    witness = Witness()
    with raw(redis_server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        writer = lossless(redis_server.url, witness)
        writer.publish([packet(0)])
        eventually(lambda: witness.states)
        client.execute_command("REPLICAOF", "NO", "ONE")
        writer.close()
    assert written(redis_server.url) == ids([0])


def test_publish_waits_while_a_recording_is_too_far_ahead_and_can_be_ended(redis_server: EmbeddedRedis) -> None:
    redis_server.stop()
    witness = Witness()
    writer = lossless(redis_server.url, witness, capacity=3)
    refused: list[SinkError] = []

    def fill() -> None:
        try:
            for seq in range(10):
                writer.publish([packet(seq)])
        except SinkError as error:
            refused.append(error)

    thread = threading.Thread(target=fill)
    thread.start()
    eventually(lambda: witness.states)
    assert thread.is_alive()
    writer.abort()
    thread.join(5)
    assert len(refused) == 1
    writer.close()
    assert witness.dropped == {"gate": 3}


# --- live: the newest matter, and every loss is counted ---


def test_live_results_are_written_or_counted(durable: EmbeddedRedis, caplog: pytest.LogCaptureFixture) -> None:
    witness = Witness()
    writer = sink(durable.url, witness, capacity=10, close_deadline=10.0)
    with caplog.at_level(logging.INFO, "streamer"):
        writer.publish([packet(seq) for seq in range(5)])
        eventually(lambda: len(written(durable.url)) == 5)
        durable.stop()
        for seq in range(5, 100):
            writer.publish([packet(seq), packet(seq, "garage")])
        eventually(lambda: witness.states)
        durable.start()
        eventually(lambda: None in witness.states, "recovery")
        writer.publish([packet(seq) for seq in range(100, 105)])
        writer.close()
    gate, garage = written(durable.url), written(durable.url, "garage")
    assert gate[:5] == ids(range(5))
    assert gate[-8:] == ids(range(97, 105)), "the newest were kept"
    assert len(set(gate)) == len(gate)
    assert len(gate) + witness.dropped["gate"] == 105
    assert len(garage) + witness.dropped["garage"] == 95
    levels = [record.levelname for record in caplog.records]
    assert levels in (["WARNING", "INFO"], ["WARNING", "WARNING", "INFO"]), "a line a cause: away, and maybe loading"


def test_a_live_sink_gives_up_at_its_deadline(redis_server: EmbeddedRedis) -> None:
    redis_server.stop()
    witness = Witness()
    writer = sink(redis_server.url, witness, close_deadline=0.05)
    writer.publish([packet(seq) for seq in range(7)])
    writer.close()
    assert witness.dropped == {"gate": 7}


def test_a_live_sink_does_not_wait_for_a_hanging_server(redis_server: EmbeddedRedis) -> None:
    witness = Witness()
    writer = sink(redis_server.url, witness, close_deadline=0.05, timeouts=Timeouts(30.0, 30.0))
    os.kill(redis_server.pid, signal.SIGSTOP)
    writer.publish([packet(0)])
    writer.close()
    assert witness.dropped == {"gate": 1}
