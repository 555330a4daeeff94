"""How the world is looked at: a camera that pans, zooms and tilts a little, and never the same way twice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.geometry import Size
from engines.world.affine import Affine, similarity

_UNIT_SIZE = 360, 640  # of a picture whose pixels are units
_PAN, _ZOOM, _TILT = 36.0, 0.08, 0.02  # units, share, radians: at most, at a strength of 1
_MOST_ZOOM, _MOST_TILT = 0.35, 0.3  # at any


@dataclass(frozen=True, slots=True)
class Wave:
    """A smooth value between -2 and 2 that never repeats: two sines."""

    periods: tuple[float, float]  # seconds
    phases: tuple[float, float]

    @classmethod
    def make(cls, rng: np.random.Generator) -> Wave:
        return cls((rng.uniform(14, 25), rng.uniform(25, 45)), tuple(rng.uniform(0, 2 * math.pi, 2)))

    def at(self, t: float) -> float:
        return sum(math.sin(2 * math.pi * t / n + start) for n, start in zip(self.periods, self.phases, strict=True))


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the camera looks at a time."""

    size: Size  # of its pictures
    strength: float  # 1: as usual; 0: it stands still
    waves: tuple[Wave, Wave, Wave, Wave]  # x, y, zoom, tilt

    @classmethod
    def make(cls, rng: np.random.Generator, size: Size, strength: float) -> Camera:
        return cls(size, strength, (Wave.make(rng), Wave.make(rng), Wave.make(rng), Wave.make(rng)))

    @property
    def unit(self) -> float:
        """The pixels of a unit, where nothing is zoomed."""
        return min(side / of for side, of in zip(self.size, _UNIT_SIZE, strict=True))

    @property
    def extent(self) -> tuple[float, float]:
        """What is seen of the world from its middle, when the camera stands there: units across and down."""
        return self.size[1] / 2 / self.unit, self.size[0] / 2 / self.unit

    def at(self, t: float) -> Affine:
        """Map the world, in units, to the picture, in pixels."""
        x, y, zoom, tilt = (wave.at(t) / 2 for wave in self.waves)
        map_ = similarity(self.unit * (1 + self._zoom * zoom), self._tilt * tilt, 0, 0)
        dx, dy = map_[:2, :2] @ (-self._pan * x, -self._pan * y)
        map_[:2, 2] = dx + (self.size[1] - 1) / 2, dy + (self.size[0] - 1) / 2
        return map_

    @property
    def largest_zoom(self) -> float:
        return 1 + self._zoom

    @property
    def _pan(self) -> float:
        return _PAN * self.strength

    @property
    def _zoom(self) -> float:
        return min(_ZOOM * self.strength, _MOST_ZOOM)

    @property
    def _tilt(self) -> float:
        return min(_TILT * self.strength, _MOST_TILT)

    @property
    def reach(self) -> tuple[float, float]:
        """What may ever be seen of the world from its middle: units across and down."""
        across, down = self.extent
        aside, scale, far = math.sin(self._tilt), 1 / (1 - self._zoom), self._pan + 3
        return (across + down * aside) * scale + far, (down + across * aside) * scale + far
