"""A pipeline file as a Python object: iterate over what it finds."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from streamer import build, config
from streamer.errors import InputError
from streamer.events import Observer, ResultsDropped
from streamer.health import Health
from streamer.mailbox import Closed
from streamer.service.service import Hosting, Service
from streamer.stats import Stats
from streamer.types import Packet, Port

log = logging.getLogger(__name__)
T = TypeVar("T")

_UNREAD = 16  # packets, each with its picture


class Tap:
    """The sink that a program reads: finished packets, in order, at most *capacity* of them unread.

    When *live*, the oldest unread make room, and are counted; otherwise `publish` waits until there is some.
    """

    name = "python"

    def __init__(self, capacity: int, observer: Observer, *, live: bool) -> None:
        self._capacity, self._observer, self._live = capacity, observer, live
        self._packets: deque[Packet] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def publish(self, packets: Sequence[Packet]) -> None:
        dropped: Counter[str] = Counter()
        for packet in packets:
            dropped.update(self._put(packet))
        for camera, count in dropped.items():
            self._observer(ResultsDropped(self.name, count, camera))

    def take(self) -> Packet:
        """Wait for the next packet. Raise Closed after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._packets or self._closed)
            if not self._packets:
                raise Closed
            self._changed.notify_all()
            return self._packets.popleft()

    def close(self) -> None:
        """Take no more; what is unread can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, packet: Packet) -> list[str]:
        """Add a packet; return the cameras of those that had to go for it, or of itself when nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._live or self._closed or len(self._packets) < self._capacity)
            if self._closed:
                return [packet.frame.camera]
            gone = [self._packets.popleft().frame.camera] if len(self._packets) >= self._capacity else []
            self._packets.append(packet)
            self._changed.notify_all()
            return gone


class Session:
    """A pipeline that runs while its `with` block does; inside, iterate over its finished packets.

        with Pipeline.from_yaml("detect.yaml") as p:
            for packet in p:
                print(packet.frame.camera, p.get(packet, "yolo"))

    Each camera's packets come in order. Of live cameras the oldest unread make room for new ones, and count as dropped
    by the sink "python"; recordings wait for whoever reads. The loop ends when every source has; an error of a stage is
    raised in it, as is that of a recording that failed. Leaving the block stops and closes everything. What the file
    publishes is published as well; it need not publish anything.
    """

    def __init__(self, settings: config.Pipeline, name: str = "python", unread: int = _UNREAD) -> None:
        """Open nothing yet. *unread* bounds the packets that wait. Raises InputError."""
        if not settings.cameras:
            raise InputError("the pipeline has no cameras; add one under 'cameras', or override cameras.NAME.url")
        self._unread = unread
        self._service = Service(settings, Hosting(name, tell=log.info, sinks=self._make_tap))
        self._tap: Tap | None = None
        self._error: BaseException | None = None
        self._raised = self._told = False
        self._thread = threading.Thread(target=self._run, name="pipeline", daemon=True)
        self._stack = ExitStack()

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = (), unread: int = _UNREAD) -> Self:
        """Read a pipeline file with *overrides* ("cameras.gate.url=…") laid over it. Raises InputError."""
        return cls(config.read(Path(path), overrides), Path(path).stem, unread)

    def __enter__(self) -> Self:
        """Open everything, and begin. Raises InputError, and when it is entered a second time."""
        if self._thread.ident is not None:
            raise InputError("this pipeline has run already; make another one")
        with ExitStack() as stack:
            stack.enter_context(self._service)
            stack.callback(self._end)
            self._thread.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything; raise what the loop has not raised, unless something else is on its way already."""
        self._stack.__exit__(kind, error, trace)
        if error is None:
            self._raise_what_went_wrong()

    def __iter__(self) -> Iterator[Packet]:
        tap = self._tap
        if tap is None:
            raise InputError("this pipeline is not open; iterate inside its with block")
        while True:
            try:
                packet = tap.take()
            except Closed:
                break
            yield packet
        self._raise_what_went_wrong()

    # --- what was found ---

    @cached_property
    def ports(self) -> Mapping[str, Port[Any]]:
        """The typed slot of each node in a packet: `packet.get(p.ports["yolo"])`."""
        return {stage.writes.node: stage.writes for stage in self._service.graph.stages}

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The class names of each node, by class id."""
        return self._service.graph.labels

    @overload
    def get(self, packet: Packet, node: str) -> Any: ...
    @overload
    def get(self, packet: Packet, node: str, kind: type[T]) -> T | None: ...

    def get(self, packet: Packet, node: str, kind: type[Any] | None = None) -> Any:
        """Return what *node* found in a packet, None where it did not look; with *kind*, checked to be of that type."""
        ports = self.ports
        if node not in ports:
            raise InputError(f"there is no node {node!r}; there are: {', '.join(ports)}")
        return packet.get(ports[node] if kind is None else Port(node, kind))

    # --- the cameras, and how they are doing ---

    @property
    def cameras(self) -> Mapping[str, config.Camera]:
        return self._service.cameras()

    def add(self, name: str, url: str = "", **settings: Any) -> None:
        """Add a camera, or put it in place of the one of its name: `p.add("gate", "rtsp://…", fps=5)`.

        *settings* are those that stand under `cameras` in a pipeline file. Raises InputError.
        """
        self._service.add(name, config.parse_camera(name, {"url": url, **settings}))

    def remove(self, name: str) -> None:
        """Take a camera out. Raises InputError."""
        self._service.remove(name)

    def pause(self, name: str) -> None:
        """Close the connection to a camera until it is resumed. Raises InputError."""
        self._service.pause(name)

    def resume(self, name: str) -> None:
        """Connect again to a camera that was paused. Raises InputError."""
        self._service.resume(name)

    def stats(self) -> Stats:
        """Say how everything is doing."""
        return self._service.stats()

    def health(self) -> Health:
        """Say whether anything hangs, and whether results flow."""
        return self._service.health()

    def stop(self) -> None:
        """Let every source end; the loop goes on to the last packet. Callable from any thread."""
        self._service.stop()

    # --- the thread ---

    def _make_tap(self, outlet: build.Outlet) -> Sequence[Tap]:
        self._tap = tap = Tap(self._unread, outlet.observer, live=outlet.live)
        return [tap]

    def _run(self) -> None:
        try:
            self._service.run()
        except BaseException as error:  # noqa: BLE001 - a thread's border: the loop raises it
            self._error = error
        finally:
            self._close_tap()

    def _end(self) -> None:
        """Nobody reads any more."""
        self._close_tap()
        self.stop()
        self._thread.join()

    def _close_tap(self) -> None:
        if self._tap is not None:
            self._tap.close()

    def _raise_what_went_wrong(self) -> None:
        error = self._error or next(iter(self._service.pipeline.failures.values()), None)
        self._tell_losses()
        if error is not None and not self._raised:
            self._raised = True
            raise error

    def _tell_losses(self) -> None:
        """Say once what recordings lack: the loop has just ended as if they were whole."""
        if self._told:
            return
        self._told = True
        for camera, stats in self.stats().cameras.items():
            if stats.lost:
                log.warning("%s: %d frames could not be decoded and are missing", camera, stats.lost)
