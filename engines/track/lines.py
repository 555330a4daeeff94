"""Lines that tracks cross: how often, and which way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engines.boxes import Rows
from engines.geometry import Size
from engines.track.kalman import Doubles
from engines.track.watch import WatchOptions, admit, feet, ids_of, sizes
from engines.types import Array, Bool, Detections

Direction = Literal["left_to_right", "right_to_left"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line from *a* to *b* in the image: where all values are at most 1, shares of width and height; else pixels.

    Left and right are those of somebody who stands at *a* and looks to *b*: of a line drawn upwards they are those of
    the picture, and of one drawn from left to right, left is above. Raises ValueError.
    """

    name: str
    a: tuple[float, float]  # x, y
    b: tuple[float, float]

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (*self.a, *self.b)):
            raise ValueError(f"line {self.name!r} has a point that is not finite: give x and y as plain numbers")
        if self.a == self.b:
            raise ValueError(f"line {self.name!r} begins where it ends, at {self.a}: give two different points")

    def ends(self, size: Size) -> Doubles:
        """Place the line (2, 2) in an image of *size* (height, width), in pixels."""
        points = np.array((self.a, self.b), np.float64)
        return points * np.array(size[::-1]) if points.max() <= 1 else points


@dataclass(frozen=True, slots=True)
class LineCrossed:
    """An object has crossed a line."""

    line: str
    track_id: int
    class_id: int
    pts: float  # seconds of media time
    direction: Direction


@dataclass(frozen=True, slots=True)
class LineCount:
    """How often a line has been crossed so far."""

    line: str
    left_to_right: int
    right_to_left: int


class LineCounter:
    """Count who crosses which line, of one camera.

    An object crosses where it stands: in the middle of the lower edge of its box. It has crossed once it is beyond the
    line by the margin, if it came from as far on the other side, and went between the ends of the line: whoever goes
    round an end is not counted, and who trembles on the line once at most. Where an object first appears within the
    margin, its side is not known before it leaves it.
    """

    def __init__(self, lines: Sequence[Line], options: WatchOptions | None = None) -> None:
        self._lines, self._options = tuple(lines), options or WatchOptions()
        count = len(self._lines)
        fields: list[Any] = [("track_id", np.int32), ("seen", np.float64), ("at", np.float64, (2,))]
        fields += [("side", np.int8, (count,)), ("between", np.bool_, (count,))]  # side: -1 left, 1 right, 0 not known
        self._known: Array = np.zeros(0, fields)
        self._counts = np.zeros((2, count), np.int64)

    @property
    def remembered(self) -> int:
        """How many tracks are remembered."""
        return len(self._known)

    @property
    def counts(self) -> tuple[LineCount, ...]:
        return tuple(
            LineCount(line.name, *counts) for line, counts in zip(self._lines, self._counts.T.tolist(), strict=True)
        )

    def reset(self) -> None:
        """Forget where objects were, as when a stream breaks; what was counted stays."""
        self._known = self._known[:0]

    def update(self, tracked: Detections, pts: float, size: Size) -> tuple[LineCrossed, ...]:
        """Tell who has crossed a line since the last frame; *size* (height, width) is that of the image.

        *pts* is media time in seconds. Raises ValueError when objects have no track ids.
        """
        ids = ids_of(tracked)
        if not self._lines:
            return ()
        self._known = self._known[(pts >= self._known["seen"]) & (pts - self._known["seen"] <= self._options.memory)]
        self._known, rows, new = admit(self._known, ids)
        before, crossed = self._known[rows], self._step(rows, new, tracked, size)
        self._known["seen"][rows] = pts
        rightward = before["side"] < 0
        self._counts += [(crossed & rightward).sum(0), (crossed & ~rightward).sum(0)]
        return tuple(
            LineCrossed(
                self._lines[j].name, int(ids[i]), int(tracked.class_id[i]), pts, _direction(bool(rightward[i, j]))
            )
            for i, j in np.argwhere(crossed)
        )

    def _step(self, rows: Rows, new: Bool, tracked: Detections, size: Size) -> Bool:
        """Move the tracks in *rows* (K,) to where they stand now, and tell which have crossed which line (K, L)."""
        ends = np.stack([line.ends(size) for line in self._lines])
        now = feet(tracked.xyxy)
        known = self._known[rows]
        then = np.where(new[:, None], now, known["at"])
        between = _passed_between(ends, then, now, known["between"])
        off = _beside(ends, now)
        settled = np.abs(off) > self._options.margin * sizes(tracked.xyxy)[:, None]
        side = np.where(settled, np.sign(off), known["side"]).astype(np.int8)
        self._known["at"][rows], self._known["side"][rows], self._known["between"][rows] = now, side, between
        crossed: Bool = (side * known["side"] < 0) & between
        return crossed


def _direction(rightward: bool) -> Direction:
    return "left_to_right" if rightward else "right_to_left"


def _beside(ends: Doubles, points: Doubles) -> Doubles:
    """How far points (K, 2) are beside lines (L, 2, 2) without end, in pixels: left is negative (K, L)."""
    along = ends[:, 1] - ends[:, 0]
    x, y = np.moveaxis(points[:, None] - ends[:, 0], 2, 0)
    out: Doubles = (along[:, 0] * y - along[:, 1] * x) / np.hypot(along[:, 0], along[:, 1])
    return out


def _passed_between(ends: Doubles, then: Doubles, now: Doubles, otherwise: Bool) -> Bool:
    """Tell who went from one side to the other between the ends of the line (K, L); *otherwise* where nobody did."""
    off, off_now = _beside(ends, then), _beside(ends, now)
    passed = (off > 0) != (off_now > 0)
    share = off / np.where(passed, off - off_now, 1)
    where = then[:, None] + share[..., None] * (now - then)[:, None] - ends[:, 0]
    along = ends[:, 1] - ends[:, 0]
    at = (where * along).sum(2) / (along**2).sum(1)
    out: Bool = np.where(passed, (at >= 0) & (at <= 1), otherwise)
    return out
