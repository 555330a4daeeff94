"""A world with known truth: everything in it is a pure function of a seed and the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np

from engines.types import Image
from engines.world import patches as laid
from engines.world.affine import Affine, inverse
from engines.world.backgrounds import background
from engines.world.camera import Camera
from engines.world.catalogue import ACTIONS, IN_APPEARANCE
from engines.world.conditions import USUAL, Conditions, Film
from engines.world.lives import Life, Slot
from engines.world.motion import Layer, Motion, motion
from engines.world.patches import Patch
from engines.world.scene import Labels, Scene
from engines.world.sprites import Sprite, paint, side_for

_MOST = 200  # objects: they are numbered in 8 bits
_KEPT = 4  # lives and looks of as many generations are kept
_BEHIND = -1.0  # the depth of the ground


class World:
    """Textured objects that come, act and go before a textured ground, and a camera that looks at them.

    Any time from 0 on may be asked for, in any order: it takes as long, and gives the same. May be used from more than
    one thread.
    """

    def __init__(
        self, seed: int, size: tuple[int, int] = (640, 360), objects: int = 12, conditions: Conditions = USUAL
    ) -> None:
        """Choose a world by its *seed*, at least 0; *size* is (width, height) in pixels. Raises ValueError."""
        if not 0 <= objects <= _MOST or min(size) < 16 or seed < 0:
            raise ValueError(f"a world of {objects} objects (0 to {_MOST}), {size} pixels (16 or more), seed {seed}")
        self.seed, self.size = seed, (size[1], size[0])  # height, width, as everywhere
        self._camera = Camera.make(np.random.default_rng((seed, 0)), self.size, conditions.pan)
        self._slots = [Slot.make(seed, number, objects) for number in range(objects)]
        self._life = lru_cache(maxsize=_KEPT * max(objects, 1))(self._make_life)
        self._look = lru_cache(maxsize=_KEPT * max(objects, 1))(self._make_look)
        self._film = lru_cache(maxsize=1)(lambda: Film(seed, self.size, conditions))
        self._ground = lru_cache(maxsize=1)(self._make_ground)

    def at(self, t: float) -> Scene:
        """Say what is there at *t* seconds, and make its picture on demand. Raises ValueError for a time before 0."""
        if not 0 <= t < float("inf"):
            raise ValueError(f"the world begins at 0 seconds: there is no {t}")
        view = self.view(t)
        patches = [patch for life in self.alive(t) if (patch := self._patch(life, t, view)) is not None]
        patches.sort(key=_depth)
        return _scene(t, laid.number(patches, self.size), patches, lambda: self._painted(t, view, patches))

    def render(self, t: float) -> Image:
        """Make the picture of *t* seconds alone: read-only RGB (H, W, 3)."""
        return self.at(t).image

    def flow(self, t0: float, t1: float) -> Motion:
        """Say how what is seen at *t0* moves until *t1*."""
        return self.between(self.at(t0), self.at(t1))

    def between(self, before: Scene, after: Scene) -> Motion:
        """Say how what is seen in one scene of this world moves until another."""
        views = self.view(before.t), self.view(after.t)
        layers = [self._layer(track, (before.t, after.t), views) for track in before.track_id.tolist()]
        depths = [self._by_track(track).depth for track in after.track_id.tolist()]
        return motion(before, after.labels, layers, Layer(views[1] @ inverse(views[0]), _BEHIND), depths)

    def view(self, t: float) -> Affine:
        """Map the plane that objects move on, in units, to the picture, in pixels from the middle of the first."""
        return self._camera.at(t)

    def alive(self, t: float) -> list[Life]:
        """List the objects of a time, those out of sight too."""
        return [self._life(slot.number, slot.index(t)) for slot in self._slots]

    def _by_track(self, track: int) -> Life:
        index, number = divmod(track - 1, len(self._slots))
        return self._life(number, index)

    def _layer(self, track: int, times: tuple[float, float], views: tuple[Affine, Affine]) -> Layer:
        life = self._by_track(track)
        before, after = (view @ life.at(t).matrix for t, view in zip(times, views, strict=True))
        return Layer(after @ inverse(before), life.depth)

    def _patch(self, life: Life, t: float, view: Affine) -> Patch | None:
        pose = life.at(t)
        placed = view @ pose.matrix
        if not laid.in_sight(laid.bounds(life.class_id, placed), self.size):
            return None
        name = ACTIONS[pose.action]
        levels = self._look(life, name if name in IN_APPEARANCE else "")
        return laid.patch(life, pose.action, levels, placed, self.size)

    def _painted(self, t: float, view: Affine, patches: Sequence[Patch]) -> Image:
        ground, to_world = self._ground()
        image = np.asarray(cv2.warpAffine(ground, (view @ to_world)[:2], self.size[::-1]), np.uint8)
        laid.overlay(image, patches)
        return self._film().expose(image, t)

    # --- what is made once ---

    def _make_life(self, number: int, index: int) -> Life:
        return self._slots[number].live(index, self._camera.extent, self._camera.reach)

    def _make_look(self, life: Life, look: str) -> tuple[Sprite, ...]:
        side = side_for(life.largest * self._camera.unit * self._camera.largest_zoom)
        return paint(np.random.default_rng(life.seed), life.class_id, side, look)

    def _make_ground(self) -> tuple[Image, Affine]:
        """Paint all that may ever be seen of the ground, and map it to the world."""
        unit = self._camera.unit
        across, down = (int(np.ceil(2 * far * unit)) + 2 for far in self._camera.reach)
        image = background(np.random.default_rng((self.seed, 6)), (down, across), unit)
        to_world = np.array([[1 / unit, 0, -(across - 1) / 2 / unit], [0, 1 / unit, -(down - 1) / 2 / unit], [0, 0, 1]])
        return image, to_world


def _depth(patch: Patch) -> tuple[float, int]:
    return patch.life.depth, patch.life.track_id


def _scene(t: float, labels: Labels, patches: Sequence[Patch], painted: Callable[[], Image]) -> Scene:
    """Keep the objects of which a pixel is seen, and number the pixels by them alone."""
    found = [(patch, *laid.seen(labels, index, patch)) for index, patch in enumerate(patches, 1)]
    rows = [row for row, (_, _, count) in enumerate(found) if count]
    if len(rows) < len(found):
        table = np.zeros(256, np.uint8)
        table[np.array(rows, np.int64) + 1] = np.arange(1, len(rows) + 1)
        labels = np.asarray(cv2.LUT(labels, table), np.uint8)
    labels.flags.writeable = False
    kept = [found[row] for row in rows]
    return Scene(
        t,
        labels,
        xyxy=np.array([box for _, box, _ in kept], np.float32).reshape(-1, 4),
        whole=np.array([patch.whole for patch, _, _ in kept], np.float32).reshape(-1, 4),
        visible=np.array([count / patch.full for patch, _, count in kept], np.float32),
        class_id=np.array([patch.life.class_id for patch, _, _ in kept], np.int32),
        track_id=np.array([patch.life.track_id for patch, _, _ in kept], np.int32),
        action=np.array([patch.action for patch, _, _ in kept], np.int32),
        paint=painted,
    )
