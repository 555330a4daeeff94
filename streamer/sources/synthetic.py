"""Cameras that need nothing: shapes that drift over a ground, or a world of which everything is known."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np

from engines.types import Bool, Image
from engines.world import World as City
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.events import Observer
from streamer.sources.address import Address, SourceOptions, parse_url
from streamer.types import RawFrame

_SHAPES = 6
_GRAIN = 8  # pixels a side of the texture's coarse cells
_SLICE = 0.05  # seconds at most between two looks at whether to stop

Wait = Callable[[float], object]  # seconds -> true when it is time to stop: `threading.Event().wait` is one


def from_address(camera: str, address: Address, options: SourceOptions, observer: Observer) -> SyntheticSource:  # noqa: ARG001 - every factory is called alike
    """Make the camera that `synthetic://?size=640x360&fps=15&seed=1&frames=100&realtime=0` describes.

    `synthetic://city?objects=12&seed=7` shows `engines.world`; it takes the same settings.
    """
    return SyntheticSource(camera, spec_of(address))


def spec_of(address: Address) -> Spec:
    """Read what a synthetic camera is to show."""
    return Spec(scene="city" if address.target else "shapes", **address.settings)


def city_of(url: str) -> City | None:
    """Find the world that a camera's URL shows; None for any that is not synthetic://city. Raises ConfigError."""
    address = parse_url(url)
    return spec_of(address).city() if address.scheme == "synthetic" and address.target else None


class Filmed(Protocol):
    """What can be filmed: a pure function of time."""

    def render(self, t: float, /) -> Image: ...


@dataclass(frozen=True, slots=True)
class Spec:
    """What the camera shows and how it plays."""

    size: tuple[int, int] = (640, 360)  # width, height in pixels
    fps: float = 15.0
    seed: int = 1
    frames: int | None = None  # None: without end
    realtime: bool | None = None  # at its own speed, else as fast as it is read; None: when it has no end
    scene: Literal["shapes", "city"] = "shapes"
    objects: int = 12  # of a city

    @property
    def paced(self) -> bool:
        return self.frames is None if self.realtime is None else self.realtime

    @property
    def live(self) -> bool:
        """A camera that waits or ends is a recording."""
        return self.frames is None and self.paced

    def city(self) -> City:
        """Make the world that is filmed where the scene is a city."""
        return City(self.seed, self.size, self.objects)

    def filmed(self) -> Filmed:
        return self.city() if self.scene == "city" else World(self.seed, self.size)


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """A camera whose frame number i is what its world renders for i / fps, whenever and wherever it runs.

    It ends within 0.05 s after *wait* says stop; without one, a thread leaves it at its next frame.
    """

    camera: str
    spec: Spec
    clock: Clock = SYSTEM_CLOCK
    wait: Wait = time.sleep

    @property
    def live(self) -> bool:
        return self.spec.live

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        """Start again at time 0; pixels are painted only when they are asked for."""
        yield self._frames(self.spec.filmed())

    def _frames(self, world: Filmed) -> Iterator[RawFrame]:
        start = self.clock.monotonic_ns() / 1e9
        for index in itertools.count() if self.spec.frames is None else range(self.spec.frames):
            pts = index / self.spec.fps
            if self.spec.paced and not self._wait_until(start + pts):
                return
            yield RawFrame(pts, partial(world.render, pts))

    def _wait_until(self, due: float) -> bool:
        """Wait in short slices; return whether to go on."""
        while (left := due - self.clock.monotonic_ns() / 1e9) > 0:
            if self.wait(min(left, _SLICE)):
                return False
        return True


class World:
    """A background and shapes on it: a pure function of *seed*, *size* and time."""

    def __init__(self, seed: int, size: tuple[int, int]) -> None:
        """Paint the textures once; *size* is (width, height) in pixels."""
        rng = np.random.default_rng(seed)
        width, height = size
        self._background = _texture(rng, height, width, contrast=40)
        self._shapes = [_shape(rng, size) for _ in range(_SHAPES)]

    def render(self, t: float) -> Image:
        """Paint the world at *t* seconds as read-only RGB (H, W, 3)."""
        image = self._background.copy()
        for shape in self._shapes:
            shape.paint(image, t)
        image.flags.writeable = False
        return image


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A textured ellipse or rectangle that bounces between the edges of the picture."""

    texture: Image  # (h, w, 3)
    mask: Bool  # (h, w, 1)
    start: tuple[float, float]  # x, y of its top left corner at time 0, pixels
    velocity: tuple[float, float]  # pixels a second

    def paint(self, image: Image, t: float) -> None:
        """Draw the shape into *image* where it is at *t* seconds."""
        height, width = self.texture.shape[:2]
        x = _bounce(self.start[0] + self.velocity[0] * t, image.shape[1] - width)
        y = _bounce(self.start[1] + self.velocity[1] * t, image.shape[0] - height)
        np.copyto(image[y : y + height, x : x + width], self.texture, where=self.mask)


def _bounce(position: float, limit: int) -> int:
    """Fold a straight line into the range 0 to *limit*, as a mirror at either end would."""
    folded = position % (2 * limit) if limit else 0.0
    return round(min(folded, 2 * limit - folded))


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> Shape:
    width, height = (max(4, int(side * rng.uniform(0.1, 0.25))) for side in size)
    texture = _texture(rng, height, width, contrast=90)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    mask = x**2 + y**2 <= 1 if rng.random() < 0.5 else np.ones((height, width), np.bool_)
    start = rng.uniform(0, size[0]), rng.uniform(0, size[1])
    speed, angle = rng.uniform(0.05, 0.25) * size[0], rng.uniform(0, 2 * np.pi)
    return Shape(texture, mask[..., None], start, (speed * np.cos(angle), speed * np.sin(angle)))


def _texture(rng: np.random.Generator, height: int, width: int, contrast: int) -> Image:
    """Scatter coarse cells and fine grain around one colour: something for flow and codecs to hold on to."""
    colour = rng.integers(60, 196, 3)
    cells = rng.integers(-contrast, contrast, (-(-height // _GRAIN), -(-width // _GRAIN), 1))
    coarse = cells.repeat(_GRAIN, axis=0).repeat(_GRAIN, axis=1)[:height, :width]
    fine = rng.integers(-contrast // 4, contrast // 4, (height, width, 1))
    texture: Image = np.clip(colour + coarse + fine, 0, 255).astype(np.uint8)
    return texture
