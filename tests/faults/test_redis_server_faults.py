"""Every state a Redis may get into while results are written: ids are compared one by one, live and recorded."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redisfaults import CONFIG, FAULTS, Fault, deadline, full, killed, stopped, suffer
from redisworld import AT, Witness, encode, eventually, ids, lossless, packet, raw, sink, written

from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkUnusable
from streamer.sinks.redis import RedisSink
from streamer.wire.link import Timeouts

Make = Callable[..., RedisSink]


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    with deadline(30):
        yield


def _system() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on PATH; install it with: apt install redis-server")
    return Path(found)


@pytest.fixture(params=[None, _system], ids=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server of each kind, which keeps across restarts all that it acknowledged."""
    with EmbeddedRedis(CONFIG, directory=tmp_path, binary=request.param) as running:
        yield running


@pytest.mark.parametrize("fault", FAULTS)
def test_a_live_sink_goes_on_and_counts_what_it_drops(server: EmbeddedRedis, fault: Fault) -> None:
    witness = Witness()
    writer = sink(server.url, witness, capacity=20, close_deadline=10.0, timeouts=Timeouts(0.3, 0.3))
    handed = suffer(writer, witness, fault, server)
    there = written(server.url)
    assert there == sorted(set(there) & set(ids(range(len(handed)))), key=number)
    assert len(there) + witness.dropped["gate"] == len(handed)
    assert witness.dropped["gate"] > 0
    assert witness.acknowledged == {("gate", AT + number(entry) * 0.04): 1 for entry in there}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_recording_loses_and_doubles_nothing(server: EmbeddedRedis, fault: Fault) -> None:
    witness = Witness()
    writer = lossless(server.url, witness, capacity=20, timeouts=Timeouts(0.3, 0.3))
    handed = suffer(writer, witness, fault, server)
    assert written(server.url) == ids(range(len(handed)))
    assert witness.acknowledged == {("gate", at): 1 for at in handed}
    assert not witness.dropped


def test_what_a_stopped_server_works_on_late_comes_once(server: EmbeddedRedis) -> None:
    """A whole batch waits in its socket when it goes on, and meets the same batch from the next connection."""
    witness = Witness()
    writer = lossless(server.url, witness, timeouts=Timeouts(0.2, 0.2))
    for first in range(0, 1000, 250):
        eventually(lambda: len(witness.acknowledged) == first)  # noqa: B023 - called here and now
        told = len(witness.states)
        with stopped(server):
            writer.publish([packet(seq) for seq in range(first, first + 250)])
            eventually(lambda: len(witness.states) > told)  # noqa: B023 - as above
    writer.close()
    assert written(server.url) == ids(range(1000))
    assert set(witness.acknowledged.values()) == {1}


def test_a_live_sink_counts_also_over_a_server_that_lost_its_data(redis_server: EmbeddedRedis) -> None:
    witness = Witness()
    writer = sink(redis_server.url, witness, capacity=20, close_deadline=10.0)
    handed = suffer(writer, witness, killed, redis_server)
    assert len(witness.acknowledged) + witness.dropped["gate"] == len(handed)
    assert set(witness.acknowledged.values()) == {1}
    there = written(redis_server.url)
    assert 0 < len(there) < len(witness.acknowledged)
    assert set(there) < {ids([round((at - AT) / 0.04)])[0] for _, at in witness.acknowledged}


def test_while_nothing_can_be_stored_nothing_is_announced_twice(server: EmbeddedRedis) -> None:
    with raw(server.url) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("streamer:live:gate")
        channel.get_message(timeout=1)
        witness = Witness()
        writer = lossless(server.url, witness)
        with full(server):
            writer.publish([packet(seq) for seq in range(5)])
            eventually(lambda: witness.states)
        writer.close()
        heard = [m["data"] for m in iter(lambda: channel.get_message(timeout=0.2), None)]
    assert heard == [encode(packet(seq)) for seq in range(5)]


def test_a_node_of_a_cluster_is_refused() -> None:
    with _cluster_node() as here, _cluster_node() as there, raw(here.url) as client, raw(there.url) as other:
        other.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        address = other.connection_pool.connection_kwargs
        bus = other.config_get("cluster-port")["cluster-port"]
        client.execute_command("CLUSTER MEET", address["host"], address["port"], bus)
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster")
        writer = lossless(here.url)
        writer.publish([packet(0)])
        with pytest.raises(SinkUnusable, match="one node of a Redis Cluster, which cannot be used"):
            writer.close()


def _cluster_node() -> EmbeddedRedis:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return EmbeddedRedis({"cluster-enabled": "yes", "cluster-port": str(probe.getsockname()[1])}, binary=_system)


def number(entry: str) -> int:
    return int(entry.partition("-")[2])
