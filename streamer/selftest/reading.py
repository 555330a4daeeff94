"""What a pipeline has published, read back as a consumer reads it, in the form that metrics take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engines.rle import Rle
from engines.types import Detections
from engines.world import CLASSES
from streamer import client
from streamer.selftest.films import Film, Footage
from streamer.wire import ActionsResult, DetectionsResult, FlowField, Message
from streamer.wire.link import Link

_CLASS = {name: index for index, name in enumerate(CLASSES)}
_UNKNOWN = -1  # a class that the world does not have
_PAGE = 500  # keys that are looked through at a time


@dataclass(frozen=True, eq=False)
class Reel:
    """What was published of one film, by frame."""

    footage: Footage
    all: tuple[Message, ...]  # in the order of their numbers
    fields: Mapping[str, FlowField]  # the newest of each flow node

    @cached_property
    def messages(self) -> Mapping[int, Message]:
        """By the frame that their media time names; those that the film does not have are left out."""
        return {index: each for each in self.all if 0 <= (index := self.film.index(each.pts)) < self.film.frames}

    @property
    def count(self) -> int:
        return len(self.all)

    @property
    def film(self) -> Film:
        return self.footage.film

    def objects(self, node: str) -> Iterator[tuple[int, DetectionsResult]]:
        """Go through what a node found, frame by frame; those that it did not look at are left out."""
        for index in sorted(self.messages):
            result = self.messages[index].results.get(node)
            if isinstance(result, DetectionsResult):
                yield index, result

    def actions(self, node: str) -> Iterator[tuple[int, ActionsResult]]:
        """Go through what a node recognised, frame by frame."""
        for index in sorted(self.messages):
            result = self.messages[index].results.get(node)
            if isinstance(result, ActionsResult):
                yield index, result


def read_back(url: str, prefix: str, footage: Sequence[Footage], flows: Sequence[str] = ()) -> tuple[Reel, ...]:
    """Read what was published of every film, and the newest field of each of the *flows*. Raises ClientError."""
    return tuple(_reel(url, prefix, each, flows) for each in footage)


def _reel(url: str, prefix: str, footage: Footage, flows: Sequence[str]) -> Reel:
    film = footage.film
    found = sorted(client.history(url, film.name, prefix=prefix), key=lambda message: message.seq)
    newest = {node: client.flow(url, film.name, node, prefix=prefix) for node in flows}
    return Reel(footage, tuple(found), {node: field for node, field in newest.items() if field is not None})


def detections(result: DetectionsResult) -> Detections:
    """Turn objects into columns; classes are those of the world, by their names."""
    items = result.items
    ids = [item.track_id for item in items if item.track_id is not None]
    return Detections(
        np.array([item.box for item in items], np.float32).reshape(-1, 4),
        np.array([_CLASS.get(item.label, _UNKNOWN) for item in items], np.int32),
        np.array([item.confidence for item in items], np.float32),
        np.array(ids, np.int32) if len(ids) == len(items) else None,
    )


def masks(result: DetectionsResult) -> tuple[Rle, ...] | None:
    """Take the masks of all objects; None where one has none."""
    found = [item.mask for item in result.items if item.mask is not None]
    return (
        tuple(Rle(each.size, each.counts.encode("ascii")) for each in found)
        if len(found) == len(result.items)
        else None
    )


def remove(url: str, prefix: str) -> None:
    """Remove every key that begins with *prefix*. Raises LinkError."""
    pattern = "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix) + "*"
    with Link(url) as link:
        cursor: bytes | int = 0
        while True:
            cursor, keys = link.call("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
            if keys:
                link.call("DEL", *keys)
            if not int(cursor):
                return
