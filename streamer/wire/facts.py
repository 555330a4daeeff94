"""What the wire and the drawing must know of a node besides its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engines.regions import Region
from engines.track.lines import Line

MaskForm = Literal["rle", "polygons", "none"]
FlowStyle = Literal["wheel", "arrows", "none"]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node: the names of its classes, how its masks travel, and what was drawn into the scene for it."""

    labels: tuple[str, ...] = ()
    masks: MaskForm = "rle"
    regions: tuple[Region, ...] = ()
    lines: tuple[Line, ...] = ()
    zones: tuple[Region, ...] = ()
    top: int = 5  # labels an action keeps
    field: bool = False  # of flow: the whole field is published beside its summary


NOTHING = NodeFacts()
