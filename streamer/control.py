"""Control messages by Redis: add, remove, pause, resume and list the cameras of a pipeline that runs.

Whoever may publish on the channel `control` may point this machine at any URL or file that it can read. That is what
`control: false` of a Redis sink is for. A GStreamer pipeline is taken from the file alone: it can write files, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from streamer import config
from streamer.backoff import Backoff
from streamer.errors import InputError, SinkUnusable, StreamerError
from streamer.stats import CameraStats, Stats
from streamer.urls import redact
from streamer.wire.base import WireError
from streamer.wire.control import Answer, CameraInfo, Request, decode_request, encode, find_id
from streamer.wire.ids import Keys
from streamer.wire.link import Command, Link, LinkError, Refused, Timeouts, failure
from streamer.wire.subscription import Subscription

log = logging.getLogger(__name__)

_EXPIRES = 60  # seconds that an answer waits for whoever asked
_TIMEOUTS = Timeouts(connect=1.0, reply=1.0)
_BACKOFF = Backoff(0.2, 5.0)
_PATIENCE = 1.0  # seconds that the listener gets to end: it may just be connecting
_SHOWN = 100  # characters of what somebody sent that an answer repeats


class Controlled(Protocol):
    """What has cameras that may be changed; a `Service`. Raises InputError where it cannot be done."""

    def add(self, name: str, camera: config.Camera) -> None: ...
    def remove(self, name: str) -> None: ...
    def pause(self, name: str) -> None: ...
    def resume(self, name: str) -> None: ...
    def cameras(self) -> Mapping[str, config.Camera]: ...
    def stats(self) -> Stats: ...


class Desk:
    """Does what requests ask for, and answers under the pipeline's *name*."""

    def __init__(self, name: str, pipeline: Controlled) -> None:
        self._name, self._pipeline = name, pipeline

    def answer(self, message: bytes) -> Answer | None:
        """Return the answer to *message*; None when it is for another pipeline, or does not say where to answer."""
        try:
            request = decode_request(message)
        except WireError as error:
            return self._refuse(find_id(message), str(error))
        if request.pipeline not in (None, self._name):
            return None
        try:
            self._do(request)
            return Answer(id=request.id, pipeline=self._name, ok=True, cameras=self._cameras())
        except StreamerError as error:
            return self._refuse(request.id, "; ".join(str(error).splitlines()))
        except Exception:  # its fault must not end the listener, nor stay unknown
            log.exception("a control message could not be carried out")
            return self._refuse(request.id, f"{request.command} failed inside the pipeline; its log says more")

    def _do(self, request: Request) -> None:
        name = request.camera or ""
        match request.command:
            case "add":
                self._pipeline.add(name, _camera(name, request.settings))
            case "remove":
                self._pipeline.remove(name)
            case "pause":
                self._pipeline.pause(name)
            case "resume":
                self._pipeline.resume(name)
        if request.command != "list":
            log.info("control message: %s %s", request.command, name, extra={"camera": name})

    def _refuse(self, request: str | None, sentence: str) -> Answer | None:
        log.warning("a control message was refused: %s", redact(sentence))
        return None if request is None else Answer(id=request, pipeline=self._name, ok=False, error=redact(sentence))

    def _cameras(self) -> dict[str, CameraInfo]:
        stats = self._pipeline.stats().cameras
        return {name: _info(camera, stats.get(name)) for name, camera in self._pipeline.cameras().items()}


def _camera(name: str, settings: object) -> config.Camera:
    camera = config.parse_camera(name[:_SHOWN], settings)
    if camera.pipeline:
        raise InputError(f"cameras.{name}.pipeline: is taken from the pipeline file alone; write it there")
    return camera


def _info(camera: config.Camera, stats: CameraStats | None) -> CameraInfo:
    url = redact(camera.url) or "a GStreamer pipeline"
    if stats is None:
        return CameraInfo(url=url, state="paused" if camera.paused else "connecting")
    return CameraInfo(url=url, state=stats.state, error=stats.error, fps_in=stats.fps_in, fps_out=stats.fps_out)


@contextmanager
def listening(url: str, prefix: str, desk: Desk, backoff: Backoff = _BACKOFF) -> Iterator[None]:
    """Answer requests that come by the Redis at *url*, as long as the context lasts, however often it goes away.

    Raises SinkUnusable when *url* is none of Redis.
    """
    try:
        listener = _Listener(
            Subscription(url, Keys(prefix).control, _TIMEOUTS), Link(url, _TIMEOUTS), Keys(prefix), desk
        )
    except Refused as error:
        raise SinkUnusable(str(error)) from error
    thread = threading.Thread(target=listener.run, args=(backoff,), name="control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.stop()
        thread.join(_PATIENCE)


class _Listener:
    """One thread: it hears requests on one connection and answers them on another, one after the other."""

    def __init__(self, hearing: Subscription, speaking: Link, keys: Keys, desk: Desk) -> None:
        self._hearing, self._speaking, self._keys, self._desk = hearing, speaking, keys, desk
        self._over = threading.Event()
        self._failing = False

    def run(self, backoff: Backoff) -> None:
        delays = backoff.delays()
        while not self._over.is_set():
            try:
                self._hearing.subscribe()
                self._works()
                delays = backoff.delays()
                self._serve()
            except LinkError as error:
                self._fails(error)
                self._over.wait(next(delays))
        self._hearing.close()

    def stop(self) -> None:
        self._hearing.hang_up()
        self._over.set()  # last: after it, the connections may be closed at any moment

    def _serve(self) -> None:
        while (message := self._hearing.hear()) is not None:
            answer = self._desk.answer(message)
            if answer is not None:
                self._say(answer)

    def _say(self, answer: Answer) -> None:
        """Leave an answer where who asked looks for it; what cannot be left there is only logged.

        Over a connection made for it: one that has been idle may have been cut, and nobody noticed.
        """
        key = self._keys.answer(answer.id)
        commands: list[Command] = [("RPUSH", key, encode(answer)), ("EXPIRE", key, _EXPIRES)]
        try:
            for reply in self._speaking.pipeline(commands):
                if isinstance(reply, Exception):
                    raise failure(self._speaking.url, reply)
        except LinkError as error:
            log.warning("a control message could not be answered: %s", error)
        finally:
            self._speaking.close()

    def _fails(self, error: LinkError) -> None:
        if not self._failing:
            log.warning("control messages cannot be heard: %s; trying again", error)
        self._failing = True

    def _works(self) -> None:
        if self._failing:
            log.info("control messages can be heard again")
        self._failing = False
