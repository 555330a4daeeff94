"""What may befall a Redis while results are written to it, and who keeps count meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import redis
from redisworld import AT, Witness, eventually, packet, raw

from streamer.embedded import EmbeddedRedis
from streamer.errors import SinkUnusable
from streamer.sinks.redis import RedisSink

Fault = Callable[[EmbeddedRedis], Any]  # a context manager: what is wrong is so as long as it lasts
CONFIG = {
    "appendonly": "yes",
    "appendfsync": "always",  # so that what was acknowledged survives being killed
    "key-load-delay": "50",  # microseconds a command, while it starts: so it can be met LOADING
    "lua-time-limit": "10",  # milliseconds until a script makes the server BUSY
}


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Fail what takes longer, also where it waits for a thread."""

    def over(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"still not over after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Feed:
    """Hands frames of one camera over, one after another, as long as the context lasts; what is refused, again."""

    def __init__(self, sink: RedisSink) -> None:
        self._sink, self._over = sink, threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.count = 0  # handed over: the frames 0 … count - 1

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.0005):
            with suppress(SinkUnusable):  # nothing of it was taken
                self._sink.publish([packet(self.count)])
                self.count += 1


def suffer(sink: RedisSink, witness: Witness, fault: Fault, server: EmbeddedRedis) -> list[float]:
    """Write through *fault* and a while beyond; return the `captured_at` of what was handed over."""
    with Feed(sink) as feed:
        eventually(lambda: len(witness.acknowledged) > 50, "the first results")
        with fault(server):
            eventually(lambda: any(FAULTS[fault] in str(state) for state in witness.states), FAULTS[fault])
            before = feed.count
            eventually(lambda: feed.count > before + 30 or not sink._outbox._drops, "going on")
        eventually(lambda: witness.states[-1] is None, "recovery")
        healed = len(witness.acknowledged)
        eventually(lambda: len(witness.acknowledged) > healed + 50, "new results")
    sink.close()
    return [AT + seq * 0.04 for seq in range(feed.count)]


# --- faults ---


@contextmanager
def killed(server: EmbeddedRedis) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def loading(server: EmbeddedRedis) -> Iterator[None]:
    """Restart it with so much data that it takes a while to read."""
    with raw(server.url) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(8_000):  # it looks up after every 1024
            pipeline.set(f"ballast:{number}", "")
        pipeline.execute()
    server.stop()
    server.start()
    yield


@contextmanager
def stopped(server: EmbeddedRedis) -> Iterator[None]:
    """Neither answer nor let go: what was sent is worked on later, when nobody waits for the replies any more."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def full(server: EmbeddedRedis) -> Iterator[None]:
    with raw(server.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        yield
        client.config_set("maxmemory", "0")


@contextmanager
def demoted(server: EmbeddedRedis) -> Iterator[None]:
    """Make a read-only replica of it, and promote it again."""
    with raw(server.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def lonely(server: EmbeddedRedis) -> Iterator[None]:
    """Make it want a replica to write to."""
    with raw(server.url) as client:
        client.config_set("min-replicas-to-write", "1")
        yield
        client.config_set("min-replicas-to-write", "0")


@contextmanager
def crowded(server: EmbeddedRedis) -> Iterator[None]:
    """Let nobody in any more."""
    with raw(server.url) as client:
        client.config_set("maxclients", "1")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
        client.config_set("maxclients", "100")


@contextmanager
def scripted(server: EmbeddedRedis) -> Iterator[None]:
    """Keep it BUSY with a script."""

    def loop() -> None:
        with raw(server.url) as client, suppress(redis.RedisError):  # it is killed
            client.eval("while true do end", 0)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    with raw(server.url) as client:
        yield
        client.script_kill()
    thread.join()


@contextmanager
def locked(server: EmbeddedRedis) -> Iterator[None]:
    """Ask for a password that was not needed before."""
    with raw(server.url.replace("://", "://:n3w@")) as client:
        with raw(server.url) as first:
            first.config_set("requirepass", "n3w")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        yield
        client.config_set("requirepass", "")


FAULTS: dict[Fault, str] = {  # and what the sink says then
    killed: "cannot be reached",
    loading: "loading the dataset in memory",
    stopped: "does not answer in time",
    full: "maxmemory",
    demoted: "read only replica",
    lonely: "NOREPLICAS",
    crowded: "max number of clients reached",
    scripted: "BUSY",
    locked: "refuses the user name or password",
}
