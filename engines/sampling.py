"""A few of many, evenly spread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def spread(items: Iterable[T], count: int) -> list[T]:
    """Choose up to *count* items, evenly spread, in order; the same of the same items.

    However many there are, no more than twice *count* are held. Raises ValueError for a count below one.
    """
    if count < 1:
        raise ValueError(f"{count} are none: ask for one or more")
    step, kept = 1, list[T]()
    for index, item in enumerate(items):
        if index % step == 0:
            kept.append(item)
        if len(kept) == 2 * count:
            step, kept = 2 * step, kept[::2]
    chosen = np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)
    return [kept[i] for i in chosen]
