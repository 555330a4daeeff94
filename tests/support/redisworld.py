"""What tests do to Redis, and how they look into it."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import redis

from engines.types import Detections
from streamer.backoff import Backoff
from streamer.events import Event, ResultsDropped, ResultsWritten, SinkState
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.types import Frame, Packet
from streamer.wire import Encoder, NodeFacts
from streamer.wire.link import Timeouts

AT = 1_790_000_000.0  # Unix seconds of frame 0; a frame takes 40 ms
QUICK: dict[str, Any] = {"backoff": Backoff(0.01, 0.05), "timeouts": Timeouts(connect=1.0, reply=1.0)}
PATIENCE = 15.0


def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {PATIENCE} s"
        time.sleep(0.005)


def packet(seq: int, camera: str = "gate", captured_at: float | None = None) -> Packet:
    """A frame with one person in it."""
    at = AT + seq * 0.04 if captured_at is None else captured_at
    frame = Frame(camera, seq, seq * 0.04, at, seq * 40_000_000, np.zeros((8, 16, 3), np.uint8))
    box = Detections(np.array([[1, 2, 3, 4]], np.float32), np.zeros(1, np.int32), np.array([0.5], np.float32))
    return Packet(frame, {"yolo": box})


encode = Encoder({"yolo": NodeFacts(("person",))})


class Witness:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def dropped(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for event in list(self.events):
            if isinstance(event, ResultsDropped):
                counts[event.camera] += event.count
        return counts

    @property
    def acknowledged(self) -> Counter[tuple[str, float]]:
        """How often each result, by camera and `captured_at`, was reported as written."""
        written = (event.results for event in list(self.events) if isinstance(event, ResultsWritten))
        return Counter((one.camera, one.captured_at) for results in written for one in results)

    @property
    def states(self) -> list[str | None]:
        return [event.error for event in list(self.events) if isinstance(event, SinkState)]


def sink(url: str, witness: Witness | None = None, **options: Any) -> RedisSink:
    return RedisSink(url, encode, RedisOptions(**{**QUICK, **options}), witness or Witness())


def lossless(url: str, witness: Witness | None = None, **options: Any) -> RedisSink:
    return RedisSink(url, encode, RedisOptions.lossless(**{**QUICK, **options}), witness or Witness())


def publish(url: str, seqs: Iterable[int], camera: str = "gate", **options: Any) -> None:
    """Write frames and wait until they are there."""
    writer = lossless(url, **options)
    writer.publish([packet(seq, camera) for seq in seqs])
    writer.close()


def raw(url: str) -> Any:
    """A plain client; its stubs say little, hence Any."""
    return redis.Redis.from_url(url)


def written(url: str, camera: str = "gate") -> list[str]:
    """The ids in a camera's stream, in order."""
    with raw(url) as client:
        return [entry.decode() for entry, _ in client.xrange(f"streamer:results:{camera}")]


def ids(seqs: Iterable[int]) -> list[str]:
    return [f"{round((AT + seq * 0.04) * 1000)}-{seq}" for seq in seqs]


class Proxy:
    """A TCP proxy that cuts its connections after so many bytes to the server, or from it."""

    def __init__(self, url: str, cuts: Iterable[int | None], replies: Iterable[int | None] = ()) -> None:
        """Each connection takes the next of *cuts* and of *replies* with it; after the last ones nothing is cut."""
        self._target = ("127.0.0.1", int(url.rsplit(":", 1)[1].split("/")[0]))
        self._cuts, self._replies = iter(cuts), iter(replies)
        self.asked = self.answered = 0  # bytes to the server, and from it
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._target)
                there, back = next(self._cuts, None), next(self._replies, None)
                threading.Thread(target=self._relay, args=(client, server, there), daemon=True).start()
                threading.Thread(target=self._relay, args=(server, client, back), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, budget: int | None) -> None:
        with suppress(OSError):  # the other direction has closed both
            while data := source.recv(65536):
                if target.getpeername() == self._target:
                    self.asked += len(data)
                else:
                    self.answered += len(data)
                if budget is not None:
                    target.sendall(data[:budget])
                    budget -= len(data)
                    if budget <= 0:
                        break
                else:
                    target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
