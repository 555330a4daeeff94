"""A model's labels and a data set's categories: the same when they have the same name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_NO_CLASS = re.compile(r"background|n/?a|unused ?\d*", re.IGNORECASE)  # what fills the gaps of lists of labels


@dataclass(frozen=True, slots=True)
class Matching:
    """Which of a model's classes are which categories."""

    categories: Mapping[int, int]  # class -> category id
    foreign: tuple[str, ...]  # labels that the data set lacks
    unknown: tuple[str, ...]  # categories that the model has no label for


def match(labels: Sequence[str], categories: Mapping[int, str]) -> Matching:
    """Match labels and categories by name, whatever their case, spaces, hyphens and underscores.

    Raises ValueError when two categories have the same name, and when nothing matches.
    """
    named: dict[str, int] = {}
    for category, name in categories.items():
        if (twin := named.setdefault(_plain(name), category)) != category:
            raise ValueError(f"categories {twin} and {category} are both called {name!r}")
    matched = {i: named[_plain(label)] for i, label in enumerate(labels) if _plain(label) in named}
    if not matched:
        names = some(list(categories.values()))
        raise ValueError(f"no label of the model ({some(labels)}) is among the categories ({names})")
    foreign = tuple(name for i, name in enumerate(labels) if i not in matched and not _NO_CLASS.fullmatch(name))
    unknown = tuple(name for category, name in categories.items() if category not in set(matched.values()))
    return Matching(matched, foreign, unknown)


def some(names: Sequence[str], most: int = 5) -> str:
    """List a few names, and say how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
