"""Images of the synthetic world, and all that is in them. Seeds below a million are never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from engines.train.data.augment import mirror
from engines.train.data.scene import Scene
from engines.world import CLASSES, Conditions, World

FIRST_TRAINED = 1_000_000  # the first seed of a world that is trained on; those below are for measuring
SIZE = (640, 360)  # width, height
VISIBLE = 0.3  # of an object's pixels: it is not looked for where less of it is seen

_SEEDS_APART = 50_000_000  # from one training's worlds to those of the next
_WORLDS, _TIMES = 8, 8  # that are looked at in turns: to make a new one costs as much as several looks
_LONG = 60.0  # seconds in which these lie: an object lives for a third of it, and is costly to paint
_HELD_OUT = 96  # worlds, one look each


def is_trained_on(seed: int) -> bool:
    """Tell whether a training may have seen the world of a seed."""
    return seed >= FIRST_TRAINED


class WorldScenes:
    """Endless images; a *seed* has worlds of its own.

    Most are made at half the size, with as much less noise and blur: it is what halving would leave, and is quicker.
    """

    labels = CLASSES

    def __init__(self, seed: int, held_out: int | None = None) -> None:
        self._first = FIRST_TRAINED + seed * _SEEDS_APART
        self._count = _HELD_OUT if held_out is None else held_out

    def learn(self, number: int) -> Scene:
        turn, place = divmod(number, _WORLDS * _TIMES)
        random = np.random.default_rng((self._first, number))
        return mirror(_seen(_world(self._first + turn * _WORLDS + place % _WORLDS), random.uniform(0, _LONG)), random)

    def calm(self, number: int) -> Scene:
        return self.learn(number)

    def held_out(self) -> Sequence[Scene]:
        return self._held_out

    @cached_property
    def _held_out(self) -> list[Scene]:
        return [_seen(World(seed, SIZE), 3.0 + seed % 7) for seed in range(self._count)]


@lru_cache(maxsize=2 * _WORLDS)
def _world(seed: int) -> World:
    random = np.random.default_rng((seed, 1))
    objects, strength = int(random.integers(4, 21)), float(random.uniform(0, 1.2))
    if random.random() < 0.25:
        return World(seed, SIZE, objects, Conditions(strength, strength))
    return World(seed, (SIZE[0] // 2, SIZE[1] // 2), objects, Conditions(strength / 2, strength / 2))


def _seen(world: World, t: float) -> Scene:
    found = world.at(t)
    return Scene(found.image, found.xyxy, found.class_id, found.visible < VISIBLE)
