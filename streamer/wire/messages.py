"""Messages as their consumers see them: frozen, typed, and tolerant of what a newer producer adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
)

from streamer.notes import RESULTS
from streamer.wire.base import OTHER, Entry, Share, Wire, WireError, explain, kind_of, other_than
from streamer.wire.events import Events


class MaskRle(Wire):
    """A mask over the whole source image."""

    size: Annotated[tuple[PositiveInt, PositiveInt], Field(description="height and width in pixels")]
    counts: Annotated[str, Field(description="run lengths, compressed as COCO does it")]


Outline = Annotated[tuple[tuple[FiniteFloat, FiniteFloat], ...], Field(min_length=3)]


class Detection(Wire):
    """One object."""

    box: Annotated[
        tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat],
        Field(description="x1, y1, x2, y2 in pixels of the source image"),
    ]
    label: str
    class_id: int
    confidence: Share
    track_id: Annotated[int | None, Field(description="absent when nothing tracks")] = None
    mask: Annotated[MaskRle | None, Field(description="absent when nothing segments")] = None
    polygons: Annotated[
        tuple[Outline, ...] | None,
        Field(
            description="instead of a mask: outlines of its parts, x, y in pixels of the source image, holes left out"
        ),
    ] = None
    regions: Annotated[
        tuple[str, ...] | None,
        Field(description="names of the regions that it stands in; absent when the node has none"),
    ] = None


class DetectionsResult(Wire):
    """Objects found in the frame."""

    kind: Literal["detections"]
    items: tuple[Detection, ...]


class Magnitude(Wire):
    """Lengths of the flow vectors, in pixels of the source image."""

    mean: FiniteFloat
    p95: Annotated[FiniteFloat, Field(description="95th percentile")]


class Grid(Wire):
    """The flow averaged over cells of equal size."""

    size: Annotated[tuple[PositiveInt, PositiveInt], Field(description="rows and columns")]
    uv: Annotated[tuple[tuple[FiniteFloat, FiniteFloat], ...], Field(description="one u, v a cell, row by row")]


class FlowResult(Wire):
    """Motion since the frame before that was looked at, in pixels of the source image; absent after a break."""

    kind: Literal["flow"]
    seconds: Annotated[FiniteFloat | None, Field(description="between both frames")] = None
    mean: Annotated[tuple[FiniteFloat, FiniteFloat], Field(description="u, v averaged over the frame")]
    magnitude: Magnitude
    grid: Grid


class LabelScore(Wire):
    label: str
    score: Share


class Action(Wire):
    """What one clip shows."""

    track_id: Annotated[int | None, Field(description="absent when the clip is the whole frame")] = None
    first_seq: Annotated[NonNegativeInt, Field(description="seq of the clip's first frame")]
    last_seq: Annotated[NonNegativeInt, Field(description="seq of the clip's last frame")]
    labels: Annotated[tuple[LabelScore, ...], Field(description="the likeliest, best first")]


class ActionsResult(Wire):
    """Actions recognised at this frame; their scores are smoothed over time."""

    kind: Literal["actions"]
    items: tuple[Action, ...]
    events: Events = ()


class LineState(Wire):
    """How often a line has been crossed so far."""

    name: str
    left_to_right: NonNegativeInt
    right_to_left: NonNegativeInt


class LinesResult(Wire):
    """Lines that objects cross."""

    kind: Literal["lines"]
    items: tuple[LineState, ...]
    events: Events = ()


class Occupant(Wire):
    """An object in a zone."""

    track_id: int
    dwell: Annotated[FiniteFloat, Field(description="seconds since it came, until it was last seen")]


class ZoneState(Wire):
    """Who is in a zone, and how many came and went so far."""

    name: str
    occupants: Annotated[tuple[Occupant, ...], Field(description="by track_id; some may only be hidden")]
    entries: NonNegativeInt
    exits: NonNegativeInt


class ZonesResult(Wire):
    """Zones that objects stand in."""

    kind: Literal["zones"]
    items: tuple[ZoneState, ...]
    events: Events = ()


class OtherResult(BaseModel):
    """A note of somebody's own node, or a result that this version does not know; `data` holds its fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Annotated[str, other_than(RESULTS)]

    @property
    def data(self) -> Mapping[str, Any]:
        return self.model_extra or {}


def _tag(value: Any) -> str:
    kind = kind_of(value)
    return kind if kind in RESULTS else OTHER


Result = Annotated[
    Annotated[DetectionsResult, Tag("detections")]
    | Annotated[FlowResult, Tag("flow")]
    | Annotated[ActionsResult, Tag("actions")]
    | Annotated[LinesResult, Tag("lines")]
    | Annotated[ZonesResult, Tag("zones")]
    | Annotated[OtherResult, Tag(OTHER)],
    Discriminator(_tag),
]


class Message(Entry):
    """Everything found out about one frame of one camera."""

    size: Annotated[
        tuple[PositiveInt, PositiveInt], Field(description="width and height of the source image in pixels")
    ]
    results: Annotated[dict[str, Result], Field(description="by graph node, in graph order")]
    latency_ms: Annotated[
        dict[str, FiniteFloat],
        Field(description="milliseconds by step, waiting included; 'total' runs from the grab and is their sum"),
    ]


def decode(data: bytes | str) -> Message:
    """Read one message. Raise WireError when *data* is none, or of another schema version."""
    try:
        return Message.model_validate_json(data)
    except ValidationError as error:
        raise WireError(explain(error, "message")) from error
