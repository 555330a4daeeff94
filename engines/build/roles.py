"""Which of a network's outputs is what, where there are several: told by their types, shapes and names.

Known without running anything, so that a head and a proposal read a file alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

_BOX = 4  # columns


@dataclass(frozen=True, slots=True)
class Told:
    """What a file says of an output; *shape* is None where not even its rank is known."""

    shape: tuple[int | None, ...] | None
    whole: bool = False  # its numbers are integers


@dataclass(frozen=True, slots=True)
class Finished:
    """Names of the outputs of a network that finds objects by itself, a row an object, of one image."""

    boxes: str
    labels: str
    scores: str
    masks: str | None


@dataclass(frozen=True, slots=True)
class Prototyped:
    """Names of the outputs of a network whose masks are sums of prototypes (N, *width*, h, w)."""

    columns: str  # (N, 4 + classes + width, A)
    prototypes: str
    width: int


def finished(outputs: Mapping[str, Told]) -> Finished | None:
    """Find boxes (K, 4), labels (K,), which are integers, scores (K,), and masks (K, 1, h, w) where there are some.

    An output of unknown rank is what it is called. None where one is missing, or could be either of two.
    """
    found = {
        role: [name for name, told in outputs.items() if (fits(told) if told.shape is not None else name == role)]
        for role, fits in _FINISHED.items()
    }
    if any(len(found[role]) != 1 for role in ("boxes", "labels", "scores")) or len(found["masks"]) > 1:
        return None
    return Finished(found["boxes"][0], found["labels"][0], found["scores"][0], next(iter(found["masks"]), None))


_FINISHED: dict[str, Callable[[Told], bool]] = {
    "boxes": lambda told: _rank(told) == 2 and not told.whole and _axis(told, 1) in (None, _BOX),
    "labels": lambda told: _rank(told) == 1 and told.whole,
    "scores": lambda told: _rank(told) == 1 and not told.whole,
    "masks": lambda told: _rank(told) == 4 and not told.whole and _axis(told, 1) in (None, 1),
}


def prototyped(outputs: Mapping[str, Told]) -> Prototyped | None:
    """Find the one pair of columns (N, 4 + classes + C, A) and prototypes (N, C, h, w)."""
    pairs = [
        Prototyped(columns, prototypes, width)
        for prototypes, maps in outputs.items()
        if _rank(maps) == 4 and (width := _axis(maps, 1)) is not None
        for columns, told in outputs.items()
        if _rank(told) == 3 and (rows := _axis(told, 1)) is not None and rows > _BOX + width
    ]
    return pairs[0] if len(pairs) == 1 else None


def _rank(told: Told) -> int:
    return -1 if told.shape is None else len(told.shape)


def _axis(told: Told, axis: int) -> int | None:
    return None if told.shape is None else told.shape[axis]
