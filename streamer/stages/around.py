"""What stages that wrap another have in common."""

from __future__ import annotations

from typing import Any

from streamer.stages.base import Stage
from streamer.types import Port


class Around:
    """Pass on to the stage within all that is not about packets."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return self._stage.reads

    @property
    def writes(self) -> Port[Any]:
        return self._stage.writes

    def forget(self, camera: str) -> None:
        self._stage.forget(camera)

    def close(self) -> None:
        self._stage.close()
