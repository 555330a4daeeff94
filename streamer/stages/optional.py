"""A node that the pipeline can do without."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from traceback import extract_tb

from engines.errors import EngineError
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.events import Observer, WorkShed, ignore
from streamer.stages.around import Around
from streamer.stages.base import Overlapping, Stage
from streamer.types import Packet

log = logging.getLogger(__name__)

_REST_NS = 30_000_000_000  # between a fault and the next attempt: memory may be free again by then

Faults = tuple[type[Exception], ...]
ENGINE_FAULTS: Faults = (EngineError,)


def optional(
    stage: Stage, clock: Clock = SYSTEM_CLOCK, observer: Observer = ignore, bears: Faults = ENGINE_FAULTS
) -> Stage:
    """Make a stage one that the pipeline can do without, whatever of *bears* it raises."""
    kind = OverlappingOptional if isinstance(stage, Overlapping) else Optional
    return kind(stage, clock, observer, bears)


def said(error: Exception) -> str:
    """Say what came up, and where in somebody's own code: engines' sentences say all that themselves."""
    if isinstance(error, EngineError):
        return str(error)
    place = extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {error}{where}"


class Optional(Around):
    """Pass packets on without this node's value while it cannot work, and try again every half minute.

    Each packet that goes without is observed as `WorkShed`. Only *bears* is borne: what engines say of a model, or all
    that somebody's own code may raise; any other error is a bug and ends the pipeline as ever.
    """

    def __init__(
        self, stage: Stage, clock: Clock = SYSTEM_CLOCK, observer: Observer = ignore, bears: Faults = ENGINE_FAULTS
    ) -> None:
        super().__init__(stage)
        self._clock, self._observer, self._bears = clock, observer, bears
        self._resting_until: int | None = None

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return self._without(packets) if self._resting() else self._attempt(packets, self._stage.process)

    def forget(self, camera: str) -> None:
        try:
            super().forget(camera)
        except self._bears as error:
            self._rest(error)

    def _attempt(
        self, packets: Sequence[Packet], work: Callable[[Sequence[Packet]], Sequence[Packet]]
    ) -> Sequence[Packet]:
        try:
            return work(packets)
        except self._bears as error:
            self._rest(error)
            return self._without(packets)

    def _without(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        """Let packets go as they are, and say so."""
        for camera, count in Counter(packet.frame.camera for packet in packets).items():
            self._observer(WorkShed(self.writes.node, camera, count))
        return packets

    def _resting(self) -> bool:
        return self._resting_until is not None and self._clock.monotonic_ns() < self._resting_until

    def _rest(self, error: Exception) -> None:
        if not self._resting():  # what was under way when it failed fails as well
            log.warning("node %s rests for half a minute: %s", self.writes.node, said(error))
        self._resting_until = self._clock.monotonic_ns() + _REST_NS


class OverlappingOptional(Optional):
    """The same around a stage that can begin with packets while those before are still being worked on."""

    _stage: Overlapping

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets; while the node rests, they are given back as they are."""
        if self._resting():
            return lambda: self._without(packets)
        try:
            finish = self._stage.begin(packets)
        except self._bears as error:
            self._rest(error)
            return lambda: self._without(packets)
        return lambda: self._attempt(packets, lambda _: finish())  # what has begun is finished, come what may
