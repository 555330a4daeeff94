"""Pairs of pictures of the world, with the motion between them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from engines.geometry import Size
from engines.train.data.pairs import FlowPair
from engines.world import USUAL, Conditions, World

HELD_OUT = 1_000_000  # from this seed on, worlds are never learnt from
_SECONDS = 1 / 30, 0.5  # between two pictures
_TIMES = 600.0  # seconds of a world that pictures are taken from
_LOAN = 48  # steps that a place in the batch keeps its world, for it takes long to paint one
_KEPT = 32
_FASTEST = 8.0  # of cameras: how many times as fast as usual
_SIZE = 640, 360  # width, height of what figures are taken of


class WorldPairs:
    """Pairs for each step, the same for the same seed."""

    def __init__(self, seed: int, size: Size) -> None:
        """Take pairs from pictures that are *size* or larger, and cut them to it."""
        self._seed, self._size = seed, size
        self._world = lru_cache(maxsize=_KEPT)(self._make)

    def pairs(self, step: int, place: int) -> tuple[FlowPair, FlowPair]:
        """Make a pair and, of the same two pictures, the one back; *place* tells those of a step apart."""
        rng = np.random.default_rng((self._seed, 22, step, place))
        world = self._world((step + 7 * place) // _LOAN, place)
        t = rng.uniform(1, _TIMES)
        since = math.exp(rng.uniform(math.log(_SECONDS[0]), math.log(_SECONDS[1])))
        one, other = world.at(t), world.at(t + since)
        known = np.ones(one.size, np.bool_)
        forth = FlowPair(one.image, other.image, world.between(one, other).uv, known)
        back = FlowPair(other.image, one.image, world.between(other, one).uv, known)
        return forth.cut(rng, self._size), back.cut(rng, self._size)

    def _make(self, number: int, place: int) -> World:
        rng = np.random.default_rng((self._seed, 23, number, place))
        height = int(self._size[0] * rng.uniform(1.0, 1.8))
        width = max(self._size[1], height * 16 // 9)
        seed, objects = int(rng.integers(HELD_OUT)), int(rng.integers(6, 20))
        camera = Conditions(pan=math.exp(rng.uniform(0, math.log(_FASTEST))))
        return World(seed, (width, height), objects, camera)


def held_out(count: int, seconds: float, conditions: Conditions = USUAL) -> list[FlowPair]:
    """Take a pair of pictures, *seconds* apart, from each of so many worlds that nothing has learnt from.

    Motion is known of what can be seen in both.
    """
    worlds = (World(HELD_OUT + number, _SIZE, conditions=conditions) for number in range(count))
    return [_pair(world, 5.0 + 7 * number, seconds) for number, world in enumerate(worlds)]


def _pair(world: World, t: float, seconds: float) -> FlowPair:
    one, other = world.at(t), world.at(t + seconds)
    uv, occluded = world.between(one, other)
    return FlowPair(one.image, other.image, uv, ~occluded)
