"""Images of the synthetic world, and all that is in them. Seeds below a million are never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np

from engines.geometry import Size
from engines.train.data.augment import mirror
from engines.train.data.scene import Random, Scene
from engines.world import CLASSES, Conditions, World
from engines.world import Scene as Truth

FIRST_TRAINED = 1_000_000  # the first seed of a world that is trained on; those below are for measuring
SIZE = (640, 360)  # width, height
HELD_OUT = 96  # worlds, one look each
VISIBLE = 0.3  # of an object's pixels: it is not looked for where less of it is seen

_SEEDS_APART = 50_000_000  # from one training's worlds to those of the next
_WORLDS, _TIMES = 8, 8  # that are looked at in turns: to make a new one costs as much as several looks
_WHOLE = 0.25  # of the worlds are made at their full size, whatever they are looked at in
_LEAST = 0.5  # of its size, that a world is made at
_LONG = 60.0  # seconds in which these lie: an object lives for a third of it, and is costly to paint


def is_trained_on(seed: int) -> bool:
    """Tell whether a training may have seen the world of a seed."""
    return seed >= FIRST_TRAINED


class Worlds:
    """Looks at worlds without end; a *seed* has worlds of its own, and none of those that are measured by.

    Most are made as small as a letterbox makes them, but not below half their size, with as much less noise and blur:
    it is what reducing them would leave, and is quicker.
    """

    def __init__(self, seed: int, held_out: int | None = None, size: Size = (0, 0)) -> None:
        """Hold out so many worlds, of which each is looked at once; networks look at them in *size* (height, width)."""
        self._first = FIRST_TRAINED + seed * _SEEDS_APART
        self._count = HELD_OUT if held_out is None else held_out
        self._scale = min(max(min(size[1] / SIZE[0], size[0] / SIZE[1]), _LEAST), 1.0)

    def look(self, number: int) -> tuple[Truth, Random]:
        """Give what is seen, and the random numbers that belong to it."""
        turn, place = divmod(number, _WORLDS * _TIMES)
        random = np.random.default_rng((self._first, number))
        world = _world(self._first + turn * _WORLDS + place % _WORLDS, self._scale)
        return world.at(random.uniform(0, _LONG)), random

    def held_out(self) -> Iterator[Truth]:
        return (World(seed, SIZE).at(3.0 + seed % 7) for seed in range(self._count))


class WorldScenes:
    """Endless images of worlds."""

    labels = CLASSES

    def __init__(self, seed: int, held_out: int | None = None, size: Size = (0, 0)) -> None:
        """See `Worlds`."""
        self._worlds = Worlds(seed, held_out, size)

    def learn(self, number: int) -> Scene:
        found, random = self._worlds.look(number)
        return mirror(_seen(found), random)

    def calm(self, number: int) -> Scene:
        return self.learn(number)

    def held_out(self) -> Sequence[Scene]:
        return self._held_out

    @cached_property
    def _held_out(self) -> list[Scene]:
        return [*map(_seen, self._worlds.held_out())]


@lru_cache(maxsize=2 * _WORLDS)
def _world(seed: int, scale: float) -> World:
    random = np.random.default_rng((seed, 1))
    objects, strength = int(random.integers(4, 21)), float(random.uniform(0, 1.2))
    if random.random() < _WHOLE:
        return World(seed, SIZE, objects, Conditions(strength, strength))
    size = round(SIZE[0] * scale), round(SIZE[1] * scale)
    return World(seed, size, objects, Conditions(strength * scale, strength * scale))


def _seen(found: Truth) -> Scene:
    return Scene(found.image, found.xyxy, found.class_id, found.visible < VISIBLE)
