"""A node that the pipeline can do without."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from engines.errors import EngineError
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.stages.around import Around
from streamer.stages.base import Overlapping, Stage
from streamer.types import Packet

log = logging.getLogger(__name__)

_REST_NS = 30_000_000_000  # between a fault and the next attempt: memory may be free again by then


def optional(stage: Stage, clock: Clock = SYSTEM_CLOCK) -> Stage:
    """Make a stage one that the pipeline can do without."""
    return OverlappingOptional(stage, clock) if isinstance(stage, Overlapping) else Optional(stage, clock)


class Optional(Around):
    """Pass packets on without this node's value while its model cannot run, and try again every half minute.

    Only what engines say of a model is borne; any other error is a bug and ends the pipeline as ever.
    """

    def __init__(self, stage: Stage, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(stage)
        self._clock = clock
        self._resting_until: int | None = None

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return packets if self._resting() else self._attempt(packets, lambda: self._stage.process(packets))

    def _attempt(self, packets: Sequence[Packet], work: Callable[[], Sequence[Packet]]) -> Sequence[Packet]:
        try:
            return work()
        except EngineError as error:
            self._rest(error)
            return packets

    def _resting(self) -> bool:
        return self._resting_until is not None and self._clock.monotonic_ns() < self._resting_until

    def _rest(self, error: EngineError) -> None:
        if not self._resting():  # what was under way when it failed fails as well
            log.warning("node %s rests for half a minute: %s", self.writes.node, error)
        self._resting_until = self._clock.monotonic_ns() + _REST_NS


class OverlappingOptional(Optional):
    """The same around a stage that can begin with packets while those before are still being worked on."""

    def __init__(self, stage: Overlapping, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(stage, clock)
        self._overlapping = stage

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets; while the node rests, they are given back as they are."""
        if self._resting():
            return lambda: packets
        try:
            finish = self._overlapping.begin(packets)
        except EngineError as error:
            self._rest(error)
            return lambda: packets
        return lambda: self._attempt(packets, finish)  # what has begun is finished, come what may
