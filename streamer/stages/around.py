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

    @property
    def busy(self) -> float:
        """Seconds that what works beside the frames has been at its present piece of work; 0 when there is none."""
        busy: float = getattr(self._stage, "busy", 0.0)
        return busy

    def forget(self, camera: str) -> None:
        self._stage.forget(camera)

    def close(self) -> None:
        self._stage.close()
