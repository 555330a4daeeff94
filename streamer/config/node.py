"""What every kind of node has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from engines.manifest import Task
from engines.yamlsource import Loc
from streamer.config.shapes import Point
from streamer.config.values import Strict

Fault = tuple[Loc, str]  # where in the node, and what is wrong


class Node(Strict):
    """What every kind of node has. *kind* picks the class from NODES."""

    kind: str
    optional: bool = False  # go on without this node while its model cannot be opened, or fails
    value: ClassVar[type]  # what the node writes
    numbered: ClassVar[bool] = False  # objects that it writes may have track ids
    alone: ClassVar[Task | None] = None  # the task of a model that makes such a node without any other

    def sources(self) -> Mapping[str, type]:
        """The nodes that this one reads, and what it expects of each."""
        return {}

    def faults(self, nodes: Mapping[str, Node]) -> Iterator[Fault]:  # noqa: ARG002 - for those that look around
        """Tell what is wrong with this node among the others."""
        return iter(())

    def shapes(self) -> Mapping[str, tuple[Point, ...]]:
        """Give the lines and polygons that the node lays over the image, by name."""
        return {}

    def summary(self) -> str:
        """Say for people what the node does."""
        return self.kind


def ordinal(number: int) -> str:
    """Write 2 as ``2nd``."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number // 10 % 10 == 1 else ending}"
