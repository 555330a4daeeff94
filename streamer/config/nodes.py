"""The kinds of nodes that a pipeline may have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from engines.boxes import NmsKind
from engines.manifest import Task
from engines.tiles import Tiling
from engines.types import Detections
from streamer.config.motion import Clips, Flow, Lines, Recognise, Track, Zones
from streamer.config.node import Node, ordinal
from streamer.config.pythonnode import Python
from streamer.config.shapes import Name, Point, Polygon
from streamer.config.values import Count, Fraction, Strict
from streamer.wire.facts import MaskForm

_SIDES = tuple("12345678")  # tiles in a row or a column: 64 of them are 64 times the work


def _grid(value: object) -> object:
    """Check "2x3". Raises ValueError; YAML itself reads 0x2 as a number."""
    rows, times, columns = str(value).partition("x") if isinstance(value, str) else ("", "", "")
    if not (times and rows in _SIDES and columns in _SIDES) or value == "1x1":
        raise ValueError(f"write tiles as rows and columns, from 1x2 or 2x1 to {_SIDES[-1]}x{_SIDES[-1]}, such as 2x2")
    return value


class Tiles(Strict):
    """Into which parts each frame is cut, so that small objects are large enough to be found."""

    grid: Annotated[str, BeforeValidator(_grid)]  # rows x columns
    overlap: Annotated[float, Field(ge=0, le=0.5)] = 0.2  # of neighbours, as a share of a tile's side
    whole: bool = True  # look at the whole frame as well, for what is larger than a tile

    def tiling(self) -> Tiling:
        grid = Tiling.parse(self.grid)
        return Tiling(grid.rows, grid.columns, self.overlap, self.whole)


def _short_form(value: object) -> object:
    """Read ``tiles: 2x2``."""
    return value if value is None or isinstance(value, dict | Tiles) else {"grid": _grid(value)}


class FindObjects(Node):
    """What nodes that find objects have in common; where the default is None, the manifest's is taken."""

    model: str  # a name that `streamer models list` shows, or the path of a manifest
    weights: Path | None = None  # the user's own file instead of the manifest's
    confidence: Fraction | None = None
    iou: Fraction | None = None  # of non-maximum suppression
    nms: NmsKind = "hard"
    agnostic: bool = False  # a box suppresses those of other classes too
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None  # labels to keep; None: all
    min_size: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # of a box's shorter side, in source pixels
    max_detections: Count = 300
    regions: Mapping[Name, Polygon] = {}  # only what stands in one of them is kept
    every: Count = 1  # look at each Nth frame of a camera, from its first on
    tiles: Annotated[Tiles | None, BeforeValidator(_short_form)] = None
    value: ClassVar[type] = Detections
    tasks: ClassVar[tuple[Task, ...]]  # what a model may be for

    def shapes(self) -> Mapping[str, tuple[Point, ...]]:
        return self.regions

    def summary(self) -> str:
        """Say for people what the node does: ``segment maskrcnn-r50, every 5th frame, tiles 2x2``."""
        often = [] if self.every == 1 else [f"every {ordinal(self.every)} frame"]
        tiles = [] if self.tiles is None else [f"tiles {self.tiles.grid}"]
        where = [f"in {', '.join(self.regions)}"] if self.regions else []
        return ", ".join([f"{self.kind} {self.model}", *often, *tiles, *where])


class Detect(FindObjects):
    """Find objects as boxes. A model that gives masks may be named; its masks are left out."""

    kind: Literal["detect"]
    tasks = ("detect", "segment")
    alone = "detect"


class Segment(FindObjects):
    """Find objects as boxes and masks."""

    kind: Literal["segment"]
    masks: MaskForm = "rle"  # how they are published
    tasks = ("segment",)
    alone = "segment"


class Truth(Node):
    """Tell what is truly there, of cameras that show a made-up world: synthetic://city."""

    kind: Literal["truth"]
    masks: MaskForm = "none"  # how masks travel
    value: ClassVar[type] = Detections
    numbered = True

    def summary(self) -> str:
        """Say for people what the node does."""
        return "the truth of synthetic://city"


NODES: dict[str, type[Node]] = {
    "detect": Detect,
    "segment": Segment,
    "flow": Flow,
    "track": Track,
    "lines": Lines,
    "zones": Zones,
    "clips": Clips,
    "recognise": Recognise,
    "python": Python,
    "truth": Truth,
}


def kind_for(task: Task) -> str | None:
    """Say which kind of node a model for *task* makes by itself; None where it takes other nodes as well."""
    return next((kind for kind, node in NODES.items() if node.alone == task), None)
